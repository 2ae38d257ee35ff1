"""How long documents are read in chunks, as the estimators' `truncation` says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy.special import expit

from .._utils.checks import check_choice, check_positive_int

CHUNK_POOLINGS = ("max", "mean", "noisy_or", "log_odds")
NEARLY = 1e-12  # how far probabilities stay away from 0 and 1 where their logarithms are summed


@dataclass(frozen=True)
class Chunks:
    """How a document that does not fit is read in chunks: their size, what they share, and how they are pooled.

    For ``truncation=Chunks(...)``; ``truncation="chunk"`` is ``Chunks()``. A chunk ends with a paragraph where one ends
    in its second half, else with a sentence, else with a word. A document that fits is one chunk, with the numbers
    that it has without. Each chunk is a document to the result cache.

    Parameters
    ----------
    size : int or None, default=None
        Tokens that a chunk may have, without those around it in the prompt. None: as many as fit the context.
    overlap : int, default=0
        At most so many tokens of a chunk are read again at the begin of the next one, whole sentences where they fit.
        Less than `size`.
    pooling : {"max", "mean", "noisy_or", "log_odds"}, default="max"
        How chunks' label probabilities become the document's. "max": the largest. "mean": weighted with the chunks'
        tokens. "noisy_or": that a label is in any of the chunks, ``1 - prod(1 - p)``, as if they said so independently.
        "log_odds": the log-odds are summed; those of the answer's first step where that is what the method reads
        ("compare_to_none"). Hidden states and embeddings are always averaged, weighted with tokens.

    Raises
    ------
    ValueError
        A size is no whole number or too small, or the pooling is unknown.

    Examples
    --------
    >>> from skmlmc import Chunks, GGUFClassifier
    >>> long = "We won!!! I miss her so much. " * 10
    >>> clf = GGUFClassifier(labels=["joy", "sadness"], truncation=Chunks(size=40, overlap=10, pooling="mean"))
    >>> clf.fit().predict_proba([long]).shape
    (1, 2)
    >>> Chunks(size=40, overlap=40)
    Traceback (most recent call last):
    ...
    ValueError: Got overlap=40 but expected fewer tokens than a chunk has: less than 40.
    """

    size: int | None = None
    overlap: int = 0
    pooling: str = "max"

    def __post_init__(self):
        if self.size is not None:
            check_positive_int(self.size, "size")
        if self.overlap != 0 or isinstance(self.overlap, bool):
            check_positive_int(self.overlap, "overlap")
        check_choice(self.pooling, "pooling", CHUNK_POOLINGS)
        self.check_overlap(self.size)

    def check_overlap(self, size: int | None) -> None:
        """Raise ValueError where chunks of so many tokens have no room for the overlap."""
        if size is not None and self.overlap >= size:
            raise ValueError(
                f"Got overlap={self.overlap} but expected fewer tokens than a chunk has: less than {size}."
            )


Truncation: TypeAlias = str | Chunks | None


def chunks_of(truncation: Truncation) -> Chunks | None:
    """Return how a `truncation` reads documents in chunks; None where it does not.

    Examples
    --------
    >>> chunks_of("chunk") == Chunks(), chunks_of("end")
    (True, None)
    """
    if isinstance(truncation, Chunks):
        return truncation
    return Chunks() if isinstance(truncation, str) and truncation == "chunk" else None


def pool_chunks(rows: np.ndarray, weights: np.ndarray, how: str, multi_label: bool = True) -> np.ndarray:
    """Pool a document's chunks, a row each, as `Chunks` says; with ``multi_label=False`` the sum stays 1.

    Of one chunk it is the row as it is.

    Examples
    --------
    >>> pool_chunks(np.array([[0.5, 0.1], [0.5, 0.3]]), np.ones(2), "noisy_or")
    array([0.75, 0.37])
    """
    if len(rows) == 1:
        return rows[0]
    if how == "mean":
        return np.average(rows, axis=0, weights=weights).astype(rows.dtype)
    if how == "log_odds":
        near = rows.clip(NEARLY, 1 - NEARLY)
        summed = (np.log(near) - (np.log1p(-near) if multi_label else 0)).sum(axis=0)
        pooled = expit(summed) if multi_label else np.exp(summed - summed.max())
    else:
        pooled = rows.max(axis=0) if how == "max" else 1 - np.prod(1 - rows, axis=0)
    return pooled if multi_label else pooled / pooled.sum()
