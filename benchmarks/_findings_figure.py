"""The figure of benchmarks.findings: a panel a finding; what cannot be drawn is said in words."""

from __future__ import annotations

import textwrap

import numpy as np

from skmlmc.plots import SpikinessDisplay
from skmlmc.plots._canvas import BLUE, GREY, ORANGE

SEVERAL = "no answer has several labels"
COLUMNS = 4


def draw(result, steps, path):
    """Draw the panels that have something to show, and save them."""
    from matplotlib.figure import Figure

    tables = result["tables"]
    drawn = [panel for name, (panel, column, *_) in PANELS.items() if defined(tables[name], column)]
    n_rows = -(-(len(drawn) + 1) // COLUMNS)
    n_columns = -(-(len(drawn) + 1) // n_rows)
    figure = Figure(figsize=(4.25 * n_columns, 4.3 * n_rows), layout="constrained")
    axes = figure.subplots(n_rows, n_columns).ravel()
    SpikinessDisplay.from_predictions(steps, quantities="top1", ax=axes[0])
    axes[0].set_title("Spikiness: largest probability of a step", size=11)
    axes[0].legend(loc="lower left", fontsize=8)
    for ax, panel in zip(axes[1:], drawn, strict=False):
        panel(ax, tables)
        ax.spines[["top", "right"]].set_visible(False)
        ax.set_axisbelow(True)
        ax.title.set_size(11)
    for unused in axes[len(drawn) + 1 :]:
        unused.remove()
    figure.suptitle(f"How {result['model']} answers {result['data']}, {result['n_test']} documents", weight="bold")
    if words := not_drawn(tables):
        figure.supxlabel("\n".join(textwrap.wrap(words, 44 * n_columns)), size=10, color=GREY)
    figure.savefig(path, dpi=100)


def defined(found, column):
    """Rows of a table that have a value in the column."""
    return [k for k, value in enumerate(found[column]) if value is not None and not np.isnan(value)]


def not_drawn(tables):
    """Say which panels, and which bars of others, are left out, and why; nothing where all are there."""
    said: dict[str, list[str]] = {}
    for name, (_, column, title, key, why) in PANELS.items():
        found = tables[name]
        rows = defined(found, column)
        if not rows:
            said.setdefault(why, []).append(title)
        elif len(rows) < len(found[column]):
            left = [str(found[key][k]) for k in range(len(found[column])) if k not in rows]
            said.setdefault(why, []).append(f"{' and '.join(left)} in {title}")
    return "".join(f"Not drawn, as {why}: {', '.join(what)}. " for why, what in said.items()).rstrip()


def bars(ax, names, values, color=BLUE, offset=0.0, width=0.6, label=None, form="{:.2f}"):
    """Draw bars with their numbers."""
    drawn = ax.bar(np.arange(len(names)) + offset, values, width, color=color, label=label)
    ax.bar_label(drawn, [form.format(v) for v in values], size=8, padding=1)
    ax.set_xticks(range(len(names)), names)


def taken(found, rows):
    """Return a table with these rows only."""
    return {name: [values[k] for k in rows] for name, values in found.items()}


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
    found = taken(tables["answer_order"], defined(tables["answer_order"], "alphabetical"))
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
    found = taken(tables["probe_own_labels"], defined(tables["probe_own_labels"], "auc"))
    bars(ax, found["target"], found["auc"])
    ax.axhline(0.5, color=GREY, ls="--", lw=1)
    ax.set(title="Figure 7: probes on the first hidden state", ylabel="AUC (dashed: chance)", ylim=(0, 1.05))


def attention(ax, tables):
    """Table 6."""
    found = taken(tables["attention_to_labels"], defined(tables["attention_to_labels"], "per_token"))
    bars(ax, [name.replace(" ", "\n") for name in found["target"]], found["per_token"], form="{:.2g}")
    ax.set(title="Table 6: attention of later labels", ylabel="attention a token", yscale="log")


# Of each panel: the column that must have values, its name, the column with the names of its bars, why one is empty.
PANELS = {
    "second_ranked": (ranking, "not_next", "Table 4", "step", SEVERAL),
    "answer_lengths": (lengths, "share", "labels in an answer", "n_labels", "there is no answer"),
    "accuracy_by_step": (accuracy, "accuracy", "Figure 5", "step", SEVERAL),
    "multilabel_share": (sweep, "share_of_answers", "Figure 6", "share_of_demonstrations", "there is no answer"),
    "answer_order": (order, "alphabetical", "Table 7", "prompt order", SEVERAL),
    "probe_own_labels": (probes, "auc", "Figure 7", "target", "no label is in some of the answers and not in others"),
    "attention_to_labels": (attention, "per_token", "Table 6", "target", SEVERAL),
}
