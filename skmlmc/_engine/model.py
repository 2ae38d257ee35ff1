"""A loaded model: decode through llama.cpp, read logits and hidden states.

One context a model, low-level calls. Sequence 0 of the context holds the prompt's prefix and is kept between calls;
documents and their branches share its cells. Logits are computed only at the tokens that a `Read` names.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from ctypes import CDLL, addressof, c_float, c_size_t, c_void_p
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from .._utils.warning import warn
from . import log
from .buffers import BatchArrays
from .context import N_UBATCH, Hidden, Settings, block_number
from .forest import PREFIX, Ask, Forest, Plan, Reading, levels
from .library import WAITS_BRIEFLY, C
from .memory import available_memory
from .tap import TRIAL_TOKENS, make_tap
from .threads import ROOM, Pace
from .vocabulary import Vocabulary

# Where a decode call may take seconds, an interrupt should not wait for its end.
SLOW_BYTES = 400_000_000
# A list of devices that ends at once. Builds with Metal or CUDA would else take the GPU for all layers, whose sums
# differ from those of the CPU.
NO_DEVICES = (c_void_p * 1)(None)
NO_NUMBERS = np.empty(0, np.float32)
KV_TYPES = {"float32": C.GGML_TYPE_F32, "float16": C.GGML_TYPE_F16}
AMX_ADVICE = (
    "This build of llama-cpp-python uses Intel AMX, whose kernels can crash the process (ggml-org/llama.cpp issue "
    "20824). The model is loaded without llama.cpp's extra buffers, which is safe but slower. For full speed build it "
    'without AMX: CFLAGS="-mno-amx-tile -mno-amx-int8 -mno-amx-bf16" CXXFLAGS="$CFLAGS" pip install '
    "--force-reinstall --no-cache-dir --no-binary llama-cpp-python llama-cpp-python"
)


def uses_amx() -> bool:
    """Whether this build of llama.cpp would run AMX kernels on this CPU."""
    return b"AMX_INT8 = 1" in C.llama_print_system_info()


def build() -> tuple[str, str]:
    """Version of llama-cpp-python, and what its library says about itself and the processor."""
    return C.__version__, C.llama_print_system_info().decode(errors="replace")


@lru_cache(1)
def _warn_of_amx():
    warn(AMX_ADVICE, RuntimeWarning)


def _free(model, contexts, pid):
    # A forked child must not free what its parent owns.
    if os.getpid() == pid:
        with log.own():
            for ctx in contexts:
                C.llama_free(ctx)
            C.llama_model_free(model)


def _load(path, *, vocabulary_only):
    log.begin()
    C.llama_backend_init()
    params = C.llama_model_default_params()
    params.vocab_only, params.devices = vocabulary_only, addressof(NO_DEVICES)
    if uses_amx() and not vocabulary_only:
        params.use_extra_bufts = False
        _warn_of_amx()
    with log.own():
        model = C.llama_model_load_from_file(os.fsencode(path), params)
    if not model:
        raise ValueError(
            f"llama.cpp could not load {str(path)!r}: {log.last_error()} Expected a complete GGUF file of a model "
            "that this version of llama-cpp-python knows: download it again, or upgrade llama-cpp-python."
        )
    return model


def load_vocabulary(path: Path) -> Vocabulary:
    """Load a model's vocabulary and metadata without its weights.

    Parameters
    ----------
    path : pathlib.Path
        A GGUF file.

    Returns
    -------
    Vocabulary
        Enough to tokenise prompts and documents.
    """
    vocabulary = Vocabulary(C, _load(path, vocabulary_only=True))
    weakref.finalize(vocabulary, _free, vocabulary._model, [], os.getpid()).atexit = False
    return vocabulary


class Model(Vocabulary):
    """A loaded model with one unified KV cache; attributes of `Vocabulary` too.

    Parameters
    ----------
    path : pathlib.Path
        A GGUF file.

    Attributes
    ----------
    decoded : int
        Tokens handed to llama.cpp so far.
    calls : int
        Decode calls so far.
    """

    def __init__(self, path: Path):
        super().__init__(C, _load(path, vocabulary_only=False))
        self.path, self.lock = path, threading.RLock()
        self._contexts: list = []
        self._ctx: Any = None
        self._tap: Any = None
        self._adapters: dict[tuple, Any] = {}  # by state of their file; freed with the model
        self._finalizer = weakref.finalize(self, _free, self._model, self._contexts, os.getpid())
        self._finalizer.atexit = False
        self._encodes = bool(C.llama_model_has_encoder(self._model))
        self._check_kind()
        self.n_embd = C.llama_model_n_embd(self._model)
        self.one_state = bool(C.llama_model_is_recurrent(self._model) or C.llama_model_is_hybrid(self._model))
        self._slow = C.llama_model_size(self._model) >= SLOW_BYTES
        self.decoded = self.calls = 0
        self._settings: Any = None
        self._threads = (1, False)
        self._prefix: tuple[int, ...] | None = None

    def _check_kind(self):
        if self.n_vocab == 0 or self._encodes or not C.llama_model_has_decoder(self._model):
            raise ValueError(f"{str(self.path)!r} is no text generation model: expected a decoder with a vocabulary.")

    # ------------------------------------------------------------- context

    def _prepare(self, settings: Settings):
        """Make the context that `settings` ask for, or keep the one there is, which may have more cells."""
        log.begin()
        now, self._threads = self._settings, (settings.n_threads, settings.fewer)
        if now is not None and now[1:4] == settings[1:4] and now.n_ctx >= settings.n_ctx:
            C.llama_set_n_threads(self._ctx, settings.n_threads, settings.n_threads)
            self._settings = settings._replace(n_ctx=now.n_ctx)
            return
        self._settings = self._prefix = None
        self._pace = Pace(ROOM, WAITS_BRIEFLY)
        while self._contexts:
            C.llama_free(self._contexts.pop())
        fits = self._cells_that_fit(settings)
        ctx = None if fits < settings.n_ctx else C.llama_init_from_model(self._model, self._context_params(settings))
        if not ctx:
            raise MemoryError(_no_context(self.path, settings, fits))
        self._contexts.append(ctx)
        self._ctx, self._memory = ctx, C.llama_get_memory(ctx)
        self._buffers = BatchArrays(C.llama_batch(), N_UBATCH)
        self._stop = stop = threading.Event()
        self._must_stop = C.ggml_abort_callback(lambda _: stop.is_set())
        if self._slow:
            C.llama_set_abort_callback(ctx, self._must_stop, None)
        self._set_adapters(settings.lora)
        if self._tap is not None:
            self._try_tap(settings)
        self._settings = settings

    def _set_adapters(self, lora):
        """Apply LoRA adapters to the new context; each file is loaded once, and again when it was replaced."""
        paths = [state[0] for state, _ in lora]
        for path, (state, _) in zip(paths, lora, strict=True):
            if state not in self._adapters:
                adapter = C.llama_adapter_lora_init(self._model, os.fsencode(path))
                if not adapter:
                    raise ValueError(
                        f"llama.cpp could not apply the adapter {str(path)!r} to {str(self.path)!r}: "
                        f"{log.last_error()} Expected a LoRA adapter in GGUF form that was trained for this model."
                    )
                self._adapters[state] = adapter
        handles = (C.llama_adapter_lora_p_ctypes * len(lora))(*(self._adapters[state] for state, _ in lora))
        scales = (c_float * len(lora))(*(scale for _, scale in lora))
        if C.llama_set_adapters_lora(self._ctx, handles, len(lora), scales):
            raise ValueError(f"llama.cpp could not apply the adapters {paths}.")

    def _cells_that_fit(self, settings):
        """Cells for which there is memory: llama.cpp fills what it allocates, and the system may kill for that."""
        free = available_memory()
        a_cell = self.cell_bytes(4 if settings.kv_dtype == "float32" else 2)
        return settings.n_ctx if free is None or a_cell == 0 else int(free / a_cell)

    def _context_params(self, settings):
        params = C.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = settings.n_ctx, N_UBATCH, N_UBATCH
        params.n_seq_max = self.n_seq
        # A compute buffer for logits at every token of a batch would be half a gigabyte for large vocabularies.
        params.n_outputs_max, params.n_outputs_max_per_seq = 2 * self.n_seq, 0
        params.n_threads = params.n_threads_batch = settings.n_threads
        # Without flash attention a prefix and its continuation give the same bits as the whole prompt.
        params.kv_unified, params.flash_attn_type = True, 0
        params.type_k = params.type_v = KV_TYPES[settings.kv_dtype]
        params.embeddings, params.pooling_type = False, 0
        self._tap = None
        if settings.tap is not None:
            n = C.llama_model_n_layer(self._model)
            blocks = tuple(block_number(layer, n, self.path) for layer in settings.tap.layers)
            callback = C.ggml_backend_sched_eval_callback
            self._tap = make_tap(_ggml(), callback, self.n_embd, blocks, settings, _other_backends)
            params.cb_eval = self._tap.callback
        return params

    def _try_tap(self, settings):
        """Let the tap see the graph of a few tokens, before the prompt fills the context."""
        tokens = (C.llama_token * TRIAL_TOKENS)()
        code = self._call(C.llama_batch_get_one(tokens, TRIAL_TOKENS))
        if code:
            raise RuntimeError(_decode_error(code, settings))
        self._tap.choose()

    def _set_prefix(self, prefix: Sequence[int]):
        """Decode the prompt's prefix into sequence 0, or keep it."""
        if self._prefix == tuple(prefix):
            return
        C.llama_memory_clear(self._memory, True)
        self._prefix = None
        n = len(prefix)
        tokens, positions = np.asarray(prefix, np.int32), np.arange(n, dtype=np.int32)
        self._decode(Plan(tokens=tokens, positions=positions, spans=[(0, n, (PREFIX,))]))
        self._prefix = tuple(prefix)

    # -------------------------------------------------------------- decode

    def run(
        self,
        prefix: Sequence[int],
        jobs: Callable[[int], Generator[Ask, Any, Any]],
        groups: Sequence[Sequence[int]],
        settings: Settings,
    ) -> Generator[tuple[int, Any], None, None]:
        """Answer documents: decode what they ask for and send them the readings until they return.

        Parameters
        ----------
        prefix : sequence of int
            Tokens of the prompt's prefix, decoded unless they are still there from the last call.
        jobs : callable
            ``jobs(i)`` starts document i: a generator of `Ask`.
        groups : sequence of sequence of int
            Documents that are decoded together.
        settings : Settings
            Cells, KV type, threads, adapters, and what a tap reads.

        Yields
        ------
        (int, object)
            Document and what its generator returned, as soon as it is done.
        """
        with self.lock:
            with log.own():
                self._prepare(settings)
            try:
                self._set_prefix(prefix)
                for group in groups:
                    yield from self._run_group({i: jobs(i) for i in group}, len(prefix))
            except BaseException:
                # Whatever stopped it, the cells may hold half a document: start afresh next time.
                self._prefix = None
                raise

    def _run_group(self, running, prefix_length):
        forest = Forest(prefix_length, self.n_seq)
        asks = {i: next(job) for i, job in running.items()}
        while asks:
            readings = self._answer(forest, asks)
            asks = {}
            for i, reading in readings.items():
                try:
                    asks[i] = running[i].send(reading)
                except StopIteration as done:
                    for seq in forest.close(i):
                        C.llama_memory_seq_rm(self._memory, seq, -1, -1)
                    yield i, done.value

    def _answer(self, forest, asks):
        if not self.one_state:
            plan = forest.plan(asks)
            return plan.hand_back(self._decode(plan))
        readings: dict[Any, list] = {}
        for i, ask in asks.items():
            by_name: dict[Any, Any] = {}
            for level in levels(ask):
                plan = forest.plan({i: level})
                rows = plan.hand_back(self._decode(plan))[i]
                by_name.update(zip((b.name for b in level.branches), rows, strict=True))
            readings[i] = [by_name[b.name] for b in ask.branches]
        return readings

    def _decode(self, plan: Plan) -> list[Reading]:
        for seq in plan.removes:
            C.llama_memory_seq_rm(self._memory, seq, -1, -1)
        for source, target in plan.forks:
            C.llama_memory_seq_cp(self._memory, source, target, -1, -1)
        self._buffers.set_owners(plan.spans)
        readings: list[Any] = [None] * len(plan.outputs)
        where = np.array([at for at, _ in plan.outputs], int)
        states: list[np.ndarray] = []
        for start, stop in batches(len(plan.tokens), where, 2 * self.n_seq):
            wanted = np.flatnonzero((where >= start) & (where < stop))
            outputs = np.unique(where[wanted]) if self._tap is None or self._tap.at_outputs else where[:0]
            batch = self._buffers.fill(plan.tokens, plan.positions, start, stop, outputs)
            code = self._call(batch)
            if code:
                raise RuntimeError(_decode_error(code, self._settings))
            self.decoded += stop - start
            self.calls += 1
            if self._tap is not None:
                states.append(self._tap.take(stop - start, outputs - start))
            for k in wanted:
                at, read = plan.outputs[k]
                tapped = self._tapped(plan, states, at) if read.tap else None
                readings[k] = self._read(at - start, read, tapped)
        return readings

    def _call(self, batch):
        """Decode a batch; of a slow model so that an interrupt stops it at once."""
        if self._tap is not None:
            self._tap.begin()
        if not self._slow:
            return self._llama_decode(batch)
        # The main thread, which gets the interrupts, waits; llama.cpp asks between two operations whether to stop.
        self._stop.clear()
        with ThreadPoolExecutor(1) as other:
            decoding = other.submit(self._llama_decode, batch)
            try:
                return decoding.result()
            except BaseException:
                self._stop.set()
                raise

    def _llama_decode(self, batch):
        """Decode a batch with as many threads as were asked for, or as pay."""
        most, fewer = self._threads
        with log.own():
            if not fewer:
                return self._compute(batch)
            return self._pace.run(lambda n: self._decode_with(n, batch), batch.n_tokens, most)

    def _decode_with(self, n_threads, batch):
        C.llama_set_n_threads(self._ctx, n_threads, n_threads)
        return self._compute(batch)

    def _compute(self, batch):
        return (C.llama_encode if self._encodes else C.llama_decode)(self._ctx, batch)

    def _tapped(self, plan, states, at):
        """Return what the tap has read at token `at`, or the mean over its branch up to there."""
        rows, poolings = np.concatenate(states), getattr(self._settings.tap, "poolings", ("mean",))
        if "mean" not in poolings:
            return rows[at].copy()
        begin = next(start for start, stop, _ in plan.spans if start <= at < stop)
        mean = rows[begin : at + 1].mean(axis=0)
        if "last" not in poolings:
            return mean
        return np.where(np.repeat([pooling == "mean" for pooling in poolings], self._tap.widths), mean, rows[at])

    def _read(self, index, read, tapped):
        """Take the wanted columns of one row of llama.cpp's logits, which nobody looks at where none are wanted."""
        looks = read.total or len(read.columns) > 0
        if looks and isinstance(self._settings.tap, Hidden):
            raise ValueError(f"Got {read!r:.200}, but calls that read hidden states end before the logits.")
        row = np.ctypeslib.as_array(C.llama_get_logits_ith(self._ctx, index), (self.n_vocab,)) if looks else NO_NUMBERS
        values, top = row[read.columns], row.max() if read.total else 0.0
        sums = [values.max() if len(values) else 0.0, top, 0.0 if tapped is None else tapped.sum()]
        if not np.isfinite(sums).all():
            raise ValueError(_damaged(self.path))
        if not read.total:
            return Reading(values, None, tapped)
        return Reading(values, float(top) + float(np.log(np.exp(row - top).sum(dtype=np.float64))), tapped)


