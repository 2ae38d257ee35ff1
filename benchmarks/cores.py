"""Threads against processes: documents a second of one model, for each way to share out the processors.

    python -m benchmarks.cores --model model.gguf --name SmolLM2-135M

Processes are joblib's (``n_jobs=``), started and warm before anything is timed. Needs a machine with nothing else to
do.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from datetime import date
from pathlib import Path
from statistics import median

import joblib

from benchmarks._bench import command_of, table, write_json
from benchmarks._workload import extractors, sentences

HEAD = ["processes", "threads each", "documents/s", "against all threads of one"]


def make_parser():
    parser = argparse.ArgumentParser("python -m benchmarks.cores", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--name", default="model", help="what the tables call the model")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--cores", type=int, default=joblib.cpu_count(only_physical_cores=True))
    parser.add_argument("--processes", type=int, nargs="+", default=None, help="default: powers of two")
    parser.add_argument("--documents", type=int, default=64, help="of each process")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--labels", type=int, default=7)
    parser.add_argument("--demonstrations", type=int, default=10)
    parser.add_argument("--threads", type=int, default=None, help=argparse.SUPPRESS)
    return parser


def powers(most):
    """Powers of two up to a number, and the number."""
    return sorted({1 << k for k in range(most.bit_length()) if 1 << k <= most} | {most})


def rate(extractor, texts):
    """Documents a second."""
    start = time.perf_counter()
    extractor.transform(texts)
    return len(texts) / (time.perf_counter() - start)


def measure(args):
    """Rows of the table: one process with more and more threads, then all processors shared out otherwise."""
    made = extractors(args.model, args)["steps"]
    several = powers(args.cores)[1:] if args.processes is None else args.processes
    ways = [(1, n) for n in powers(args.cores)] + [(n, args.cores // n) for n in several]
    rows = []
    for jobs, threads in ways:
        made.set_params(n_jobs=jobs, n_threads=threads)
        made.transform(sentences(2 * jobs, 8, 30, seed=99))
        rates = [rate(made, sentences(jobs * args.documents, 8, 30, seed=k)) for k in range(args.rounds)]
        rows.append({"processes": jobs, "threads": threads, "rate": median(rates)})
        print(rows[-1], flush=True)
    made.set_params(n_jobs=1, n_threads=None).transform(sentences(8, 8, 30, seed=99))
    rates = [rate(made, sentences(args.documents, 8, 30, seed=k)) for k in range(args.rounds)]
    rows.append({"processes": 1, "threads": "default", "rate": median(rates)})
    whole = next(row["rate"] for row in rows if row["threads"] == args.cores)
    return [{**row, "ratio": row["rate"] / whole} for row in rows]


def main(options=None):
    parser = make_parser()
    args = parser.parse_args(options)
    os.environ.pop("OMP_NUM_THREADS", None)  # it would be the default number
    rows = measure(args)
    machine = f"{platform.machine()}, {platform.system()}, {args.cores} processors, {date.today()}"
    path = args.out / f"cores-{args.name}"
    args.out.mkdir(parents=True, exist_ok=True)
    command = command_of(parser, args)
    write_json(Path(f"{path}.json"), {"model": args.name, "command": command, "machine": machine, "rows": rows})
    cells = [[str(r["processes"]), str(r["threads"]), f"{r['rate']:.2f}", f"{r['ratio']:.2f}"] for r in rows]
    lines = [
        f"# {args.name}: threads against processes",
        "",
        f"    {command}",
        "",
        f"{machine}. Documents a second, steps, medians of {args.rounds} rounds.",
        "",
        *table(HEAD, cells),
    ]
    Path(f"{path}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
