"""The figure of benchmarks.findings: a panel a finding."""

from __future__ import annotations

import numpy as np

from skmlmc.plots import SpikinessDisplay
from skmlmc.plots._canvas import BLUE, GREY, ORANGE


def draw(result, steps, path):
    """Draw all panels and save them."""
    from matplotlib.figure import Figure

    tables = result["tables"]
    figure = Figure(figsize=(17, 8.6), layout="constrained")
    axes = figure.subplots(2, 4).ravel()
    SpikinessDisplay.from_predictions(steps, quantities="top1", ax=axes[0])
    axes[0].set_title("Spikiness: largest probability of a step", size=11)
    axes[0].legend(loc="lower left", fontsize=8)
    panels = (ranking, lengths, accuracy, sweep, order, probes, attention)
    for ax, panel in zip(axes[1:], panels, strict=True):
        panel(ax, tables)
        ax.spines[["top", "right"]].set_visible(False)
        ax.set_axisbelow(True)
        ax.title.set_size(11)
    figure.suptitle(f"How {result['model']} answers {result['data']}, {result['n_test']} documents", weight="bold")
    figure.savefig(path, dpi=100)


def bars(ax, names, values, color=BLUE, offset=0.0, width=0.6, label=None, form="{:.2f}"):
    """Draw bars with their numbers."""
    values = np.array(values, float)
    drawn = ax.bar(np.arange(len(names)) + offset, np.nan_to_num(values), width, color=color, label=label)
    ax.bar_label(drawn, ["–" if np.isnan(v) else form.format(v) for v in values], size=8, padding=1)
    ax.set_xticks(range(len(names)), names)
    if not len(names):
        ax.text(0.5, 0.5, "no answer of several labels", transform=ax.transAxes, ha="center", color=GREY)


def ranking(ax, tables):
    """Table 4."""
    found = tables["second_ranked"]
    names = [f"step {step}\nn = {n}" for step, n in zip(found["step"], found["transitions"], strict=True)]
    bars(ax, names, found["not_next"], BLUE, -0.2, 0.4, "is not the next one")
    bars(ax, names, found["never_generated"], ORANGE, 0.2, 0.4, "if not, never comes")
    ax.set(title="Table 4: the label ranked second", ylim=(0, 1.3), ylabel="share")
    ax.legend(fontsize=8, loc="upper center", ncols=2, frameon=False)


def lengths(ax, tables):
    """Draw how many labels answers have."""
    found = tables["answer_lengths"]
    bars(ax, found["n_labels"], found["share"])
    ax.set(title="Labels in an answer", xlabel="labels", ylabel="share of answers")


def accuracy(ax, tables):
    """Figure 5."""
    found = tables["accuracy_by_step"]
    names = [f"{step}\nn = {n}" for step, n in zip(found["step"], found["documents"], strict=True)]
    bars(ax, names, found["accuracy"])
    ax.set(title="Figure 5: right labels, by step", xlabel="step (answers of two labels or more)", ylabel="accuracy")


def sweep(ax, tables):
    """Figure 6."""
    found = tables["multilabel_share"]
    ax.plot([0, 1], [0, 1], color=GREY, ls="--", lw=1, label="in proportion")
    ax.plot(found["share_of_demonstrations"], found["share_of_answers"], "o-", color=BLUE, label="model")
    title = f"Figure 6: several labels, {found['documents'][0]} documents"
    ax.set(title=title, xlabel="share of demonstrations", ylabel="share of answers", ylim=(-0.03, 1.03))
    ax.legend(fontsize=8, frameon=False)


def order(ax, tables):
    """Table 7."""
    found = tables["answer_order"]
    names = [f"{name}\nn = {n}" for name, n in zip(found["prompt order"], found["answers"], strict=True)]
    bars(ax, names, found["alphabetical"], BLUE, -0.2, 0.4, "alphabetical")
    bars(ax, names, found["as the prompt"], ORANGE, 0.2, 0.4, "as the prompt")
    ax.plot(range(len(names)), found["by chance"], "_", color="black", ms=30)
    ax.plot([], [], "_", color="black", ms=10, label="by chance")
    ax.tick_params(axis="x", labelsize=8)
    ax.set(title="Table 7: order of answers", xlabel="order in the prompt", ylabel="share of answers", ylim=(0, 1.3))
    ax.legend(fontsize=8, loc="upper center", ncols=3, frameon=False)


def probes(ax, tables):
    """Figure 7."""
    found = tables["probe_own_labels"]
    bars(ax, found["target"], found["auc"])
    ax.axhline(0.5, color=GREY, ls="--", lw=1)
    ax.set(title="Figure 7: probes on the first hidden state", ylabel="AUC (dashed: chance)", ylim=(0, 1.05))


def attention(ax, tables):
    """Table 6."""
    found = tables["attention_to_labels"]
    bars(ax, [name.replace(" ", "\n") for name in found["target"]], found["per_token"], form="{:.2g}")
    ax.set(title="Table 6: attention of later labels", ylabel="attention a token")
    if found["target"]:
        ax.set_yscale("log")
