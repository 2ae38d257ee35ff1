"""Annotator aggregation: from the answers of single annotators to soft targets, majorities and agreement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from .._utils.arrays import as_list, check_not_empty, default_names, describe, first_repeated, is_frame
from .._utils.checks import is_missing


def annotator_distribution(
    annotations: Any,
    labels: Sequence[str] | None = None,
    *,
    columns: Sequence[str] = ("document", "annotator", "labels"),
) -> Bunch:
    """Aggregate annotators' answers to soft targets, the majority's label sets and agreement.

    Annotators who did not see a document count neither for nor against a label (paper section 5).

    Parameters
    ----------
    annotations : DataFrame, sequence of rows, sequence of mappings, or ndarray of shape (n, A, L)
        One of

        * a long table with a row for each document and annotator: a DataFrame (pandas, polars) or a sequence of
          ``(document, annotator, labels)``; `labels` is a collection of str, or one str;
        * a sequence of ``{annotator: labels}``, one a document;
        * an array of 0 and 1 with a row of NaN for every annotator who did not see the document.

        An empty collection says "none of the labels".
    labels : sequence of str, length L, default=None
        Label names in the order wanted. None: those found, in alphabetical order; for an array "label0", "label1", ...
    columns : sequence of three str, default=("document", "annotator", "labels")
        Names of the columns of a DataFrame.

    Returns
    -------
    Bunch
        soft : ndarray of shape (n, L)
            Share of the document's annotators who chose each label.
        majority : ndarray of shape (n, L), int
            1 where strictly more than half of them did.
        n_annotators : ndarray of shape (n,), int
            How many annotators the document has.
        disagreement : ndarray of shape (L,)
            Probability that two annotators of a document differ on the label (Krippendorff's observed disagreement);
            NaN if no document has two annotators.
        agreement : ndarray of shape (L,)
            Krippendorff's alpha of the label: 1 is perfect, 0 what chance gives; NaN where everyone gave the same
            answer everywhere or no document has two annotators.
        labels : list of str, length L
            Label names.
        documents : list, length n
            The documents' ids in order of first appearance; positions 0, 1, ... where there are no ids.

    Raises
    ------
    TypeError, ValueError
        A malformed row or unknown label (its row is named), an annotator twice on a document, a document without.

    Notes
    -----
    scikit-learn's ``cohen_kappa_score`` compares two annotators who saw everything; alpha, any number with gaps. It is
    computed as K. Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011) defines it for nominal data.

    Examples
    --------
    >>> from skmlmc.datasets import annotator_distribution
    >>> found = annotator_distribution([{"ann": ["joy"], "bob": ["joy", "love"]}, {"ann": [], "eve": []}])
    >>> found.labels
    ['joy', 'love']
    >>> found.soft
    array([[1. , 0.5],
           [0. , 0. ]])
    >>> found.majority
    array([[1, 0],
           [0, 0]])
    """
    names = None if labels is None else check_names(labels)
    if len(getattr(annotations, "shape", ())) == 3:
        document, answers, names, documents = _from_array(np.asarray(annotations), names)
    else:
        rows = _from_frame(annotations, columns) if is_frame(annotations) else _from_sequence(annotations)
        documents = list(dict.fromkeys(row[1] for row in rows))
        position = {key: i for i, key in enumerate(documents)}
        document = np.array([position[row[1]] for row in rows])
        answers, names = _indicators([(where, answer) for where, _, answer in rows], names)
    n_annotators = np.bincount(document, minlength=len(documents))
    counts = np.zeros((len(documents), len(names)), dtype=int)
    np.add.at(counts, document, answers.astype(int))
    disagreement, agreement = krippendorff(counts, n_annotators)
    return Bunch(
        soft=counts / n_annotators[:, None],
        majority=(2 * counts > n_annotators[:, None]).astype(int),
        n_annotators=n_annotators,
        disagreement=disagreement,
        agreement=agreement,
        labels=names,
        documents=documents,
    )


def krippendorff(counts: np.ndarray, n_annotators: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return observed disagreement and Krippendorff's alpha of each label; NaN where not defined.

    ``counts[i, k]`` of the ``n_annotators[i]`` of document i chose label k. Those alone on a document say nothing.
    """
    paired = n_annotators >= 2
    chosen, n = counts[paired], n_annotators[paired, None]
    total = int(n.sum())
    ones = chosen.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = 2 * (chosen * (n - chosen) / (n - 1)).sum(axis=0) / np.float64(total)
        expected = 2 * ones * (total - ones) / np.float64(total * (total - 1))
        return observed, np.where(expected > 0, 1 - observed / expected, np.nan)


def check_answer(answer: Any, where: str) -> list[str]:
    """Return the labels that one annotator gave to one document, in a list, or raise naming `where`."""
    expected = "a collection of labels, such as ['joy'], or [] for none of them"
    if isinstance(answer, str):
        answer = [answer]
    values = sorted(answer, key=repr) if isinstance(answer, Set) else as_list(answer)
    if values is None:
        hint = " Leave out the rows of annotators who did not see a document." if is_missing(answer) else ""
        raise TypeError(f"{where}: expected {expected}, but got {answer!r:.60}.{hint}")
    for value in values:
        if not isinstance(value, str) or not value.strip():
            raise TypeError(f"{where}: expected {expected}, but got the label {value!r:.60}.")
    return values


