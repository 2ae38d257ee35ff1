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

from skmlmc import GGUFClassifier, MaxOverGenerations, PromptTemplate, StepwiseExtractor
from skmlmc.align import generated_labels
from skmlmc.metrics import example_f1, l1_distance, nll
from skmlmc.plots import StepsDisplay

READERS = 3
SHOWN = 24  # the first messages may serve as demonstrations, the others are predicted
PROMPT = PromptTemplate(
    demonstration="{text}\nThe writer feels: {answer}\n\n", answer_format="list", wording="emotions", mode="plain"
)


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


def choose_documents(steps, n=4):
    """Return the first document of each different answer, then others in order, shortest answers first."""
    answers = [tuple(answer[answer >= 0]) for answer in generated_labels(steps)]
    order = sorted(range(len(steps)), key=lambda i: (answers.index(answers[i]) != i, i))
    return sorted(order[:n], key=lambda i: len(answers[i])), max(len(answers[i]) for i in order[:n])


def draw(path, texts, labels, steps, proba, share):
    chosen, n_steps = choose_documents(steps)
    figure = Figure(figsize=(12, 8.8), layout="constrained")
    for panel, i in zip(figure.subfigures(2, 2, wspace=0.05, hspace=0.06).ravel(), chosen, strict=True):
        display = StepsDisplay(steps[i], labels=labels, proba=proba[i], y_true=share[i])
        display.plot(panel.subplots(1, 2, width_ratios=[2.2, 1]), sort=False, n_steps=n_steps)
        title = textwrap.fill(textwrap.shorten(f"“{texts[i]}”", 120, placeholder=" ...”"), 56)
        panel.suptitle(title, fontsize=12, weight="bold", x=0.02, ha="left")
    meaning = {
        "said": "what the model says at this step (numbers: probability in %, a step sums to 100)",
        "proba": "label probability, read out as the largest at any step",
        "y_true": "share of the readers who marked the label",
        "threshold": "threshold: from here on the label is predicted",
    }
    handles = [display.legend_handles_[key] for key in meaning]
    figure.legend(handles, meaning.values(), loc="outside lower center", ncols=2, frameon=False, fontsize=10.5)
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
