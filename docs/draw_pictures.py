"""Draw the pictures of "How it works" into docs/pictures.

python docs/draw_pictures.py draws them from the numbers in docs/pictures/measured.json;
python docs/draw_pictures.py --measure first measures these on the embedded model, in about a minute.
"""

import argparse
import csv
import datetime
import json
import platform
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "pictures"
NUMBERS = FOLDER / "measured.json"
INK, SOFT, ORANGE, BLUE, GREEN = "#222222", "#d9d9d9", "#d95f02", "#3b6fb6", "#2a8a57"
STYLE = {"font.size": 11, "svg.hashsalt": "skmlmc", "axes.spines.top": False, "axes.spines.right": False}


def read_messages():
    """Return texts, labels and the share of readers for each label."""
    with open(ROOT / "examples" / "messages.csv", newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    return [row[0] for row in rows], header[1:], np.array([row[1:] for row in rows], dtype=float) / 3


def measure():
    """Ask the embedded model: one answer in full, and how far ways of batching are apart."""
    from skmlmc import GGUFClassifier, PromptTemplate, StepwiseExtractor
    from skmlmc.align import max_over_generations

    texts, labels, shares = read_messages()
    prompt = PromptTemplate(
        demonstration="{text}\nThe writer feels: {answer}\n\n", answer_format="list", wording="emotions", mode="plain"
    )
    given = {"labels": labels, "prompt": prompt, "shots": 10, "random_state": 0}
    asked, shown = texts[24:], (texts[:24], shares[:24])
    extractor = StepwiseExtractor(**given).fit(*shown)
    alone = extractor.transform(asked)
    together = StepwiseExtractor(**given, batch_size=16).fit(*shown).transform(asked)
    turned = extractor.transform(asked[::-1])[::-1]
    lengths = np.isfinite(np.asarray(alone)[:, :, 0]).sum(axis=1)
    several = np.flatnonzero(lengths >= 3)
    proba = max_over_generations(alone)
    chosen = int(several[np.argmin(np.abs(proba - shares[24:])[several].sum(axis=1))])  # not the worst of its answers
    methods = ["max_over_generations", "marginal_over_generations", "compare_to_none", "hard_predictions"]
    read = {m: GGUFClassifier(method=m, **given).fit(*shown).predict_proba([asked[chosen]])[0] for m in methods}
    # Of the first step alone: a later one depends on the label that was written before.
    apart = np.sort(np.abs(np.asarray(alone) - np.asarray(together))[:, 0].ravel())
    return {
        "model": "SmolLM2-135M-Instruct, Q4_1",
        "machine": f"{platform.machine()}, {platform.system()}",
        "date": datetime.date.today().isoformat(),
        "text": asked[chosen],
        "labels": labels,
        "readers": shares[24 + chosen].tolist(),
        "steps": np.asarray(alone)[chosen, : lengths[chosen]].round(4).tolist(),
        "read": {name: np.round(values, 4).tolist() for name, values in read.items()},
        "turned": float(np.nanmax(np.abs(np.asarray(alone) - np.asarray(turned)))),
        "documents": len(asked),
        "apart": [float(f"{value:.2e}") for value in apart],
    }


def draw_steps(numbers):
    """Draw one answer, and what four read-outs make of it."""
    labels, steps = numbers["labels"], np.array(numbers["steps"])
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.25])
    rows = [*labels, "none"]
    left.imshow(steps.T, cmap="Oranges", vmin=0, vmax=1, aspect="auto")
    for (r, column), value in np.ndenumerate(steps):
        left.text(r, column, f"{value:.2f}", ha="center", va="center", color="white" if value > 0.6 else INK, size=10)
    left.set_xticks(range(len(steps)), [f"step {r + 1}" for r in range(len(steps))])
    left.set_yticks(range(len(rows)), rows)
    left.set_title("What the model says, step by step", loc="left", size=12)
    left.tick_params(length=0)
    left.spines[:].set_visible(False)
    names, colours = list(numbers["read"]), [ORANGE, BLUE, GREEN, "#8a5a9e"]
    height = 0.8 / len(names)
    for k, name in enumerate(names):
        at = np.arange(len(labels)) + (k - (len(names) - 1) / 2) * height
        right.barh(at, numbers["read"][name], height, color=colours[k], label=name)
    right.plot(numbers["readers"], range(len(labels)), "D", color=INK, ms=6, label="three readers", zorder=3)
    right.set_yticks(range(len(labels)), labels)
    right.set_xlim(0, 1.02)
    right.invert_yaxis()
    right.set_title("One probability a label, by four read-outs", loc="left", size=12)
    figure.legend(loc="outside lower center", ncols=5, frameon=False, fontsize=9.5)
    figure.suptitle(f"“{numbers['text']}”", size=12, weight="bold", x=0.01, ha="left")
    return figure


def box(axes, x, y, width, text, colour, height=0.55):
    """Draw one stretch of tokens."""
    patch = FancyBboxPatch(
        (x, y), width, height, boxstyle="round,pad=0,rounding_size=0.08", fc=colour, ec="white", lw=1.5
    )
    axes.add_patch(patch)
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", size=10, color="white")


