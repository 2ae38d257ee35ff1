"""Every architecture that llama.cpp knows: which are answered, how exactly, and which are refused.

    python -m benchmarks.architectures [FOLDER]

FOLDER holds small GGUF files. Without it, ../shared/prototypes/architectures.py writes random models of 138
architectures to a temporary folder (1.1 GB). Each file is answered in a process of its own, since some end it, and
compared with `WholePrompts`, where nothing is shared between prompts.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
import warnings
from contextlib import nullcontext
from ctypes import CDLL, c_char_p, c_int64, c_size_t, c_void_p
from datetime import date
from importlib.metadata import version
from pathlib import Path
from unittest import mock

import llama_cpp as C  # noqa: N812
import numpy as np
from scipy.special import logsumexp

from benchmarks._bench import table, write_json
from skmlmc import HiddenStateExtractor, PromptTemplate, StepwiseExtractor
from skmlmc._engine.forest import Reading
from skmlmc._engine.model import Model

GENERATOR = Path(__file__).parents[2] / "shared" / "prototypes" / "architectures.py"
# What those are that generate no text; the files that ../shared writes are called NAME-dense or NAME-moe.
KINDS = {
    **dict.fromkeys("eurobert gemma-embedding llama-embed modern-bert neo-bert t5encoder".split(), "encoder"),
    **dict.fromkeys("dream llada llada-moe rnd1".split(), "diffusion"),
    **dict.fromkeys("pockettts qwen3tts wavtokenizer-dec".split(), "speech"),
}
EXACT = 1e-5
TEXTS = ["I am so happy today", "no", "They shout at us again, and nobody in the town knows what any of it is for."]
LABELS = ["joy", "anger", "joyful anger"]
SHOWN = [("what a day", ["joy"]), ("go away", ["anger", "joyful anger"])]
# What llama.cpp's sources call the tensor that a block hands on; the first of these that a graph has.
STATES = ("nemotron_h_block_out", "ffn_residual", "l_last", "stack_norm", "l_out")


class WholePrompts:
    """Answers as ``Model.run`` does, but decodes whole prompts from their first token with plain llama_cpp.

    An empty cache, one call and one sequence for every token that is read behind: no prefix, no fork, no batch.
    """

    def __init__(self, path):
        params = C.llama_model_default_params()
        params.use_extra_bufts = b"AMX_INT8 = 1" not in C.llama_print_system_info()
        self._model = C.llama_model_load_from_file(os.fsencode(path), params)
        self._n_vocab = C.llama_vocab_n_tokens(C.llama_model_get_vocab(self._model))
        context = C.llama_context_default_params()
        context.n_ctx = context.n_batch = context.n_ubatch = 1024
        context.n_threads = context.n_threads_batch = 1
        context.flash_attn_type, context.type_k, context.type_v = 0, C.GGML_TYPE_F32, C.GGML_TYPE_F32
        ggml = CDLL(str(next((Path(C.__file__).parent / "lib").glob("*ggml-base.*"))))
        ggml.ggml_get_name.restype, ggml.ggml_get_name.argtypes = c_char_p, [c_void_p]
        ggml.ggml_backend_tensor_get.argtypes = [c_void_p, c_void_p, c_size_t, c_size_t]
        self._ggml, self._tensors, self._known = ggml, {}, {}
        block = round(0.5 * C.llama_model_n_layer(self._model)) - 1
        self._wanted = {f"{name}-{block}": name for name in STATES}
        self._callback = context.cb_eval = C.ggml_backend_sched_eval_callback(self._on_tensor)
        self._context = C.llama_init_from_model(self._model, context)

    def close(self):
        """Free the model."""
        C.llama_free(self._context)
        C.llama_model_free(self._model)

    def _on_tensor(self, tensor, ask, _):
        name = self._ggml.ggml_get_name(tensor).decode()
        if name not in self._wanted:
            return not ask
        if not ask:
            values = np.empty(tuple((c_int64 * 4).from_address(tensor + 16))[::-1], np.float32)  # its shape is there
            self._ggml.ggml_backend_tensor_get(tensor, values.ctypes.data, 0, values.nbytes)
            self._tensors[self._wanted[name]] = values
        return True

    def _decode(self, tokens):
        """Logits behind a prompt, and the hidden state at half the depth."""
        if tokens not in self._known:
            self._tensors = {}
            C.llama_memory_clear(C.llama_get_memory(self._context), True)
            array = (C.llama_token * len(tokens))(*tokens)
            assert C.llama_decode(self._context, C.llama_batch_get_one(array, len(tokens))) == 0
            row = np.ctypeslib.as_array(C.llama_get_logits_ith(self._context, -1), (self._n_vocab,)).copy()
            state = next((self._tensors[name] for name in STATES if name in self._tensors), None)
            if state is not None:  # some have several residual streams, in the axis before or after that of tokens
                state = state.take(-1, state.shape.index(len(tokens))).ravel()
            self._known[tokens] = row, state
        return self._known[tokens]

    def _read(self, tokens, read):
        row, state = self._decode(tokens)
        return Reading(row[read.columns], float(logsumexp(row.astype(float))), state if read.tap else None)

    def run(self, prefix, jobs, groups, settings):
        """Answer documents, as the method of `Model` that it stands in for."""
        for i in (i for group in groups for i in group):
            job, texts = jobs(i), {None: list(prefix)}  # each branch's tokens from the prompt's beginning
            ask, result = next(job), None
            while ask is not None:
                readings = []
                for name in ask.drop:
                    del texts[name]
                for branch in ask.branches:
                    before = texts[branch.name if branch.name in texts else branch.parent]
                    texts[branch.name] = [*before, *branch.tokens]
                    prompts = [texts[branch.name][: len(before) + read.at + 1] for read in branch.reads]
                    readings.append([self._read(tuple(p), r) for p, r in zip(prompts, branch.reads, strict=True)])
                try:
                    ask = job.send(readings)
                except StopIteration as done:
                    ask, result = None, done.value
            yield i, result


def examine(path) -> dict:
    """Say how a model file is answered.

    Returns
    -------
    dict
        ``refused``, the beginning of the message; or for "steps" and for "layer" (hidden states at half the depth) the
        largest ``difference`` from whole prompts and whether the ``same_bits`` come in subsets and other orders.
    """
    shared = {
        "labels": LABELS,
        "demonstrations": SHOWN,
        "prompt": PromptTemplate("Which {wording}? {labels}", mode="plain"),
    }
    shared |= {"model": os.fspath(path), "kv_dtype": "float32", "n_threads": 1}
    refused = _refusal(lambda: StepwiseExtractor(**shared).fit().transform(TEXTS[:1]), path)
    if refused:
        return refused
    twin, outcome = WholePrompts(path), {}
    for name, extractor in (
        ("steps", StepwiseExtractor(**shared)),
        ("layer", HiddenStateExtractor(layer=0.5, **shared)),
    ):
        outcome[name] = _refusal(lambda of=extractor: of.fit().transform(TEXTS[:1]), path) or _compared(extractor, twin)
    twin.close()
    return outcome


def _refusal(act, path):
    """Return the message that `act` ends with, or None where it succeeds."""
    try:
        act()
    except (ValueError, RuntimeError, MemoryError) as error:
        return {"refused": str(error).replace(os.fspath(path), Path(path).name)[:200]}
    return None


def _compared(extractor, twin):
    def numbers(texts, run=None):
        with mock.patch.object(Model, "run", run) if run else nullcontext():
            return np.asarray(extractor.transform(texts))

    fast, slow = numbers(TEXTS), numbers(TEXTS, twin.run)
    same = np.array_equal(numbers(TEXTS[::-1])[::-1], fast, equal_nan=True)
    same = same and all(np.array_equal(numbers([text])[0], fast[i], equal_nan=True) for i, text in enumerate(TEXTS))
    # Steps that did not happen are NaN: as 0 they differ from those that did. Another shape: a longer answer.
    same_shape = fast.shape == slow.shape
    difference = np.abs(np.nan_to_num(fast) - np.nan_to_num(slow)).max() if same_shape else 1.0
    return {"difference": float(difference), "same_bits": bool(same)}


def examine_elsewhere(path, seconds):
    """Examine a file in another process, which it may end."""
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")  # forked, it need not import
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_examine_into, args=(sender, path))
    process.start()
    sender.close()
    try:
        found = receiver.recv() if receiver.poll(seconds) else {"refused": f"NO ANSWER in {seconds} seconds"}
    except EOFError:
        process.join()
        found = {"refused": f"THE PROCESS ENDED with exit code {process.exitcode}"}
    process.kill()
    process.join()
    return found


def _examine_into(sender, path):
    warnings.simplefilter("ignore")
    sender.send(examine(path))


def kind_of(name):
    """Say what a file's architecture is for."""
    return KINDS.get(name.removesuffix("-dense").removesuffix("-moe"), KINDS.get(name, "generates text"))


