"""What a newcomer waits for: import, fit, the first document and the next one, each in a process of its own.

    python -m benchmarks.first_answer --model model.gguf --name SmolLM2-135M
    python -m benchmarks.first_answer --random 4B

The trial run of the model file, once for each computer, is told apart. ``--random`` writes a file of that shape with
random weights to a temporary folder; "cold" means that the system was told to forget what it keeps of the file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from statistics import median

from benchmarks._bench import machine, make_timing_parser, table, write_json
from skmlmc._models.files import resolve_model

LABELS = ["anger", "fear", "joy", "love", "sadness", "surprise", "hope"]
COLUMNS = {
    "import": "import",
    "fit": "fit",
    "first": "first document",
    "load": "of it: loading",
    "prefix": "of it: prompt",
    "next": "next document",
}
# Run in a new process: times each step, and of the first document what loads the file and what decodes the prompt.
RUN = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
start = time.perf_counter()
from skmlmc import GGUFClassifier
seen = {"import": time.perf_counter() - start}
path, labels = sys.argv[1], json.loads(sys.argv[2])
def timed(name, call):
    start = time.perf_counter()
    try:
        return call()
    finally:
        seen[name] = seen.get(name, 0.0) + time.perf_counter() - start
clf = GGUFClassifier(path, labels=labels)
timed("fit", clf.fit)
from skmlmc._engine import model as engine
load, prefix = engine._load, engine.Model._set_prefix
engine._load = lambda *args, **kwargs: timed("load", lambda: load(*args, **kwargs))
engine.Model._set_prefix = lambda *args: timed("prefix", lambda: prefix(*args))
timed("first", lambda: clf.predict_proba(["I miss her so much."]))
timed("next", lambda: clf.predict_proba(["We won the cup!!!"]))
print(json.dumps(seen))
"""


def parse(options=None):
    parser = make_timing_parser("first_answer", __doc__)
    parser.add_argument("--random", default=None, help="a shape of benchmarks.scaling in place of a model")
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args(options)


def run(path, folder=None):
    """Seconds of each step in a process of its own; with an empty `folder` as the user's cache none is remembered."""
    environment = dict(os.environ) if folder is None else {**os.environ, "XDG_CACHE_HOME": folder}
    command = [sys.executable, "-c", RUN, str(path), json.dumps(LABELS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def forget(path):
    """Let the system forget what it keeps of a file in memory."""
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure(path, rounds):
    """Rows: as a rule, on a file that must be read from the disk, and with the trial run that comes once."""
    run(path)
    kinds = {"warm": [], "cold file": [], "once: with the trial run": []}
    for _ in range(rounds):
        kinds["warm"].append(run(path))
        forget(path)
        kinds["cold file"].append(run(path))
    with tempfile.TemporaryDirectory() as folder:
        kinds["once: with the trial run"].append(run(path, folder))
    return [{"what": kind, **{k: median(r[k] for r in runs) for k in COLUMNS}} for kind, runs in kinds.items()]


def write(result, path):
    """Write JSON and Markdown."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(Path(f"{path}.json"), result)
    cells = [[row["what"], *(f"{row[k]:.2f}" for k in COLUMNS)] for row in result["rows"]]
    lines = [
        f"# The first answer of {result['model']}",
        "",
        f"    {result['command']}",
        "",
        f"{result['machine']}, {result['date']}; file of {result['gigabytes']:.2f} GB. Seconds, medians of "
        f"{result['rounds']} processes; {len(LABELS)} labels, no demonstrations.",
        "",
        *table(["", *COLUMNS.values()], cells),
    ]
    Path(f"{path}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main(options=None):
    args = parse(options)
    with tempfile.TemporaryDirectory() as folder:
        if args.random:
            from benchmarks.scaling import SHAPES, write_model

            path, name = Path(folder) / "random.gguf", f"random-{args.random}"
            write_model(path, SHAPES[args.random], readable=True)
            command = f"python -m benchmarks.first_answer --random {args.random}"
        else:
            path, name = Path(resolve_model(args.model)), args.name
            command = f"python -m benchmarks.first_answer --model MODEL.gguf --name {name}"
        result = {
            "model": name,
            "command": command,
            "machine": machine(),
            "date": str(date.today()),
            "gigabytes": path.stat().st_size / 1e9,
            "rounds": args.rounds,
            "rows": measure(path, args.rounds),
        }
        write(result, args.out / f"first-answer-{name}")


if __name__ == "__main__":
    main()
