"""What model an estimator was fitted with, and whether the files at hand are still that model."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from .files import file_state, resolve_lora, resolve_model
from .soundness import part_paths

_SAMPLES, _SAMPLE_BYTES, _HEAD_BYTES = 64, 1 << 16, 1 << 22


def model_fingerprint(path: Path) -> bytes:
    """Content fingerprint of a model file, 32 bytes, the same wherever the file lies.

    Of each of its parts, the size, the first 4 MiB (metadata and vocabulary) and 64 evenly spaced blocks of 64 KiB up
    to the end: a full hash of gigabytes would take longer than many a task. A change always counts in a file of up to
    4 MiB or where it reaches over more than 1/64 of a file; a smaller one between two samples may not.
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


class Fingerprints(NamedTuple):
    """Content of a model file and of the adapters with their scales; no paths."""

    model: str
    lora: tuple[tuple[str, float], ...] = ()


def fingerprints(path: Path, adapters: Sequence[tuple[Path, float]] = ()) -> Fingerprints:
    """Fingerprints, in hexadecimal digits, of files that `resolve_model` and `resolve_lora` found."""
    return Fingerprints(
        model_fingerprint(path).hex(), tuple((model_fingerprint(file).hex(), scale) for file, scale in adapters)
    )


def fitted_with(estimator: Any) -> Fingerprints | None:
    """Fingerprints that an estimator recorded in ``fit``; None where it did not."""
    state = vars(estimator)
    if "model_fingerprint_" not in state:
        return None
    return Fingerprints(state["model_fingerprint_"], tuple((f, s) for f, s in state.get("lora_fingerprints_", ())))


@dataclass(frozen=True)
class ModelFiles:
    """The files that a call works with, found once: the model, and adapters with their scales.

    `content` is what they held when they were found; `states` is `file_state` of the model and of each adapter, from
    before their content was read.
    """

    path: Path
    adapters: tuple[tuple[Path, float], ...]
    content: Fingerprints
    states: tuple[tuple, ...]

    @property
    def lora(self) -> tuple[tuple[tuple, float], ...]:
        """State of each adapter file with its scale, as `skmlmc._engine.context.Settings` takes them."""
        return tuple((state, scale) for state, (_, scale) in zip(self.states[1:], self.adapters, strict=True))

    def check(self, *, loaded: bool) -> None:
        """Raise RuntimeError where the files in use hold something else than when they were found.

        `loaded`: an earlier check has shown that the right files were loaded. Then it does no harm when another file is
        put in a file's place, as downloads do: whoever has loaded the old one keeps it whole. A file that is written
        over does harm in any case, for that changes the weights in memory too.
        """
        now = None
        if loaded:
            with suppress(FileNotFoundError):
                now = _states(self.path, self.adapters)
            if now is None or _places(now) != _places(self.states):
                return
        if now != self.states and fingerprints(self.path, self.adapters) != self.content:
            raise RuntimeError(
                f"The model file {str(self.path)!r}, or one of its adapters, was changed while it was in use: "
                "expected the content that it had when this call began. Call again to use the new file, and replace "
                "files by renaming, never by writing over them. What was answered before is in the cache where "
                "memory= is set."
            )


def _states(path, adapters):
    return tuple(map(file_state, (path, *(file for file, _ in adapters))))


def _places(states):
    """Which files these are: their paths, and the numbers that the file system knows each of their parts by."""
    return [(path, *(number for *_, number in parts)) for path, *parts in states]


def find_files(
    model: Any, lora: Any, expected: Fingerprints | None = None, *, embeds: bool | None = None
) -> ModelFiles:
    """Find the files of the parameters `model` and `lora`, and see whether they are those that ``fit`` recorded.

    With `expected` None whatever lies there is right, of the kind that `embeds` says as for `resolve_model`.
    FileNotFoundError or ValueError where a file is missing, no GGUF file, or another one than in ``fit``.
    """
    if expected is None:
        return _describe(resolve_model(model, embeds), resolve_lora(lora))
    of_fit = "; ".join(f"{digits} (scale {scale:g})" for digits, scale in expected.lora) or "none"
    path = _found(partial(resolve_model, embeds=embeds), "model", model, expected.model)
    files = _describe(path, _found(resolve_lora, "lora", lora, of_fit))
    found = files.content
    if found.model != expected.model:
        raise ValueError(
            f"The model file {os.path.abspath(path)!r} (model={model!r}) is another one than in fit: expected the "
            f"fingerprint {expected.model}, found {found.model}. {_way_out('model')}"
        )
    if found.lora != expected.lora:
        here = "; ".join(
            f"{digits} (scale {scale:g}, {os.path.abspath(file)!r})"
            for (digits, scale), (file, _) in zip(found.lora, files.adapters, strict=True)
        )
        raise ValueError(
            f"The adapters are others than in fit: expected the fingerprints {of_fit}, found {here or 'none'}. "
            f"{_way_out('lora')}"
        )
    return files


