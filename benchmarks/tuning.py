"""What was tried to make the engine fast: batch sizes, flash attention, cache types and threads, side by side.

    python -m benchmarks.tuning --model model.gguf --name SmolLM2-135M

Each variant answers the same documents step by step, in turn with the engine's own choice; the figures are medians of
the ratios of the documents a second.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from datetime import date
from pathlib import Path
from statistics import median

from benchmarks._bench import table, write_page
from benchmarks._workload import extractors, sentences
from skmlmc import clear_models
from skmlmc._engine import model as _engine
from skmlmc._models.files import resolve_model


class Variant:
    """The engine with other constants."""

    def __init__(self, n_ubatch=_engine.N_UBATCH, flash=False, **params):
        self.n_ubatch, self.flash, self.params = n_ubatch, flash, params

    def rate(self, extractor, texts):
        """Documents a second with a fresh context, the prompt being there."""
        clear_models()
        kept, made = _engine.N_UBATCH, _engine.Model._context_params

        def changed(model, settings):
            params = made(model, settings)
            params.flash_attn_type = int(self.flash)
            return params

        _engine.N_UBATCH, _engine.Model._context_params = self.n_ubatch, changed
        try:
            extractor.set_params(**{"kv_dtype": "float16", "n_threads": 2, "batch_size": 1, "n_jobs": 1, **self.params})
            extractor.transform(texts[:2])
            start = time.perf_counter()
            extractor.transform(texts)
            return len(texts) / (time.perf_counter() - start)
        finally:
            _engine.N_UBATCH, _engine.Model._context_params = kept, made


TRIED = {
    "one document a decode": {
        "flash attention": Variant(flash=True),
        "float32 cache": Variant(kv_dtype="float32"),
        "1 thread": Variant(n_threads=1),
    },
    "batch_size=16": {
        "32 tokens a decode": Variant(32, batch_size=16),
        "64 tokens a decode": Variant(64, batch_size=16),
        "128 tokens a decode": Variant(128, batch_size=16),
        "512 tokens a decode": Variant(512, batch_size=16),
        "flash attention": Variant(flash=True, batch_size=16),
    },
}
OWN = {"one document a decode": Variant(), "batch_size=16": Variant(batch_size=16)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=None)
    parser.add_argument("--name", default="model", help="what the tables call the model")
    parser.add_argument("--documents", type=int, default=48)
    parser.add_argument("--labels", type=int, default=7)
    parser.add_argument("--demonstrations", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    extractor, texts = extractors(str(resolve_model(args.model)), args)["steps"], sentences(args.documents, 8, 30)
    rows = []
    for mode, variants in TRIED.items():
        for name, variant in variants.items():
            ratios, own = [], []
            for _ in range(args.rounds):
                own.append(OWN[mode].rate(extractor, texts))
                ratios.append(variant.rate(extractor, texts) / own[-1])
            rows.append({"mode": mode, "tried": name, "ratio": round(median(ratios), 3), "own": round(median(own), 2)})
            print(rows[-1], flush=True)
    write(rows, args)


def write(rows, args):
    """Write JSON and Markdown."""
    machine = f"{platform.machine()}, {platform.system()}, {args.threads} threads, {date.today()}"
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / f"tuning-{args.name}.json"
    file.write_text(json.dumps({"model": args.name, "machine": machine, "rows": rows}, indent=1) + "\n")
    lines = [f"# Variants of the engine, {args.name}", ""]
    lines += [f"    python -m benchmarks.tuning --model MODEL.gguf --name {args.name}", "", machine + ".", ""]
    own = f"{_engine.N_UBATCH} tokens a decode at most, no flash attention, float16 cache"
    lines += [f"Documents a second against the engine's own choice ({own}), medians over rounds: {args.rounds}.", ""]
    head = ["mode", "tried", "against own choice", "own choice, documents/s"]
    lines += table(head, [(r["mode"], r["tried"], f"{r['ratio']:.2f}", f"{r['own']:.2f}") for r in rows])
    write_page(file, lines)


if __name__ == "__main__":
    main()