def draw_forest(numbers):
    """Draw what is decoded with and without sharing."""
    figure = Figure(figsize=(11, 5.2), layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=[1, 1])
    parts = [(7.0, "prompt: instruction and demonstrations", BLUE), (1.9, "document", ORANGE), (0.9, "question", GREEN)]
    for row in range(4):
        x, words = 0.0, (f"document {row // 2 + 1}", f"question {row % 2 + 1}")
        for (width, text, colour), name in zip(parts, (None, *words), strict=True):
            box(above, x, 3 - row * 0.75, width, name or text, colour)
            x += width
    above.set_title("Each question as a prompt of its own: everything is decoded again and again", loc="left", size=12)
    box(below, 0, 1.5, 7, parts[0][1], BLUE)
    for document in range(2):
        y = 2.25 - document * 1.5
        box(below, 7.15, y, 1.9, f"document {document + 1}", ORANGE)
        below.plot([7.0, 7.15], [1.78, y + 0.28], color=INK, lw=1)
        for question in range(2):
            at = y + 0.37 - question * 0.75
            box(below, 9.2, at, 1.15, f"question {question + 1}", GREEN)
            below.plot([9.05, 9.2], [y + 0.28, at + 0.28], color=INK, lw=1)
    below.set_title("The forest: every stretch of tokens is decoded once", loc="left", size=12)
    above.set(xlim=(-0.05, 10.5), ylim=(0.6, 3.8))
    below.set(xlim=(-0.05, 10.5), ylim=(0.2, 3.4))
    for axes in (above, below):
        axes.axis("off")
    return figure


def draw_noise(numbers):
    """Draw how far the same probabilities are apart in batches of 16."""
    apart = np.array(numbers["apart"])
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    axes = figure.subplots()
    lowest = 1e-8
    axes.hist(np.maximum(apart, lowest), np.logspace(-8, 0, 49), color=BLUE)
    axes.set_xscale("log")
    axes.axvline(1e-5, color=ORANGE, lw=2)
    top = axes.get_ylim()[1]
    axes.text(1.25e-5, top * 0.97, "1e-5: “exact”, with\nunquantised weights", color=ORANGE, va="top", size=10)
    axes.set_xlabel("difference of a probability between batch_size=1 and batch_size=16")
    axes.set_ylabel("probabilities")
    half, most = np.median(apart), apart.max()
    of = f"{len(apart)} probabilities of the first step, {numbers['documents']} documents, {numbers['model']}"
    alone = f"one document a decode, in the reverse order: largest {numbers['turned']:.0f}"
    axes.set_title(f"{of}\nmedian {half:.1g}, largest {most:.2f}; {alone}", loc="left", size=11)
    return figure


PROMPTED = ("the", "prompt", "a", "document", "Answer:")
ALONE = ("a", "document", "of", "words", "line break")
READS = (  # what is decoded, at which of its tokens states are read, at which depths
    ("linear_probe, by default", PROMPTED, {4}, {1.0}),
    ('linear_probe, layer=0.5, pooling="mean"', PROMPTED, {2, 3, 4}, {0.5}),
    ("stack: the document as a whole", ALONE, {0, 1, 2, 3, 4}, {0.25, 0.5, 0.75}),
    ("stack, in the same pass: behind the document", ALONE, {4}, {0.75, 1.0}),
)


def draw_layers(numbers):
    """Draw which hidden states are read."""
    figure = Figure(figsize=(10, 5), layout="constrained")
    axes = figure.subplots()
    for panel, (title, words, tokens, depths) in enumerate(READS):
        x0, y0 = (panel % 2) * 6.4, -(panel // 2) * 6.2
        axes.text(x0, y0 + 4.2, title, size=10.5)
        for token, word in enumerate(words):
            axes.text(x0 + token + 0.5, y0 - 0.25, word, ha="center", va="top", size=8.5)
            for layer in range(4):
                deep = (layer + 1) / 4
                computed = deep <= max(depths)
                face = ORANGE if token in tokens and deep in depths else "#e9e6df" if computed else "white"
                place = (x0 + token + 0.04, y0 + layer + 0.05)
                axes.add_patch(Rectangle(place, 0.92, 0.9, fc=face, ec="white" if computed else SOFT))
    axes.text(0, -7.8, "Upwards: the depth of the network, in quarters. Orange: read. White: not computed.", size=10)
    axes.set(xlim=(-0.2, 12), ylim=(-8.1, 4.9))
    axes.axis("off")
    return figure


PICTURES = {"steps": draw_steps, "forest": draw_forest, "noise": draw_noise, "layers": draw_layers}


def main(argv=None):
    """Measure if asked to, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="ask the embedded model again")
    if parser.parse_args(argv).measure:
        NUMBERS.write_text(json.dumps(measure(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    numbers = json.loads(NUMBERS.read_text(encoding="utf-8"))
    with mpl.rc_context(STYLE):
        for name, draw in PICTURES.items():
            draw(numbers).savefig(FOLDER / f"{name}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