def _describe(path, adapters):
    states = _states(path, adapters)
    return ModelFiles(path, adapters, fingerprints(path, adapters), states)


def _way_out(name):
    locate = ", anywhere inside other estimators skmlmc.locate_model(est, PATH)" if name == "model" else ""
    return (
        f"Where the same file lies elsewhere, name the place: est.set_params({name}=...), in a pipeline "
        f"pipe.set_params(step__{name}=...){locate}. To use another one, fit again."
    )


def _found(resolve, name, value, expected):
    try:
        return resolve(value)
    except (FileNotFoundError, ValueError) as error:
        kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
        raise kind(
            f"{error} Got {name}={value!r}{_relative(value)} but expected what fit found, with the fingerprint "
            f"{expected}. {_way_out(name)}"
        ) from error


def _relative(value):
    path = isinstance(value, (str, os.PathLike)) and not str(value).startswith("hf:")
    relative = path and not Path(value).expanduser().is_absolute()
    return f", relative to the working folder {os.getcwd()!r}," if relative else ""


def nested_estimators(estimator: Any) -> Iterator[Any]:
    """Yield an estimator and all those inside it: parameters and fitted parts, each once."""
    todo, seen = [estimator], set()
    while todo:
        part = todo.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, dict):
            todo += part.values()
        elif isinstance(part, (list, tuple)):
            todo += part
        elif isinstance(part, BaseEstimator):
            yield part
            todo += vars(part).values()


def asks_a_model(estimator: Any) -> bool:
    """Whether an estimator has this package's engine parameters."""
    return hasattr(estimator, "model") and hasattr(estimator, "kv_dtype")


def check_models(estimator: Any) -> None:
    """Raise what the next use would, where a fitted estimator or a part of it has lost its model file."""
    for part in nested_estimators(estimator):
        if asks_a_model(part) and fitted_with(part) is not None:
            find_files(part.model, part.lora, fitted_with(part))


def locate_model(estimator: Any, model: str | os.PathLike | None = None) -> Any:
    """Check the model files behind a fitted estimator now, or say where a moved one lies.

    A loaded estimator looks at its model file when it is first used. This looks at once, and changes the place in
    all fitted parts, which ``set_params`` does not reach in a fitted `GridSearchCV` or `ColumnTransformer`.

    Parameters
    ----------
    estimator : estimator
        Fitted: a `GGUFClassifier`, an extractor, or anything with some of them inside.
    model : str, path-like or None, default=None
        New place of a model file, a value for the parameter `model`. It is given to all parts that were fitted with
        that file, wherever it lay, and to unfitted ones that shared their `model`. None: nothing is changed.

    Returns
    -------
    estimator
        The same object.

    Raises
    ------
    FileNotFoundError
        A file is missing.
    ValueError
        A file is another one than in ``fit``, or nothing was fitted with the file `model`.
    NotFittedError
        Nothing in `estimator` was fitted with a model.

    Examples
    --------
    >>> import joblib
    >>> from skmlmc import StepwiseExtractor, locate_model
    >>> _ = joblib.dump(StepwiseExtractor(labels=["joy", "fear"]).fit(), "extractor.joblib")
    >>> extractor = locate_model(joblib.load("extractor.joblib"))  # or: locate_model(..., "/srv/models/model.gguf")
    """
    parts = [part for part in nested_estimators(estimator) if asks_a_model(part)]
    fitted = [part for part in parts if fitted_with(part) is not None]
    if not fitted:
        raise NotFittedError(
            f"Nothing in this {type(estimator).__name__} is known to have been fitted with a model file. Expected a "
            "fitted estimator with a GGUFClassifier or an extractor in it: call fit first."
        )
    check_models(fitted if model is None else _move(parts, fitted, model))
    return estimator


def _move(parts, fitted, model):
    """Give the fitted parts of that file its new place, and the unfitted ones beside them; returns the fitted ones."""
    path = resolve_model(model, embeds=None)
    found = fingerprints(path).model
    moved = [part for part in fitted if part.model_fingerprint_ == found]
    if not moved:
        expected = ", ".join(sorted({part.model_fingerprint_ for part in fitted}))
        raise ValueError(
            f"Nothing was fitted with the file {os.path.abspath(path)!r}: expected the fingerprint {expected}, found "
            f"{found}. Name the file that was used in fit, or fit again."
        )
    old = [part.model for part in moved]
    for part in moved + [part for part in parts if fitted_with(part) is None and part.model in old]:
        part.model = model
    return moved
