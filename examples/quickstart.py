"""Label short messages with a language model on this computer, and look at how sure it is.

    pip install -e ".[demo]" && python examples/quickstart.py

The script shows ten of the messages in ``messages.csv`` to the model as demonstrations, lets it label messages that it
has not seen, prints what it says beside what three readers said, and draws its answers step by step into
``quickstart.png`` in the current folder.
"""

import csv
import textwrap
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from skmlmc import GGUFClassifier, MaxOverGenerations, PromptTemplate, StepwiseExtractor
from skmlmc.metrics import example_f1, l1_distance, nll

READERS = 3
SHOWN = 24  # the first messages may serve as demonstrations, the others are predicted
PROMPT = PromptTemplate(
    demonstration="{text}\nThe writer feels: {answer}\n\n", answer_format="list", wording="emotions", mode="plain"
)
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#5F5F5F"  # told apart by colour-blind eyes


def read_messages(path):
    """Return the texts, the label names and the share of readers that marked each label."""
    with open(path, newline="", encoding="utf-8") as file:
        names, *rows = csv.reader(file)
    counts = np.array([row[1:] for row in rows], dtype=float)
    return [row[0] for row in rows], names[1:], counts / READERS


def names_of(labels, chosen):
    return ", ".join(name for name, yes in zip(labels, chosen, strict=True) if yes) or "none"


def print_table(texts, labels, proba, share):
    print(f"\n{'message':40} {'predicted':20} {'most readers say':24}" + "".join(f"{x:>9}" for x in labels))
    for text, p, h in zip(texts, proba, share, strict=True):
        text = textwrap.shorten(text, 40, placeholder=" ...")
        print(f"{text:40} {names_of(labels, p >= 0.5):20} {names_of(labels, h > 0.5):24}", end="")
        print("".join(f"{x:9.2f}" for x in p))


def print_scores(rows, share):
    print(f"\n{'':34}{'NLL':>8}{'L1':>8}{'example-F1':>13}")
    for name, proba in rows.items():
        f1 = example_f1(share > 0.5, proba >= 0.5)
        print(f"{name:34}{nll(share, proba):8.2f}{l1_distance(share, proba):8.2f}{f1:13.2f}")
    print("NLL and L1 measure the distance to the readers' shares (lower is better); example-F1 compares label sets.")


def answer_of(steps):
    """Return the number of the label given at each step: the largest one not given before."""
    given = []
    for row in steps[~np.isnan(steps).any(axis=1)]:
        rest = row.copy()
        rest[given] = -1
        given.append(int(rest.argmax()))
    return given


def choose_documents(steps, n=4):
    """Return the first document of each different answer, then others in order, shortest answers first."""
    answers = [tuple(answer_of(document)) for document in steps]
    order = sorted(range(len(steps)), key=lambda i: (answers.index(answers[i]) != i, i))
    return sorted(order[:n], key=lambda i: len(answers[i]))


def draw_steps(ax, steps, names, n_columns):
    """Draw what the model could have said (rows) at each step (columns), and outline what it said."""
    given = answer_of(steps)
    values = steps[: len(given)].T
    ax.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (label, step), p in np.ndenumerate(values):
        text = f"{100 * p:.0f}" if p >= 0.005 else "·"
        weight = "bold" if given[step] == label else "normal"
        ax.text(step, label, text, ha="center", va="center", weight=weight, color="white" if p > 0.55 else "black")
    for step, label in enumerate(given):
        ax.add_patch(Rectangle((step - 0.48, label - 0.46), 0.96, 0.92, fill=False, lw=2.2, ec=ORANGE, clip_on=False))
    if len(given) < n_columns:
        ax.text(len(given) - 0.4, (len(names) - 1) / 2, "end of\nthe answer", va="center", color=GREY)
    ax.set_xticks(range(len(given)), [f"step {k + 1}\n{names[label]}" for k, label in enumerate(given)])
    ax.set_yticks(range(len(names)), names)
    ax.set_xlim(-0.5, n_columns - 0.5)
    ax.tick_params(length=0)
    ax.xaxis.tick_top()
    ax.spines[:].set_visible(False)


