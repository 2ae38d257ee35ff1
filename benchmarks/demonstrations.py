"""Time a document after 10 and after 50 demonstrations, side by side.

python -m benchmarks.demonstrations --model model.gguf
"""

from __future__ import annotations

import argparse
import random
import statistics
import time

from skmlmc import PromptTemplate, StepwiseExtractor
from skmlmc._models.files import resolve_model
from skmlmc._models.loaded import load_model

WORDS = "the dog ran home and I was very happy to see that nobody cared about what happened yesterday".split()
LABELS = ["anger", "fear", "joy", "love", "sadness", "surprise", "hope"]


def sentence(rng, n):
    return " ".join(rng.choice(WORDS) for _ in range(n))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=None)
    parser.add_argument("--documents", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    rng = random.Random(0)
    texts = [sentence(rng, 25) for _ in range(args.documents)]
    shown = [(sentence(rng, 20), ["joy", "anger"] if k % 2 else ["fear"]) for k in range(50)]
    prompt = PromptTemplate(mode="plain")
    shared = {"labels": LABELS, "prompt": prompt}
    few, many = (StepwiseExtractor(args.model, demonstrations=shown[:k], **shared).fit() for k in (10, 50))
    model = load_model(resolve_model(args.model))
    seconds, tokens = {few: [], many: []}, {}
    for _ in range(args.repeats):
        for extractor in (few, many):
            extractor.transform(texts[:1])  # the prompt itself, and the threads
            before, start = model.decoded, time.perf_counter()
            extractor.transform(texts)
            seconds[extractor].append((time.perf_counter() - start) / len(texts))
            tokens[extractor] = (model.decoded - before) / len(texts)
    ratio = statistics.median(b / a for a, b in zip(seconds[few], seconds[many], strict=True))
    for name, extractor in (("10", few), ("50", many)):
        prefix = len(extractor._task().prepare(model).prefix)
        median = statistics.median(seconds[extractor])
        print(
            f"{name} demonstrations, prompt of {prefix} tokens: {median:.4f} s and {tokens[extractor]:.1f} tokens a "
            "document"
        )
    print(f"ratio of the times a document, median of {args.repeats}: {ratio:.3f}")


if __name__ == "__main__":
    main()
