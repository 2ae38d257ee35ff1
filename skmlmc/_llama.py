"""llama.cpp's library: its log, what the processor makes of it, and loading files."""

from __future__ import annotations

import os
import warnings
import weakref
from collections import deque
from ctypes import addressof, c_void_p
from pathlib import Path

import llama_cpp as C  # noqa: N812
from llama_cpp._ctypes_extensions import load_shared_library

from ._vocabulary import Vocabulary

# A list of devices that ends at once. Builds with Metal or CUDA would else take the GPU for all layers, whose sums
# differ from those of the CPU.
NO_DEVICES = (c_void_p * 1)(None)
AMX_ADVICE = (
    "This build of llama-cpp-python uses Intel AMX, whose kernels can crash the process (ggml-org/llama.cpp issue "
    "20824). The model is loaded without llama.cpp's extra buffers, which is safe but slower. For full speed build it "
    'without AMX: CFLAGS="-mno-amx-tile -mno-amx-int8 -mno-amx-bf16" CXXFLAGS="$CFLAGS" pip install '
    "--force-reinstall --no-cache-dir --no-binary llama-cpp-python llama-cpp-python"
)


_log: deque[str] = deque(maxlen=30)
_echo = False


@C.llama_log_callback
def _on_log(level, text, _):
    line = text.decode(errors="replace")
    _log.append(line)
    if _echo:
        print(line, end="", flush=True)


def show_log(on: bool) -> None:
    """Print llama.cpp's own log, or keep it silent."""
    global _echo
    _echo = bool(on)
    C.llama_log_set(_on_log, None)


def clear_log() -> None:
    """Forget what llama.cpp has said, so that `last_error` tells of what comes."""
    _log.clear()


def uses_amx() -> bool:
    """Whether this build of llama.cpp would run AMX kernels on this CPU."""
    return b"AMX_INT8 = 1" in C.llama_print_system_info()


_amx_warned = False


def _warn_of_amx():
    global _amx_warned
    if not _amx_warned:
        _amx_warned = True
        warnings.warn(AMX_ADVICE, RuntimeWarning, stacklevel=4)


def free_model(model, contexts, pid):
    """Free a model and its contexts, in the process that made them."""
    # A forked child must not free what its parent owns.
    if os.getpid() == pid:
        for ctx in contexts:
            C.llama_free(ctx)
        C.llama_model_free(model)


def load_file(path, *, vocabulary_only):
    """Load a model file, whole or its vocabulary and metadata alone; returns llama.cpp's pointer."""
    show_log(_echo)
    clear_log()
    C.llama_backend_init()
    params = C.llama_model_default_params()
    params.vocab_only, params.devices = vocabulary_only, addressof(NO_DEVICES)
    if uses_amx() and not vocabulary_only:
        params.use_extra_bufts = False
        _warn_of_amx()
    model = C.llama_model_load_from_file(os.fsencode(path), params)
    if not model:
        raise ValueError(
            f"llama.cpp could not load {str(path)!r}: {last_error()} Expected a complete GGUF file of a model "
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
    vocabulary = Vocabulary(C, load_file(path, vocabulary_only=True))
    weakref.finalize(vocabulary, free_model, vocabulary._model, [], os.getpid()).atexit = False
    return vocabulary


def ggml_base():
    """Return ggml's base library, which llama.cpp has loaded."""
    return load_shared_library("ggml-base", Path(C.__file__).parent / "lib")


def last_error() -> str:
    """Why llama.cpp failed, in its own words."""
    lines = [line.strip() for line in _log if "error" in line.lower() or "failed" in line.lower()]
    return (lines[0] + ".") if lines else "it gave no reason."
