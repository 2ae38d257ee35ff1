"""Files from the web, kept in a folder: whole and with the right checksum, or not at all."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.error import HTTPError

from sklearn.datasets import fetch_file, get_data_home

from .._utils.warning import warn
from ._reading import T, documented_loader

# SHA-256 of the owners' files, by name. MFRC's could not be had where these were taken; its URL names one version.
CHECKSUMS = {
    "goemotions_1.csv": "cac049036bad5d68d1081f72b65f2cc51e4df82af05e3e22cfa747051cac1af3",
    "goemotions_2.csv": "f699ecc5aa425c1720c1d02475f1e41815244b680bd75b282eb770d2c76cd84d",
    "goemotions_3.csv": "467f1e7191af00f2e76cc7f425885c2dc304bea8aff284b10e8c460d22f2e1af",
    "train.tsv": "1c254a142be5c00e80d819b9ae1bbd36d94b2eeb8f4b1271846508d57e57d9c5",
    "dev.tsv": "575489c079c9de1097062a01738f998590d6b7ead66dd1c9fd1d2ba01fd8bc62",
    "test.tsv": "0587b2dd8b27b97352adbfc3fb083d46005c8946657fdc2b1ca8b1cc7f1f8be4",
    "Emotions_GoldSandard_andAnnotation.xlsx": "29f667701227fc3f1ffc005c5d5364c30f24476005baac23fff8338dbd2f0179",
    "dataset.json": "63bb3340fee0ec469b09690d04cb68f7c187787dd8b83807f071892c084967fb",
    "post_id_divisions.json": "c2fb0d89862e7897b11ea3e9380753f15a793482b4b70ad0532dfb1212212835",
    "ConvAbuse_train.json": "f68d9c1e234afaf7e582103daac4e0f362da6418be3ff38e6cce76cfa3b674fc",
    "ConvAbuse_dev.json": "d95f9e740b07076e070ed47a8e010894d7cdbacb3246c89a000c26a17c61a04e",
    "ConvAbuse_test.json": "4a88c6cf2530eb3610bd1e9e7291916ad7fdaedc01dca4e68bcc3e846310afd9",
    "HS-Brexit_train.json": "d204d83c7b1a73f037b3aff36aac61357c08a96f96292a37ac7655eb562d81fb",
    "HS-Brexit_dev.json": "77c17f95985cbb6db47ffcda637e717a9074f2660e15b5c0c1f9006f50da60a7",
    "HS-Brexit_test.json": "24e5e1615818ff6e3b96e50245cfe10636ef8ec0ea51f2c2a60acb68858fd195",
}

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


def getter(name: str, data_home: Any, download_if_missing: bool, n_retries: int, delay: float) -> Callable[[str], Path]:
    """Return `fetch` for the files of the data set `name`, with what its fetcher was given and known checksums."""
    how: dict[str, Any] = {"download_if_missing": download_if_missing, "n_retries": n_retries, "delay": delay}
    folder = data_folder(data_home, name)
    return lambda url: fetch(url, folder, sha256=CHECKSUMS.get(_name(url)), **how)


def _name(url):
    return url.rsplit("/", 1)[-1]


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
    path = folder / _name(url)
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
    return hashlib.sha256(path.read_bytes()).hexdigest()  # 14 MB at most


def _set_aside(file: Path, path: Path) -> Path:
    aside = path.with_name(f"{path.name}.wrong-checksum")
    os.replace(file, aside)
    return aside