def draw_readout(ax, proba, share, threshold):
    """Draw each label's read-out as a bar, and the share of readers as a diamond."""
    rows = np.arange(len(proba))
    ax.barh(rows, proba, height=0.62, color=BLUE)
    ax.plot(share, rows, "D", color="white", mec="black", mew=1.4, ms=7, clip_on=False, zorder=3)
    ax.plot([threshold] * 2, [-0.5, len(proba) - 0.5], color=GREY, ls="--", lw=1.2)
    ax.set_xlim(0, 1)
    ax.set_ylim(len(proba) + 0.5, -0.5)
    ax.set_yticks(rows, [])
    ax.set_xticks([0, 0.5, 1], ["\n0", "read-out\n50", "\n100 %"])
    ax.tick_params(length=0)
    ax.xaxis.tick_top()
    ax.spines[["top", "right", "bottom"]].set_visible(False)
    ax.spines["left"].set_bounds(-0.5, len(proba) - 0.5)


def draw(path, texts, labels, steps, proba, share, threshold=0.5):
    names = [*labels, "none"]
    chosen = choose_documents(steps)
    n_columns = max(len(answer_of(steps[i])) for i in chosen)
    figure = Figure(figsize=(12, 8.8), layout="constrained")
    panels = figure.subfigures(2, 2, wspace=0.05, hspace=0.06).ravel()
    for panel, i in zip(panels, chosen, strict=True):
        left, right = panel.subplots(1, 2, width_ratios=[2.2, 1])
        draw_steps(left, steps[i], names, n_columns)
        draw_readout(right, proba[i], share[i], threshold)
        title = textwrap.fill(textwrap.shorten(f"“{texts[i]}”", 120, placeholder=" ...”"), 56)
        panel.suptitle(title, fontsize=12, weight="bold", x=0.02, ha="left")
    meaning = {
        "what the model says at this step (numbers: probability in %, a step sums to 100)": Rectangle(
            (0, 0), 1, 1, fc="none", ec=ORANGE, lw=2.2
        ),
        "read-out: the largest probability of the label at any step": Rectangle((0, 0), 1, 1, color=BLUE),
        "share of the readers who marked the label": Line2D(
            [], [], ls="", marker="D", color="white", mec="black", mew=1.4, ms=7
        ),
        "threshold: from here on the label is predicted": Line2D([], [], color=GREY, ls="--", lw=1.2),
    }
    figure.legend(meaning.values(), meaning.keys(), loc="outside lower center", ncols=2, frameon=False, fontsize=10.5)
    figure.savefig(path, dpi=110)


def main():
    texts, labels, share = read_messages(Path(__file__).with_name("messages.csv"))
    known, known_share, texts, share = texts[:SHOWN], share[:SHOWN], texts[SHOWN:], share[SHOWN:]

    settings = {"labels": labels, "prompt": PROMPT, "shots": 10, "demonstrations": "balanced", "random_state": 0}
    clf = GGUFClassifier(**settings)  # model=None: the SmolLM2 of 135 million parameters that the extra "demo" brings
    clf.fit(known, known_share)
    proba = clf.predict_proba(texts)
    print_table(texts, labels, proba, share)
    base_rate = np.tile(known_share.mean(axis=0), (len(texts), 1))
    print_scores({"the model": proba, "the base rate for every message": base_rate}, share)

    # The classifier's two halves: an extractor gives step distributions, an aligner reads probabilities out of them.
    steps = StepwiseExtractor(**settings).fit(known, known_share).transform(texts)
    draw("quickstart.png", texts, labels, steps, MaxOverGenerations().fit_transform(steps), share)
    print("\nquickstart.png shows four of the messages, step by step.")


if __name__ == "__main__":
    main()
