"""How the default number of threads does beside other programs: against one thread and all, and as load comes and goes.

    python -m benchmarks.busy --model model.gguf --name SmolLM2-135M

Starts the other programs itself, each a process that keeps one processor busy, and ends them; apart from them the
machine should have nothing to do. All that is compared runs in turn, round after round.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import date
from itertools import count
from pathlib import Path
from statistics import median

import joblib

from benchmarks._bench import command_of, read_json, table, write_json
from benchmarks._workload import extractors, sentences

BUSY = "import os, time\nwhile os.getppid() == {parent}:\n end = time.time() + 1\n while time.time() < end: pass"
AFTER = 20  # documents within which the speed should be back
HEAD = ["other processes", "default", "1 thread", "all threads", "default against the better", "slowest document"]


def make_parser():
    parser = argparse.ArgumentParser("python -m benchmarks.busy", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--name", default="model", help="what the tables call the model")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--others", type=int, nargs="+", default=[0, 1, 2, 4], help="busy processes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a turn, at least")
    parser.add_argument("--labels", type=int, default=7)
    parser.add_argument("--demonstrations", type=int, default=10)
    parser.add_argument("--threads", type=int, default=joblib.cpu_count(only_physical_cores=True), help="all of them")
    return parser


@contextmanager
def busy(n):
    """Keep `n` processors busy meanwhile; the processes end with this one, whatever ends it."""
    code = BUSY.format(parent=os.getpid())
    others = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(n)]
    try:
        time.sleep(0.5 if n else 0.0)
        yield
    finally:
        for other in others:
            other.kill()
        for other in others:
            other.wait()


class Runner:
    """Answers documents that it has not seen before, one after another."""

    def __init__(self, args):
        self._extractor = extractors(args.model, args)["steps"]
        self._texts = (sentences(1, 8, 30, seed=k)[0] + f" {k}" for k in count())

    def document(self, n_threads):
        """Seconds of one document."""
        self._extractor.set_params(n_threads=n_threads)
        text, start = [next(self._texts)], time.perf_counter()
        self._extractor.transform(text)
        return time.perf_counter() - start

    def turn(self, n_threads, seconds):
        """Seconds of each document of a turn."""
        self.document(n_threads)
        times = []
        while sum(times) < seconds:
            times.append(self.document(n_threads))
        return times


def beside(runner, args, n):
    """Documents a second by default, with one thread and with all, beside `n` busy processes."""
    ways = {"default": None, "one": 1, "all": args.threads}
    times = {way: [] for way in ways}
    with busy(n):
        for k in range(args.rounds):
            for way in list(ways)[:: -1 if k % 2 else 1]:
                times[way] += runner.turn(ways[way], args.seconds)
    rates = {way: len(seconds) / sum(seconds) for way, seconds in times.items()}
    ratio = rates["default"] / max(rates["one"], rates["all"])
    return {"others": n, **rates, "ratio": ratio, "slowest": max(times["default"])}


def comes_and_goes(runner, args, n):
    """Seconds of the slowest document as load comes, and the speed after it has gone, against that before it came."""
    ratios, back, slowest = [], [], []
    for _ in range(args.rounds):
        before = runner.turn(None, args.seconds)
        idle = len(before) / sum(before)
        with busy(n):
            slowest.append(max(runner.turn(None, 2 * args.seconds)))
        first = [runner.document(None) for _ in range(AFTER)]
        then = [runner.document(None) for _ in range(AFTER)]
        ratios.append(AFTER / sum(then) / idle)
        back.append(next((k for k in range(AFTER) if (AFTER - k) / sum(first[k:]) >= 0.9 * idle), AFTER))
    return {"others": n, "ratio": median(ratios), "documents": median(back), "slowest": median(slowest)}


def write(result, path):
    """Write JSON and Markdown."""
    write_json(Path(f"{path}.json"), result)
    cells = [
        [str(r["others"]), *(f"{r[k]:.2f}" for k in ("default", "one", "all", "ratio")), f"{r['slowest']:.2f} s"]
        for r in result["rows"]
    ]
    lines = [
        f"# {result['model']} beside other programs",
        "",
        f"    {result['command']}",
        "",
        f"{result['machine']}, {result['date']}. Documents a second, steps, over all rounds.",
        "",
        *table(HEAD, cells),
        "",
        *(
            f"* {r['others']} others come: slowest document {r['slowest']:.2f} s; {AFTER} documents after they have "
            f"gone: {r['ratio']:.2f} of the speed before, which is back after {r['documents']:g}"
            for r in result["changes"]
        ),
    ]
    Path(f"{path}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main(options=None):
    parser = make_parser()
    args = parser.parse_args(options)
    os.environ.pop("OMP_NUM_THREADS", None)  # it would be the default number
    runner, path = Runner(args), args.out / f"busy-{args.name}"
    result = {
        **read_json(Path(f"{path}.json")),
        "model": args.name,
        "command": command_of(parser, args),
        "machine": f"{platform.machine()}, {platform.system()}, {args.threads} threads",
        "date": str(date.today()),
        "rows": [],
        "changes": [],
    }
    for n in args.others:
        result["rows"].append(beside(runner, args, n))
        print(result["rows"][-1], flush=True)
    for n in [n for n in args.others if n]:
        result["changes"].append(comes_and_goes(runner, args, n))
        print(result["changes"][-1], flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    write(result, path)


if __name__ == "__main__":
    main()
