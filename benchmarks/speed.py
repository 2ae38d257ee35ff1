"""Speed beside the limit, beside llama_cpp.Llama, CAPPr and no sharing at all: a table and a picture.

    pip install cappr==0.9.6
    python -m benchmarks.speed --model model.gguf --name SmolLM2-135M

Needs llama-cpp-python built without AMX, and a machine with nothing else to do. All that is compared runs in turn,
round after round; the figures are medians over rounds, of ratios within a round.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from statistics import median

from sklearn.base import clone

from benchmarks._peers import NoSharing, Peers, PromptSpeed
from benchmarks._speed_report import write_report
from benchmarks._workload import extractors, prepared, sentences, tokens_needed
from skmlmc._engine import model as _engine
from skmlmc._models.files import resolve_model
from skmlmc._models.loaded import load_model

PARTS = ["steps", "short", "long", "depth", "growth", "labels", "cache", "jobs", "memory"]
SHORT, LONG = (10, 18), (150, 190)  # words: about 20 and 200 tokens
STATES = {
    "layer=0.5, mean": {"layer": 0.5, "pooling": "mean"},
    "layer=[0.25, 0.5, 0.75], mean": {"layer": [0.25, 0.5, 0.75], "pooling": "mean"},
    "layer=None, last": {"layer": None, "pooling": "last"},
}


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=None)
    parser.add_argument("--name", default="model", help="what the tables call the model")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--documents", type=int, default=48)
    parser.add_argument("--labels", type=int, default=7)
    parser.add_argument("--demonstrations", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--growth", type=int, default=1000, help="documents of the long run")
    parser.add_argument("--memory", type=int, default=10_000, help="documents of the run whose memory is measured")
    parser.add_argument("--only", nargs="*", help=f"parts to run: {' '.join(PARTS)}")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


class Timer:
    """Times our own calls: documents and tokens a second, and the share of it outside llama.cpp."""

    def __init__(self, path):
        self.model, self._inside = load_model(resolve_model(path)), 0.0
        decode = _engine.C.llama_decode

        def timed(*args):
            start = time.perf_counter()
            try:
                return decode(*args)
            finally:
                self._inside += time.perf_counter() - start

        _engine.C.llama_decode = timed

    def __call__(self, extractor, texts, **params):
        """Transform with other parameters; the prompt and the threads are warm."""
        extractor.set_params(**{"batch_size": 1, "n_jobs": 1, **params})
        extractor.transform(texts[: extractor.batch_size])  # as many as need the whole context at once
        self._inside, before, start = 0.0, self.model.decoded, time.perf_counter()
        output = extractor.transform(texts)
        seconds = time.perf_counter() - start
        tokens = self.model.decoded - before
        return {
            "output": output,
            "rate": len(texts) / seconds,
            "tokens_per_second": tokens / seconds,
            "decoded": tokens + len(prepared(extractor).prefix),
            "outside": 1 - self._inside / seconds,
        }


def rate(call, extractor, texts):
    """Documents a second of a peer."""
    start = time.perf_counter()
    seconds = call(extractor, texts)
    return len(texts) / (seconds or time.perf_counter() - start)


class Bench:
    """One model."""

    def __init__(self, args):
        self.args, self.path = args, str(resolve_model(args.model))
        self.timer, self.limit = Timer(self.path), PromptSpeed(self.path, args.threads)
        self.rows, self.figures = [], {}
        self._peers = None

    def peers(self):
        """Return llama_cpp.Llama, loaded once, and the slow twin."""
        if self._peers is None:
            n_ctx = max(len(prepared(e).prefix) for e in extractors(self.path, self.args).values()) + 512
            self._peers = Peers(self.path, self.args.threads, n_ctx), NoSharing(self.path)
        return self._peers

    def add(self, name, values, **more):
        """Keep and print medians over rounds."""
        row = {"what": name, **{k: round(median(v), 4) for k, v in values.items()}, "rounds": self.args.rounds, **more}
        row["date"] = str(date.today())
        self.rows.append(row)
        print(row, flush=True)

    def compare(self, name, extractor, texts, few, peer):
        """Ours, in default mode and 16 at a time, beside the limit, a peer and no sharing."""
        own = ("rate", "share", "outside", "ratio_to_peer", "ratio_to_no_sharing")
        modes = {"default": {}, "batch_size=16": {"batch_size": 16}}
        seen = {mode: {key: [] for key in own} for mode in modes}
        theirs, alone, limits = [], [], []
        for _ in range(self.args.rounds):
            limits.append(self.limit())
            theirs.append(rate(peer, extractor, texts[:few]))
            alone.append(rate(self.peers()[1], extractor, texts[: max(1, few // 4)]))
            for mode, params in modes.items():
                got = self.timer(extractor, texts, **params)
                share, others = (
                    got["tokens_per_second"] / limits[-1],
                    (got["rate"] / theirs[-1], got["rate"] / alone[-1]),
                )
                for key, value in zip(own, (got["rate"], share, got["outside"], *others), strict=True):
                    seen[mode][key].append(value)
                if mode == "default":
                    excess = got["decoded"] / tokens_needed(extractor, texts, got["output"])
        tokens = got["decoded"] / len(texts)
        for mode, values in seen.items():
            self.add(
                f"{name}, {mode}", values, tokens_per_needed=round(excess, 4), tokens_per_document=round(tokens, 1)
            )
        peers = {"rate": theirs, "no_sharing_rate": alone, "prompt_speed": limits}
        self.add(f"{name}, peer", peers)

    def steps(self):
        """Step-wise answers against create_completion."""
        made = extractors(self.path, self.args)["steps"]
        texts = sentences(self.args.documents, 8, 30)
        self.compare("steps", made, texts, max(2, self.args.documents // 6), self.peers()[0].create_completion)

    def short(self):
        """Unary and pairs against CAPPr, on documents of about 20 tokens."""
        self.questions("short", sentences(self.args.documents // 2, *SHORT))

    def long(self):
        """Unary and pairs against CAPPr, on documents of about 200 tokens."""
        self.questions("long", sentences(self.args.documents // 6, *LONG))

    def questions(self, length, texts):
        """Unary and pairs against CAPPr."""
        made = extractors(self.path, self.args)
        for method, few in (("unary", 2), ("pairs", 1)):
            self.compare(f"{method}, {length} documents", made[method], texts, few, self.peers()[0].cappr)

    def depth(self):
        """Tokens a second of hidden states against prompt speed, the deeper the layer the fewer."""
        made = extractors(self.path, self.args)["states"]
        for length, texts in (
            ("short", sentences(self.args.documents, *SHORT)),
            ("long", sentences(self.args.documents // 6, *LONG)),
        ):
            for name, params in STATES.items():
                made = clone(made).set_params(**params).fit()
                seen = {"rate": [], "share": [], "outside": []}
                for _ in range(self.args.rounds):
                    limit, got = self.limit(), self.timer(made, texts)
                    for key, value in zip(
                        seen, (got["rate"], got["tokens_per_second"] / limit, got["outside"]), strict=True
                    ):
                        seen[key].append(value)
                self.add(f"hidden states, {name}, {length} documents", seen)

    def growth(self):
        """Seconds a document of a long run against those of its first hundredth."""
        made, ratios = extractors(self.path, self.args)["steps"], []
        few = sentences(max(1, self.args.growth // 10), 8, 30)
        many = [f"{text} {k}" for k in range(10) for text in few]
        for _ in range(max(1, self.args.rounds // 2)):
            first, whole = self.timer(made, [f"{t} 0" for t in few])["rate"], self.timer(made, many)["rate"]
            ratios.append(first / whole)
        self.figures["growth"] = median(ratios)

    def labels(self):
        """Seconds a document with four times as many labels, same prompt length apart from their names."""
        few, many = (extractors(self.path, self.args, n)["steps"] for n in (self.args.labels, 4 * self.args.labels))
        texts, ratios = sentences(self.args.documents, 8, 30), []
        for _ in range(self.args.rounds):
            ratios.append(self.timer(few, texts)["rate"] / self.timer(many, texts)["rate"])
        self.figures["28_labels_against_7"] = median(ratios)

    def cache(self):
        """Seconds of a first run against a second one with the cache."""
        texts, ratios = sentences(200, 8, 30), []
        for _ in range(2):
            with tempfile.TemporaryDirectory() as folder:
                made = extractors(self.path, self.args)["steps"].set_params(memory=folder)
                first = self.timer(made, texts)["rate"]
                ratios.append(self.timer(made, texts)["rate"] / first)
        self.figures["cached_second_run"] = median(ratios)

    def jobs(self):
        """Two processes of one thread against one process with two."""
        made, texts, ratios = extractors(self.path, self.args)["steps"], sentences(4 * self.args.documents, 8, 30), []
        for _ in range(self.args.rounds):
            two = self.timer(made.set_params(n_threads=1), texts, n_jobs=2)["rate"]
            ratios.append(two / self.timer(made.set_params(n_threads=self.args.threads), texts)["rate"])
        self.figures["n_jobs_2_against_2_threads"] = median(ratios)

    def memory(self):
        """Peak resident memory over the file size, in a process of its own."""
        run = "from benchmarks.speed import main; main()"
        # scikit-learn loads pandas where it is installed, and tests for it by importing.
        codes = {
            "memory_over_file_mb": f"import sys; sys.modules['pandas'] = None; {run}",
            "memory_with_pandas_mb": run,
        }
        for name, code in codes.items():
            documents = self.args.memory if name == "memory_over_file_mb" else 100
            options = ["--model", self.path, "--threads", str(self.args.threads), "--peak", str(documents)]
            done = subprocess.run([sys.executable, "-c", code, *options], capture_output=True, text=True, check=True)
            self.figures[name] = (int(done.stdout.split()[-1]) - Path(self.path).stat().st_size) / 1e6


def print_peak(args):
    """Print the peak resident memory, in bytes, of a process that answers that many short documents."""
    import resource

    extractors(args.model, args)["steps"].set_params(batch_size=16).transform(sentences(args.peak, 3, 6))
    scale = 1 if sys.platform == "darwin" else 1024
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale)


def main():
    args = parse()
    if args.peak:
        print_peak(args)
        return
    bench = Bench(args)
    file = args.out / f"speed-{args.name}.json"
    old = json.loads(file.read_text()) if file.exists() else {"rows": [], "figures": {}}
    for part in args.only or PARTS:
        getattr(bench, part)()
        print(bench.figures, flush=True)
        kept = [{"date": old.get("date"), **row} for row in old["rows"]]
        new = {row["what"]: row for row in [*kept, *bench.rows]}
        result = {
            "model": args.name,
            "machine": f"{platform.machine()}, {platform.system()}, {args.threads} threads",
            "date": str(date.today()),
            "settings": {k: getattr(args, k) for k in ("documents", "labels", "demonstrations", "memory")},
            "rows": list(new.values()),
            "figures": {**old["figures"], **{k: round(v, 4) for k, v in bench.figures.items()}},
        }
        write_report(result, file)


if __name__ == "__main__":
    main()