def check_names(labels: Any) -> list[str]:
    """Return label names as a list after checking that they are different and not blank."""
    names = list(labels) if isinstance(labels, Mapping) else as_list(labels)
    if not names or not all(isinstance(name, str) and name.strip() for name in names):
        raise TypeError(f"Got labels={labels!r:.80} but expected a sequence of label names, such as ['joy', 'anger'].")
    if len(set(names)) < len(names):
        raise ValueError(f"Expected different label names, but {first_repeated(names)!r} comes twice. Remove one.")
    return names


def _from_frame(frame, columns):
    names = as_list(columns)
    if names is None or len(names) != 3:
        raise ValueError(f"Got columns={columns!r:.80} but expected the names of document, annotator and labels.")
    missing = [name for name in names if name not in list(frame.columns)]
    if missing:
        raise ValueError(
            f"Expected a table with the columns {names}, but it has no {missing} among {list(frame.columns)}. Name "
            "its own with columns=(document, annotator, labels)."
        )
    return _check_rows(zip(*(as_list(frame[name]) for name in names), strict=True))


def _from_sequence(annotations):
    values = as_list(annotations)
    if values is None:
        raise TypeError(
            "Expected annotations to be a DataFrame, a sequence of (document, annotator, labels) or of {annotator: "
            f"labels}}, or an array of shape (documents, annotators, labels), but got {describe(annotations)}."
        )
    if not any(isinstance(value, Mapping) for value in values):
        return _check_rows(values)
    rows = []
    for i, value in enumerate(values):
        if not isinstance(value, Mapping):
            raise TypeError(f"Document {i}: expected a mapping {{annotator: labels}}, but got {value!r:.60}.")
        if not value:
            raise ValueError(f"Document {i} has no annotators. Leave it out: without them it has no soft target.")
        for annotator, answer in value.items():
            where = f"Document {i}, annotator {annotator!r}"
            rows.append((where, i, check_answer(answer, where)))
    return rows


def _check_rows(values):
    """Return ``(where, document, labels)`` of every row of a long table."""
    rows: list[tuple] = []
    seen: dict[Any, int] = {}
    for i, value in enumerate(values):
        row = as_list(value)
        if row is None or len(row) != 3:
            raise ValueError(f"Row {i}: expected (document, annotator, labels), but got {value!r:.80}.")
        document, annotator, answer = row
        for what, key in (("a document", document), ("an annotator", annotator)):
            if is_missing(key) or not _is_hashable(key):
                raise ValueError(f"Row {i}: expected the id of {what}, but got {key!r:.60}.")
        first = seen.setdefault((document, annotator), i)
        if first != i:
            raise ValueError(
                f"Row {i}: annotator {annotator!r} answers twice on document {document!r}, first in row {first}. Keep "
                "one row, with all labels of the answer in it."
            )
        rows.append((f"Row {i}", document, check_answer(answer, f"Row {i}")))
    check_not_empty(len(rows), "annotations")
    return rows


def _is_hashable(key):
    try:
        hash(key)
    except TypeError:
        return False
    return True


def _indicators(answers, names):
    """Turn ``(where, labels)`` into an array (m, L) and the label names."""
    if names is None:
        names = sorted({label for _, answer in answers for label in answer})
        if not names:
            raise ValueError("Found no label in any answer. Pass labels=[...] to say which there are.")
    column = {name: k for k, name in enumerate(names)}
    values = np.zeros((len(answers), len(names)), dtype=bool)
    for i, (where, answer) in enumerate(answers):
        for label in answer:
            if label not in column:
                raise ValueError(f"{where}: unknown label {label!r}; expected one of {', '.join(map(repr, names))}.")
            values[i, column[label]] = True
    return values, names


def _from_array(cube, names):
    if cube.dtype.kind not in "biuf":
        raise TypeError(f"Expected an array of 0, 1 and NaN, but got {describe(cube)} of dtype {cube.dtype}.")
    cube = cube.astype(np.float64)
    check_not_empty(cube.size, "annotations")
    names = default_names(cube.shape[2]) if names is None else names
    if len(names) != cube.shape[2]:
        raise ValueError(f"Expected an array with a label each for the {len(names)} labels, but got {cube.shape}.")
    missing = np.isnan(cube)
    seen = ~missing.all(axis=2)
    wrong = (seen[:, :, None] & missing) | ~(missing | (cube == 0) | (cube == 1))
    if wrong.any():
        i, a, _ = np.argwhere(wrong)[0]
        raise ValueError(
            f"Document {i}, annotator {a}: expected 0 and 1 for every label, or NaN for all of them (did not see the "
            f"document), but got {cube[i, a]}."
        )
    if not seen.any(axis=1).all():
        i = np.flatnonzero(~seen.any(axis=1))[0]
        raise ValueError(f"Document {i} has no annotators. Leave it out: without them it has no soft target.")
    return np.nonzero(seen)[0], cube[seen] == 1, names, list(range(len(cube)))