def batches(n: int, outputs: np.ndarray, most: int) -> list[tuple[int, int]]:
    """Divide `n` tokens into batches of at most ``N_UBATCH``, with at most `most` places that are read.

    Examples
    --------
    >>> import numpy as np
    >>> batches(300, np.array([3, 9, 270]), 64), batches(10, np.array([3, 4, 5, 6, 9]), 2)
    ([(0, 256), (256, 300)], [(0, 5), (5, 9), (9, 10)])
    """
    found, places = [(0, 0)], np.unique(outputs)
    while found[-1][1] < n:
        start = found[-1][1]
        later = places[places >= start]
        stop = min(start + N_UBATCH, n, int(later[most]) if len(later) > most else n)
        found.append((start, stop))
    return found[1:]


def _ggml(which="ggml-base"):
    """Return a library of ggml, whose functions llama_cpp does not offer; the file is open already."""
    names = (f"lib{which}.so", f"lib{which}.dylib", f"{which}.dll", f"lib{which}.dll")
    for name in (*(str(Path(C.__file__).parent / "lib" / name) for name in names), *names):
        with suppress(OSError):  # some builds, such as conda-forge's, put it where the system looks for libraries
            return CDLL(name)
    raise RuntimeError(
        f"Found no library {which} beside {C.__file__} nor where the system looks: expected it for hidden states of "
        "inner layers (layer=) and attention. Install llama-cpp-python with pip, or use layer=None."
    )


