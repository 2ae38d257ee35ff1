"""Plan on paper: what larger models cost, measured on files of their shape with random weights.

    python -m benchmarks.scaling

Writes each model as Q4_0 to a temporary folder (up to 5 GB), times a batch of 128 tokens and single tokens, and works
out documents a day. Speed depends on a model's shape and not on what its weights say.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from datetime import date
from pathlib import Path
from statistics import median

import gguf
import llama_cpp
import numpy as np

from benchmarks._bench import table
from skmlmc._models.files import resolve_model
from skmlmc._models.loaded import clear_models, load_model

# blocks, width, inner width, heads, key-value heads, vocabulary: those of well-known models of that size.
SHAPES = {
    "0.3B": (18, 1024, 4096, 16, 4, 64_000),
    "1B": (16, 2048, 8192, 32, 8, 128_256),
    "3B": (28, 3072, 8192, 24, 8, 128_256),
    "8B": (32, 4096, 14336, 32, 8, 128_256),
}
N_BATCH, SINGLE, DAY = 128, 6, 86_400


def quantised(rng, rows, columns):
    """Random Q4_0 blocks of a matrix: a scale and 32 numbers of four bits in 18 bytes."""
    blocks = rng.integers(0, 256, (rows, columns // 32, 18), dtype=np.uint8)
    blocks[:, :, :2] = np.frombuffer(np.float16(0.005).tobytes(), np.uint8)
    return blocks.reshape(rows, -1)


def readable_vocabulary(size):
    """Tokens, their types and merges of the embedded model, with unused ones behind them up to a size."""
    fields = gguf.GGUFReader(resolve_model(None)).fields
    tokens, types, merges = (fields[f"tokenizer.ggml.{name}"] for name in ("tokens", "token_type", "merges"))
    text, kinds = ([field.parts[k] for k in field.data] for field in (tokens, types))
    more = size - len(text)
    return (
        [bytes(part).decode() for part in text] + [f"<unused{k}>" for k in range(more)],
        [int(part[0]) for part in kinds] + [gguf.TokenType.UNUSED] * more,
        [bytes(merges.parts[k]).decode() for k in merges.data],
    )


def write_model(path, shape, seed=0, readable=False):
    """Write a Llama of that shape with random weights, `readable` with a vocabulary that spells texts."""
    blocks, width, inner, heads, kv_heads, vocabulary = shape
    rng, writer = np.random.default_rng(seed), gguf.GGUFWriter(path, "llama", use_temp_file=True)
    writer.add_context_length(2048)
    writer.add_embedding_length(width)
    writer.add_block_count(blocks)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(vocabulary)
    writer.add_tokenizer_model("gpt2")
    plain = [f"t{k}" for k in range(vocabulary)], [gguf.TokenType.NORMAL] * vocabulary, ["t 1"]
    tokens, types, merges = readable_vocabulary(vocabulary) if readable else plain
    writer.add_tokenizer_pre("smollm" if readable else "default")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)

    def matrix(name, rows, columns):
        writer.add_tensor(name, quantised(rng, rows, columns), raw_dtype=gguf.GGMLQuantizationType.Q4_0)

    key_width = width // heads * kv_heads
    matrix("token_embd.weight", vocabulary, width)
    writer.add_tensor("output_norm.weight", np.ones(width, np.float32))
    for k in range(blocks):
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{k}.{norm}.weight", np.ones(width, np.float32))
        for name, rows, columns in (
            ("attn_q", width, width),
            ("attn_k", key_width, width),
            ("attn_v", key_width, width),
            ("attn_output", width, width),
            ("ffn_gate", inner, width),
            ("ffn_up", inner, width),
            ("ffn_down", width, inner),
        ):
            matrix(f"blk.{k}.{name}.weight", rows, columns)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def measure(path, threads):
    """Seconds of a batch of 128 tokens and of single tokens, medians."""
    model = load_model(path)
    params = llama_cpp.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch, params.flash_attn_type = 512, N_BATCH, N_BATCH, 0
    params.n_threads = params.n_threads_batch = threads
    context = llama_cpp.llama_init_from_model(model._model, params)
    tokens = (llama_cpp.llama_token * N_BATCH)(*range(10, 10 + N_BATCH))

    def decode(n):
        start = time.perf_counter()
        assert llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(tokens, n)) == 0
        return time.perf_counter() - start

    decode(1)
    batch, single = median(decode(N_BATCH) for _ in range(3)), median(decode(1) for _ in range(5))
    llama_cpp.llama_free(context)
    return batch, single


def plan(batch, single, document, calls, cores):
    """Documents a day and core: one call with the document and some with a token or two."""
    seconds = document * batch / N_BATCH + calls * single
    return DAY / seconds / cores


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--document", type=int, default=40, help="tokens of a document")
    parser.add_argument("--calls", type=float, default=2.0, help="calls for labels and separators, a document")
    parser.add_argument("--sizes", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    rows = []
    for name in args.sizes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{name}.gguf"
            write_model(path, SHAPES[name])
            batch, single = measure(path, args.threads)
            size = path.stat().st_size
            clear_models()
        a_day = plan(batch, single, args.document, args.calls, args.threads)
        rows.append(
            {
                "model": name,
                "file_gb": round(size / 1e9, 2),
                "prompt_tokens_per_second": round(N_BATCH / batch, 1),
                "single_token_ms": round(1000 * single, 1),
                "read_gb_per_second": round(size / single / 1e9, 1),
                "documents_per_day_and_core": round(a_day),
                "core_years_for_100_million": round(1e8 / a_day / 365.25, 2),
            }
        )
        print(rows[-1], flush=True)
    write(rows, args)


def write(rows, args):
    """Write JSON and Markdown."""
    machine = f"{platform.machine()}, {platform.system()}, {args.threads} threads, {date.today()}"
    result = {"machine": machine, "document": args.document, "calls": args.calls, "rows": rows}
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "scaling.json").write_text(json.dumps(result, indent=1) + "\n")
    head = [key.replace("_", " ") for key in rows[0]]
    lines = [
        "# What larger models cost",
        "",
        "    python -m benchmarks.scaling",
        "",
        f"{machine}; random weights, Q4_0.",
    ]
    lines += [f"A document: one call of {args.document} tokens and {args.calls:g} calls of one.", ""]
    lines += table(head, [map(str, row.values()) for row in rows])
    (args.out / "scaling.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
