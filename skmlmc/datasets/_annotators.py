"""Annotator aggregation: from the answers of single annotators to soft targets, majorities and agreement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from .._utils.arrays import (
    as_list,
    check_not_empty,
    check_unmasked,
    column_names,
    default_names,
    describe,
    first_repeated,
)
from .._utils.checks import check_choice, is_missing


def annotator_distribution(
    annotations: Any,
    labels: Sequence[str] | None = None,
    *,
    columns: Sequence[str] | None = None,
    tidy: bool = False,
    none_label: str | None = None,
) -> Bunch:
    """Aggregate annotators' answers to soft targets, the majority's label sets and agreement.

    Annotators who did not see a document count neither for nor against a label (paper section 5).

    Parameters
    ----------
    annotations : table, sequence of rows, sequence of mappings, or ndarray of shape (n, A, L)
        One of

        * a long table with a row for each document and annotator: a DataFrame (pandas, polars), a pyarrow table, a
          mapping of columns or a sequence of ``(document, annotator, labels)``; `labels` is a collection of str, or one
          str;
        * with ``tidy=True`` a table of the same kinds, or a sequence of mappings from column to value, with a row for
          each document, annotator and label;
        * a sequence of ``{annotator: labels}``, one a document;
        * an array of 0 and 1 with a row of NaN for every annotator who did not see the document.

        Where an annotator did not see a document, or did not answer, there is no row. An empty collection, or
        `none_label`, is an answer: "none of the labels".
    labels : sequence of str, length L, default=None
        Label names in the order wanted. None: those found, in alphabetical order; for an array "label0", "label1", ...
    columns : sequence of three str, default=None
        Names of the columns of a table; None: "document", "annotator" and "labels", or "label" with ``tidy=True``.
        Other columns do not count.
    tidy : bool, default=False
        Whether a row is one label of an answer, and not the answer: rows of the same document and annotator are then
        put together, and a label that comes twice there counts once.
    none_label : str, default=None
        The word in the answers for "none of the labels", such as "none" or "neutral": how a tidy table states an empty
        answer. It stands alone. None: there is no such word, and all words are labels.

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
        A malformed row or unknown label (its row is named), a missing label, `none_label` beside a label, an annotator
        twice on a document (unless ``tidy=True``), a document without.

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

    The same from a tidy table, in which eve says "none of them":

    >>> table = {
    ...     "text_id": [1, 1, 1, 2, 2],
    ...     "rater": ["ann", "bob", "bob", "ann", "eve"],
    ...     "emotion": ["joy", "joy", "love", "none", "none"],
    ... }
    >>> columns = ("text_id", "rater", "emotion")
    >>> found = annotator_distribution(table, columns=columns, tidy=True, none_label="none")
    >>> found.documents, found.soft.tolist()
    ([1, 2], [[1.0, 0.5], [0.0, 0.0]])
    """
    document, answers, names, documents = read_answers(annotations, labels, columns, tidy, none_label)
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


def read_answers(
    annotations: Any,
    labels: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    tidy: bool = False,
    none_label: str | None = None,
) -> tuple[np.ndarray, np.ndarray, list[str], list]:
    """Return what each annotator answered, of annotations as `annotator_distribution` takes them.

    That is the number (m,) of the document of each answer, the labels in it (m, L) as bool, the labels' names, and the
    documents' ids.
    """
    names = None if labels is None else check_names(labels)
    check_unmasked(annotations, "annotations")
    if len(getattr(annotations, "shape", ())) == 3:
        return _from_array(np.asarray(annotations), names)
    rows = _check_none(_read_rows(annotations, columns, tidy), names, none_label)
    documents = list(dict.fromkeys(row[1] for row in rows))
    position = {key: i for i, key in enumerate(documents)}
    answers, names = _indicators([(where, answer) for where, _, answer in rows], names)
    return np.array([position[row[1]] for row in rows]), answers, names, documents


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


def _read_rows(annotations, columns, tidy):
    """Return ``(where, document, labels)`` of every answer in a table, rows or mappings."""
    check = _check_tidy_rows if check_choice(tidy, "tidy", (True, False)) else _check_rows
    if columns is None:
        columns = ("document", "annotator", "label" if tidy else "labels")
    wanted = as_list(columns)
    if wanted is None or len(wanted) != 3:
        raise ValueError(f"Got columns={columns!r:.80} but expected the names of document, annotator and labels.")
    names = list(annotations) if isinstance(annotations, Mapping) else column_names(annotations)
    if names is not None:
        _check_columns(names, wanted)
        return check(zip(*_columns(annotations, wanted), strict=True), wanted)
    values = as_list(annotations)
    if values is None:
        raise TypeError(
            "Expected annotations to be a table, a sequence of (document, annotator, labels) or of {annotator: "
            f"labels}}, or an array of shape (documents, annotators, labels), but got {describe(annotations)}."
        )
    if not any(isinstance(value, Mapping) for value in values):
        return check(values, wanted)
    return check(_records(values, wanted), wanted) if tidy else _from_mappings(values)


def _check_columns(names, wanted):
    missing = [name for name in wanted if name not in names]
    if missing:
        raise ValueError(
            f"Expected a table with the columns {wanted}, but it has no {missing} among {names}. Name its own with "
            "columns=(document, annotator, labels)."
        )
    for name in wanted:
        if names.count(name) > 1:
            raise ValueError(f"Expected a table with one column {name!r}, but it has {names.count(name)}. Rename one.")


def _columns(table, wanted):
    """Return the three columns of a table as lists."""
    columns: list[list] = []
    for name in wanted:
        column = as_list(table[name])
        if column is None or (columns and len(column) != len(columns[0])):
            got = describe(table[name]) if column is None else f"{len(column)} values and {len(columns[0])} before"
            raise ValueError(f"Expected the column {name!r} to be a list with one value a row, but got {got}.")
        columns.append(column)
    return columns


def _records(values, wanted):
    """Yield the three values of rows that are mappings from column to value."""
    for i, value in enumerate(values):
        if not isinstance(value, Mapping) or any(name not in value for name in wanted):
            raise ValueError(
                f"Row {i}: expected a mapping with the keys {wanted}, but got {value!r:.80}. Name others with columns=."
            )
        yield [value[name] for name in wanted]


def _from_mappings(values):
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


def _checked_ids(values):
    """Yield number, document, annotator and what they say, of rows of three."""
    empty = True
    for i, value in enumerate(values):
        row = as_list(value)
        if row is None or len(row) != 3:
            raise ValueError(f"Row {i}: expected (document, annotator, labels), but got {value!r:.80}.")
        for what, key in (("a document", row[0]), ("an annotator", row[1])):
            if is_missing(key) or not _is_hashable(key):
                raise ValueError(f"Row {i}: expected the id of {what}, but got {key!r:.60}.")
        empty = False
        yield i, *row
    check_not_empty(not empty, "annotations")


def _check_rows(values, columns):
    """Return ``(where, document, labels)`` of every row of a long table."""
    rows: list[tuple] = []
    seen: dict[Any, int] = {}
    for i, document, annotator, answer in _checked_ids(values):
        first = seen.setdefault((document, annotator), i)
        if first != i:
            raise ValueError(
                f"Row {i}: annotator {annotator!r} answers twice on document {document!r}, first in row {first}. Keep "
                "one row, with all labels of the answer in it, or pass tidy=True where every row is one of its labels."
            )
        rows.append((f"Row {i}", document, check_answer(answer, f"Row {i}")))
    return rows


def _check_tidy_rows(values, columns):
    """Return ``(where, document, labels)`` of every answer in a table with one row a label."""
    answers: dict[Any, tuple[str, Any, list[str]]] = {}
    for i, document, annotator, label in _checked_ids(values):
        if is_missing(label):
            column = columns[2]
            raise ValueError(
                f"Row {i}: annotator {annotator!r} of document {document!r} has no label, but {label!r}. Drop the row "
                f"where the annotator did not answer, e.g. table.dropna(subset=[{column!r}]). Where the answer is none "
                f"of the labels, state it with a word: table.fillna({{{column!r}: 'none'}}) and none_label='none'."
            )
        if not isinstance(label, str):
            raise TypeError(
                f"Row {i}: expected one label, a str, but got {label!r:.60}. Tables with a collection in each row are "
                "read with tidy=False."
            )
        if not label.strip():
            raise ValueError(
                f"Row {i}: expected the name of a label, but got {label!r}. Where it means that the answer is none of "
                f"the labels, state it with a word: table.replace({{{columns[2]!r}: {{{label!r}: 'none'}}}}) and "
                "none_label='none'; drop the row where the annotator did not answer."
            )
        given = answers.setdefault((document, annotator), (f"Row {i}", document, []))[2]
        if label not in given:
            given.append(label)
    return list(answers.values())


def _check_none(rows, names, none_label):
    """Return answers, in which `none_label` has become no label."""
    if none_label is None:
        return rows
    if not isinstance(none_label, str) or not none_label.strip() or none_label in (names or ()):
        raise ValueError(f"Got none_label={none_label!r} but expected a word that is not blank and none of the labels.")
    found = []
    for where, document, answer in rows:
        if none_label in answer and len(set(answer)) > 1:
            raise ValueError(
                f"{where}: expected {none_label!r}, which says none of the labels, to stand alone, but document "
                f"{document!r} has the answer {answer}."
            )
        found.append((where, document, [label for label in answer if label != none_label]))
    return found


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
