"""Write the figures of benchmarks.speed as JSON, Markdown and a picture."""

from __future__ import annotations

import json

from benchmarks._bench import table, write_page

BARS = {
    "growth": ("time a document, long run against its tenth", 1.05),
    "28_labels_against_7": ("time a document, four times as many labels", 1.3),
    "cached_second_run": ("cached second run, times faster", 300),
    "n_jobs_2_against_2_threads": ("documents/s, two processes of one thread against one of two", None),
    "memory_over_file_mb": ("peak resident memory over the file size, MB, without pandas", 300),
    "memory_with_pandas_mb": ("the same where scikit-learn finds pandas and loads it, after 100 documents", None),
}
PEER = {"steps": "create_completion", "unary": "CAPPr", "pairs": "CAPPr"}


def write_report(result, file):
    """Write ``speed-NAME.json``, ``.md`` and ``.png``."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result, indent=1) + "\n")
    write_page(file, markdown(result))
    draw(result, file.with_suffix(".png"))


def markdown(result):
    """Lines of the table."""
    yield from (f"# Speed of {result['model']}", "")
    yield from (f"    python -m benchmarks.speed --model MODEL.gguf --name {result['model']}", "")
    settings = ", ".join(f"{value} {key}" for key, value in result["settings"].items() if key != "memory")
    rounds = sorted({row["rounds"] for row in result["rows"]})
    times = " to ".join(str(n) for n in dict.fromkeys([rounds[0], rounds[-1]]))
    yield f"{result['machine']}, {result['date']}; {settings}. Medians over {times} rounds; ratios within a round."
    head = ["", "documents/s", "share of prompt speed", "decoded / needed", "outside llama.cpp", "against peer"]
    rows = [dated(cells, row, result) for row in result["rows"] for cells in rows_of(row)]
    yield from ("", *table(head, rows))
    yield ""
    for key, value in result["figures"].items():
        text, bar = BARS[key]
        yield f"* {text}: {value:.4g}" + ("" if bar is None else f" (bar {bar})")
    speeds = [row["prompt_speed"] for row in result["rows"] if "prompt_speed" in row]
    if speeds:
        yield f"* prompt speed, one batch of 512 tokens: {min(speeds):.0f} to {max(speeds):.0f} tokens/s"


def dated(cells, row, result):
    """Say with a row of another day when it was measured: machines are not the same every day."""
    return cells if row.get("date") == result["date"] else (f"{cells[0]} ({row.get('date')})", *cells[1:])


def rows_of(row):
    """Cells of a measured row; a peer's has a second row, without what its peer shares."""
    if "share" in row and "ratio_to_peer" not in row:
        return [(row["what"], f"{row['rate']:.2f}", f"{row['share']:.2f}", "", f"{row['outside']:.1%}", "")]
    if "share" in row:
        others = f"{row['ratio_to_peer']:.1f}x, no sharing {row['ratio_to_no_sharing']:.1f}x"
        shares = (f"{row['share']:.2f}", f"{row['tokens_per_needed']:.3f}", f"{row['outside']:.1%}")
        return [(row["what"], f"{row['rate']:.2f}", *shares, others)]
    rates = {PEER[row["what"].split(",")[0]]: row["rate"], "no sharing": row["no_sharing_rate"]}
    return [(row["what"].replace("peer", name), f"{rate:.2f}", *[""] * 4) for name, rate in rates.items()]


def draw(result, path):
    """Bars of documents a second, one panel a task."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    peers = [row for row in result["rows"] if "prompt_speed" in row]
    if not peers:
        return
    figure, axes = plt.subplots(1, len(peers), figsize=(2.1 * len(peers) + 2, 2.4), squeeze=False, layout="constrained")
    names = ["no sharing", "peer", "skmlmc, default", "skmlmc, batch_size=16"]
    for ax, peer in zip(axes[0], peers, strict=True):
        task = peer["what"].removesuffix(", peer")
        own = {row["what"].removeprefix(f"{task}, "): row.get("rate") for row in result["rows"]}
        rates = [peer["no_sharing_rate"], peer["rate"], own["default"], own["batch_size=16"]]
        drawn = ax.barh(names, rates, color=["#999999", "#E69F00", "#0072B2", "#56B4E9"])
        ax.bar_label(drawn, fmt="%.3g", padding=2, fontsize=8)
        ax.set_title(f"{task.removesuffix(' documents')}\n(peer: {PEER[task.split(',')[0]]})", fontsize=9)
        ax.set(xlabel="documents/s", xlim=(0, 1.3 * max(rates)))
        ax.spines[["top", "right"]].set_visible(False)
        if ax is not axes[0][0]:
            ax.set_yticklabels([])
    figure.suptitle(f"Documents a second, {result['model']} ({result['machine']}, {result['date']})", fontsize=10)
    figure.savefig(path, dpi=150)
    plt.close(figure)
