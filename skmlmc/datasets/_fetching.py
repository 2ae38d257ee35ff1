"""Files from the web, kept in a folder: whole and with the right checksum, or not at all."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import partial
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.error import HTTPError

from sklearn.datasets import fetch_file, get_data_home

from .._utils.warning import warn
from ._reading import T, documented_loader

# What the docstrings of all `fetch_*` say from these parameters on.
FETCH_SECTIONS = """download_if_missing : bool, default=True
        Raise OSError instead of downloading.
    {pair_or_frame}
    n_retries : int, default=3
        How often to try a download again.
    delay : float, default=1.0
        Seconds between tries.

    Returns
    -------
    {bunch}

    Raises
    ------
    OSError
        A file cannot be had; the message names it and where to put it.
    ValueError
        A malformed file; the place in it is named.

    Examples
    --------
    >>> from skmlmc.datasets import {function}
    >>> {example}  # doctest: +SKIP"""


def documented_fetch(descr: str, example: str) -> Callable[[T], T]:
    """Make a decorator that fills the docstring of a fetcher; `example` is a call, such as ``bunch = fetch_me()``."""
    function = example.partition(" = ")[2].partition("(")[0]
    return documented_loader(descr, fetch_sections=FETCH_SECTIONS, function=function, example=example)


def data_folder(data_home: str | os.PathLike | None, name: str) -> Path:
    """Return the folder of the data set `name` inside scikit-learn's data home, making it if needed."""
    folder = Path(get_data_home(data_home)) / "skmlmc" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def getter(name: str, data_home: Any, download_if_missing: bool, n_retries: int, delay: float) -> Callable[..., Path]:
    """Return `fetch` for the files of the data set `name`, with what its fetcher was given."""
    folder = data_folder(data_home, name)
    return partial(fetch, folder=folder, download_if_missing=download_if_missing, n_retries=n_retries, delay=delay)


def fetch(
    url: str,
    folder: Path,
    *,
    sha256: str | None = None,
    download_if_missing: bool = True,
    n_retries: int = 3,
    delay: float = 1.0,
) -> Path:
    """Return the path of a file in `folder`, named as the last part of the URL, after a download if it is not there.

    A download is moved there only when it is whole. A file without the checksum `sha256`, if known, is set aside.
    """
    for what, value in (("n_retries", n_retries), ("delay", delay)):
        if value < 0:
            raise ValueError(f"Got {what}={value!r} but expected 0 or more.")
    path = folder / url.rsplit("/", 1)[-1]
    if path.exists():
        if sha256 is None or _checksum(path) == sha256:
            return path
        warn(
            f"{path} has another checksum than the owner's file. It is kept as {_set_aside(path, path).name} and not "
            "used.",
        )
    by_hand = f"Put what {url} gives into the folder {folder} under the name {path.name}; it is used from there."
    if not download_if_missing:
        raise OSError(f"Data not found and `download_if_missing` is False: {path} is missing. {by_hand}")
    with TemporaryDirectory(prefix=f"{path.name}.", dir=folder) as room:
        try:
            arrived = fetch_file(url, folder=room, local_filename=path.name, n_retries=n_retries, delay=delay)
        except (OSError, HTTPException) as error:
            if isinstance(error, HTTPError):
                error.close()  # it holds the open answer of the server
            raise OSError(f"Could not download {url} ({error!r}). {by_hand}") from error
        if sha256 is not None and (found := _checksum(arrived)) != sha256:
            raise OSError(
                f"Expected {path.name} with the SHA-256 checksum {sha256}, but {url} gave {found}. What came is kept "
                f"as {_set_aside(arrived, path)} and not used. Try again later; the owner may have changed the file."
            )
        os.replace(arrived, path)
    return path


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()  # of a few MB: larger files have no known checksum


def _set_aside(file: Path, path: Path) -> Path:
    aside = path.with_name(f"{path.name}.wrong-checksum")
    os.replace(file, aside)
    return aside