def _other_backends():
    """Whether something beside the CPU, such as BLAS, may compute parts of a graph; yes where nothing tells."""
    with suppress(RuntimeError, AttributeError):
        devices, base = _ggml("ggml"), _ggml()
        devices.ggml_backend_dev_count.restype, devices.ggml_backend_dev_get.restype = c_size_t, c_void_p
        devices.ggml_backend_dev_get.argtypes, base.ggml_backend_dev_type.argtypes = [c_size_t], [c_void_p]
        found = (devices.ggml_backend_dev_get(k) for k in range(devices.ggml_backend_dev_count()))
        # 0 is the CPU, and 1 a GPU, which gets nothing to do here.
        return any(base.ggml_backend_dev_type(device) > 1 for device in found)
    return True


def _damaged(path):
    """Message for numbers that no sound model computes."""
    return (
        f"{str(path)!r} computes infinite numbers or none at all (NaN): its weights are damaged, or numbers in its "
        "header, or an adapter's scale is too large. Download the file again and compare its checksum."
    )


def _no_context(path, settings, fits):
    """Message for a context that cannot be made."""
    tried = f"a context of n_ctx={settings.n_ctx} tokens for {str(path)!r}"
    if fits < settings.n_ctx:
        # A tenth is left for what one document needs beside the cache.
        return (
            f"There is not enough memory for {tried}: about n_ctx={max(256, int(fits * 0.9) // 256 * 256)} would fit "
            "now. Choose a smaller n_ctx or fewer processes (n_jobs), or free memory."
        )
    return f"llama.cpp could not make {tried}: {log.last_error()} Choose a smaller n_ctx."


def _decode_error(code, settings):
    if code == 1:
        return f"The context of n_ctx={settings.n_ctx} cells is full: choose a larger n_ctx or a smaller batch_size."
    return f"llama.cpp's decode failed with code {code}: {log.last_error()}"
