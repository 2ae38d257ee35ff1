"""Demonstrations that lie near a document: a retriever of scikit-learn, and which of its finds are shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import Pipeline, make_pipeline

LOOK_AT = 4  # times as many near documents as are shown: among them are other label sets


def is_nearest(demonstrations: Any) -> bool:
    """Whether an estimator's `demonstrations` differ from document to document."""
    return hasattr(demonstrations, "fit") or (isinstance(demonstrations, str) and demonstrations == "nearest")


def is_drawn(demonstrations: Any) -> bool:
    """Whether an estimator's `demonstrations` are found among the documents in ``fit``, and not given."""
    return isinstance(demonstrations, str) or is_nearest(demonstrations)


def make_retriever(demonstrations: Any) -> Any:
    """Return an unfitted retriever: a clone of the one given as `demonstrations`, or the default one.

    TypeError where it cannot say what is near.
    """
    if isinstance(demonstrations, str):
        words = TfidfVectorizer(token_pattern=r"\b\w+\b", sublinear_tf=True)
        return make_pipeline(words, NearestNeighbors(metric="cosine"))
    if isinstance(demonstrations, type) or not hasattr(_divide(demonstrations)[1], "kneighbors"):
        raise TypeError(
            f"Got demonstrations={demonstrations!r:.200} but expected a retriever: an estimator with fit and "
            "kneighbors that takes texts, or a pipeline that ends with one, such as make_pipeline(TfidfVectorizer(), "
            "NearestNeighbors(metric='cosine'))."
        )
    return clone(demonstrations)


def _divide(retriever):
    """Return what comes before the step that has ``kneighbors``, None where there is nothing, and that step."""
    if not isinstance(retriever, Pipeline):
        return None, retriever
    return (retriever[:-1] if len(retriever) > 1 else None), retriever[-1]


def choose_nearest(
    retriever: Any, shown: Sequence[tuple[str, tuple[int, ...]]], texts: Sequence[str], shots: int
) -> Iterator[list[int]]:
    """Yield for each text which of the documents `shown`, on which the retriever was fitted, it gets as demonstrations.

    A text is never shown itself, nor its copies. At most half of the demonstrations have one and the same label set, as
    far as there are others among the ``4 * shots`` nearest. The nearest comes last.
    """
    front, last = _divide(retriever)
    documents = np.array(texts, dtype=object)
    features = documents if front is None else front.transform(documents)
    copies = Counter(text for text, _ in shown)
    for i, text in enumerate(texts):
        n = min(len(shown), LOOK_AT * shots + copies[text])
        # One by one: in a product of matrices the others would decide about ties.
        found = last.kneighbors(features[i : i + 1], n_neighbors=n, return_distance=False)[0]
        near = [int(row) for row in found if shown[row][0] != text]
        yield _mix(near, [shown[row][1] for row in near], shots)[::-1]


def _mix(near, label_sets, shots):
    """Return the nearest of which at most half have the same labels, and where these are too few the next ones.

    Examples
    --------
    >>> _mix([7, 3, 5, 1], [(0,), (0,), (0,), (1,)], 3)
    [7, 3, 1]
    """
    seen: Counter = Counter()
    first: list[int] = []
    others: list[int] = []
    for row, labels in zip(near, label_sets, strict=True):
        (first if seen[labels] < (shots + 1) // 2 else others).append(row)
        seen[labels] += 1
    chosen = {*first[:shots], *others[: max(0, shots - len(first))]}
    return [row for row in near if row in chosen]