def is_exact(found):
    """Say whether a comparison came out right; no where there is none."""
    return bool(found) and found.get("difference", 1) <= EXACT and found["same_bits"]


def write(rows, out):
    """Write JSON and Markdown."""
    generating = [row for row in rows.values() if row["kind"] == "generates text"]
    steps, layers = (sum(is_exact(row.get(key)) for row in generating) for key in ("steps", "layer"))
    facts = {
        "machine": f"{platform.machine()}, {platform.system()}",
        "llama_cpp_python": version("llama-cpp-python"),
        "date": str(date.today()),
    }
    write_json(out / "architectures.json", {**facts, "rows": rows})
    lines = [
        "# What is made of each architecture",
        "",
        "    python -m benchmarks.architectures",
        "",
        f"{facts['machine']}, llama-cpp-python {facts['llama_cpp_python']}, {facts['date']}; tiny models with random "
        "F32 weights, F32 cache.",
        "The difference is the largest from decoding every prompt whole with plain llama_cpp, in step probabilities "
        "and in hidden states at half the depth; bits are compared between subsets and orders of the documents.",
        "",
        f"{len(generating)} of {len(rows)} generate text. Of these, {steps} are answered exactly (to {EXACT:g}, with "
        f"the same bits), and {layers} show exact hidden states at half the depth.",
        "",
    ]
    header = ["file", "kind", "steps", "bits", "layer=0.5", "bits", "refused"]
    lines += table(header, [_cells(name, row) for name, row in rows.items()])
    (out / "architectures.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _cells(name, row):
    cells, refused = [name, row["kind"]], row.get("refused", "")
    for found in (row.get("steps", {}), row.get("layer", {})):
        bits = {True: "same", False: "OTHER", None: ""}[found.get("same_bits")]
        cells += [f"{found['difference']:.0e}" if "difference" in found else "", bits]
        refused = refused or found.get("refused", "")
    return [*cells, refused.replace("|", "/")]


def main(argv=None):
    """Examine all files, and print and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="GGUF files; default: written by ../shared")
    parser.add_argument("--seconds", type=int, default=120, help="time limit for a file")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as made:
        if args.folder is None:
            if not GENERATOR.exists():
                raise SystemExit(
                    "Expected a FOLDER of GGUF files, or ../shared/prototypes/architectures.py to write it."
                )
            subprocess.run([sys.executable, GENERATOR, made], check=True)
        rows = {}
        for path in sorted((args.folder or Path(made)).glob("*.gguf")):
            rows[path.stem] = {"kind": kind_of(path.stem), **examine_elsewhere(path, args.seconds)}
            print(path.stem, json.dumps(rows[path.stem]), flush=True)
            write(rows, args.out)


if __name__ == "__main__":
    main()
