"""Change one number of a model file after the other, answer documents with it in a forked process, print what happens.

Usage: ``python hostile_runs.py FOLDER SEED VARIANTS``, for so many variants of each tiny architecture. Each is also put
through what a trial run does. Prints a JSON list of [architecture, key, value, end of the trial, end of the answers];
an end is "done", "error" (an exception) or "ends" (the process ended by itself, never did, or took all memory).
"""

import contextlib
import json
import os
import resource
import sys
import warnings
from pathlib import Path

import numpy as np
from architecture_specs import SPECS, write_architecture
from gguf_bytes import ARR, BOOL, F32, I32, U32, take_apart
from inside import check_model, embedder, try_model
from kill_runs import finished, forked

from skmlmc import EmbeddingExtractor, PromptTemplate, StepwiseExtractor

TEXTS = ["They shout at us again, and nobody in the town knows what any of it is for.", "no"]
NUMBERS = (0, 1, 3, 64, 1000, 2**31 - 1, 2**32 - 1)
FLOATS = (0.0, -1.0, float("nan"), float("inf"), 1e30)
CPU_SECONDS, BYTES = 10, 1 << 33


def other_values(kind, value):
    """Values that a key might have by mistake or malice."""
    if kind in (U32, I32):
        return [n for n in {*NUMBERS, value + 1, 2 * value, value // 2} if n != value and (kind == U32 or n < 2**31)]
    if kind == F32:
        return FLOATS
    if kind == BOOL:
        return [not value]
    if isinstance(kind, tuple) and kind[1] in (U32, I32):
        one = [[n, *value[1:]] for n in NUMBERS[:-1]]
        return [*one, *([n] * len(value) for n in NUMBERS[:-1]), value[::-1], value[:-1]]
    return [[not flag for flag in value]] if kind == (ARR, BOOL) else []


def answer(path):
    if embedder(path) is not None:
        EmbeddingExtractor(path, pooling="mean", n_threads=1).fit().transform(TEXTS)
        return
    prompt = PromptTemplate(mode="plain")
    StepwiseExtractor(path, labels=["joy", "anger"], n_threads=1, max_labels=2, prompt=prompt).fit().transform(TEXTS)


def try_it(path):
    try_model(path, embeds=embedder(path) is not None)


def end_of(function, path):
    """Call a function of a path in a forked process, and say how that ends."""

    def work(pipe):
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 1))
        resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        warnings.simplefilter("ignore")
        try:
            function(path)
            os.write(pipe, b"done")
        except Exception:
            os.write(pipe, b"error")

    return finished(*forked(work))[1].decode() or "ends"


def variants(parts, arch, rng, n):
    """Yield (key, value) of `n` variants of a model, which is changed in place."""
    keys = {key: pair for key, pair in parts.keys.items() if key.startswith(f"{arch}.")}
    every = [(key, value) for key, pair in keys.items() for value in (*other_values(*pair), None)]
    for i in rng.choice(len(every), min(n, len(every)), replace=False):
        key, value = every[i]
        kind, old = parts.keys.pop(key)
        if value is not None:
            parts.set(key, kind, value)
        yield key, value
        parts.set(key, kind, old)


def main(folder, seed, n):
    path, rng, outcomes = Path(folder) / "variant.gguf", np.random.default_rng(int(seed)), []
    os.environ.update(SKMLMC_TRIAL="off", GGML_NO_BACKTRACE="1")
    for arch in sorted(set(SPECS) - {"chameleon"}):  # which ends the process in any case
        parts = take_apart(write_architecture(path, arch))
        for key, value in variants(parts, arch, rng, int(n)):
            with contextlib.suppress(ValueError):  # of another kind, says its header
                check_model(parts.write(path))
                outcomes.append([arch, key, str(value), end_of(try_it, path), end_of(answer, path)])
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main(*sys.argv[1:])
