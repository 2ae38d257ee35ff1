"""Annotated documents from files: reading with the line named on errors, and the Bunch that every loader returns."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from sklearn.utils import Bunch

from .._utils.arrays import as_list, first_repeated
from .._utils.docs import documented
from ._annotators import annotator_distribution, check_answer, check_names

T = TypeVar("T")

# What the docstrings of loaders share; later lines as far in as in a docstring.
PAIR_OR_FRAME = """return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    as_frame : bool, default=False
        `data` as a pandas Series and `target` as a DataFrame."""
SOFT_BUNCH = """Bunch
        data : list of str, length n
            Texts.
        target : ndarray of shape (n, L)
            Soft targets, the share of a document's annotators who chose each label.
        target_names : list of str, length L
            Label names.
        annotations : list of dict, length n
            The labels each annotator chose, as `annotator_distribution` takes them.
        ids : list of str, length n
            The documents' ids.
        {descr_and_frame}"""
DESCR_AND_FRAME = """DESCR : str
        Description, origin, licence, citation.
    frame : DataFrame
        Text and targets; only with ``as_frame=True``."""

DESCR = """Annotated documents from files of the user.

Each line is a JSON object with a text and the labels that each annotator gave to it.
"""


def documented_loader(descr: str, **texts: str) -> Callable[[T], T]:
    """Make a decorator that fills a loader's docstring: its data set's description, `texts`, and what loaders share."""
    shared = {"bunch": SOFT_BUNCH, "pair_or_frame": PAIR_OR_FRAME, "descr_and_frame": DESCR_AND_FRAME}
    return documented(description=descr.strip(), **texts, **shared)


@documented_loader(DESCR)
def load_annotations(
    path: Any,
    labels: Sequence[str] | None = None,
    *,
    field: str = "annotations",
    return_X_y: bool = False,
    as_frame: bool = False,
) -> Any:
    """Load annotated documents from JSON lines, ``{"id", "text", "annotations": {annotator: [labels]}}``.

    Use it for data of your own, and for data sets that no loader here knows, once they are brought into this form.

    Parameters
    ----------
    path : path or sequence of paths
        Files of UTF-8 lines, a JSON object each or blank. Without "id" the id is "file name:line".
    labels : sequence of str, length L, default=None
        Label names in the order wanted; None: those found, in alphabetical order.
    field : str, default="annotations"
        Where a line has its ``{annotator: labels}``; labels are a list, empty for none, or one str.
    {pair_or_frame}

    Returns
    -------
    {bunch}

    Raises
    ------
    ValueError
        A malformed line, unknown label, annotator twice on a document or none, or id twice; file and line are named.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from skmlmc.datasets import load_annotations
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder, "train.jsonl")
    ...     _ = file.write_text('{"text": "so glad", "annotations": {"ann": ["joy"], "bob": ["joy", "love"]}}')
    ...     bunch = load_annotations(file)
    >>> bunch.target_names, bunch.target
    (['joy', 'love'], array([[1. , 0.5]]))
    >>> bunch.ids
    ['train.jsonl:1']
    """
    names = None if labels is None else check_names(labels)
    rows: dict[str, tuple[str, dict[str, list[str]]]] = {}
    for file in as_list(path) or [path]:
        for number, line in read_lines(file):
            document, text, answers = _parse(file, number, line, field)
            for annotator, answer in answers.items():
                unknown = [] if names is None else [label for label in answer if label not in names]
                if unknown:
                    raise malformed(file, number, f"labels of {names}", f"{unknown[0]!r} of {annotator!r}")
            if document in rows:
                raise malformed(file, number, "an id of its own", f"the id {document!r} again")
            rows[document] = text, answers
    texts, annotations = [text for text, _ in rows.values()], [answers for _, answers in rows.values()]
    return make_bunch(texts, annotations, names, list(rows), DESCR, return_X_y=return_X_y, as_frame=as_frame)


def _parse(file, number, line, field):
    """Return id, text and checked answers of one line."""
    expected = f'a JSON object {{"text": str, "{field}": {{annotator: [labels]}}}}'
    row = parse_json(line, file, number)
    if not isinstance(row, dict) or not isinstance(row.get("text"), str) or not isinstance(row.get(field), dict):
        raise malformed(file, number, expected, line)
    if not row[field]:
        raise malformed(file, number, "at least one annotator (without them there is no soft target)", line)
    try:
        answers = {who: check_answer(answer, f"annotator {who!r}") for who, answer in row[field].items()}
    except TypeError as error:
        raise malformed(file, number, expected, str(error)) from error
    return str(row.get("id", f"{Path(file).name}:{number}")), row["text"], answers


def malformed(file: Any, line: int, expected: str, got: Any) -> ValueError:
    """Return the error of a file that is not as expected, with its name and line."""
    return ValueError(f"{file}, line {line}: expected {expected}, but got {str(got).strip():.160}.")


def _decoded_lines(file):
    """Yield number, from 1, and text of each line; decoded here, not by open, so that a wrong byte has a line."""
    with open(file, "rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise malformed(file, number, "UTF-8 text", error) from error


def read_lines(file: Any) -> Iterator[tuple[int, str]]:
    """Yield number, from 1, and text of the lines of a UTF-8 file that are not blank."""
    return ((number, text.rstrip("\r\n")) for number, text in _decoded_lines(file) if text.strip())


def read_csv(file: Any, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the last line's number and the fields of every row of a CSV file that must have `columns`."""
    reader = csv.DictReader((text for _, text in _decoded_lines(file)), strict=True)
    try:
        missing = [name for name in columns if name not in (reader.fieldnames or [])]
        if missing:
            raise malformed(file, 1, f"a header with the columns {list(columns)}", f"none named {missing}")
        for row in reader:
            if None in row or None in row.values():
                raise malformed(file, reader.line_num, f"{len(reader.fieldnames or [])} fields", "more or fewer")
            yield reader.line_num, row
    except csv.Error as error:
        raise malformed(file, reader.reader.line_num, "a row of comma-separated values", error) from error


def _no_repeats(pairs):
    keys = dict(pairs)
    if len(keys) < len(pairs):
        raise ValueError(f"the key {first_repeated([key for key, _ in pairs])!r} twice")
    return keys


def parse_json(text: str, file: Any, line: int = 1) -> Any:
    """Parse JSON in which no object has a key, such as an annotator, twice."""
    try:
        return json.loads(text, object_pairs_hook=_no_repeats)
    except json.JSONDecodeError as error:
        raise malformed(file, line + error.lineno - 1, "JSON", f"{error.msg} (is the file complete?)") from error
    except ValueError as error:
        raise malformed(file, line, "a JSON object with every key once", error) from error


def read_json(file: Any, text: str | None = None) -> dict[str, Any]:
    """Return the JSON object that a file holds; `text`: its content, where it was read already."""
    found = parse_json(Path(file).read_text(encoding="utf-8") if text is None else text, file)
    if not isinstance(found, dict):
        raise malformed(file, 1, "a JSON object", type(found).__name__)
    return found


def gather(rows: Iterable[tuple[Any, str, Any, list[str]]]) -> tuple[list[str], list[dict], list]:
    """Collect ``(document, text, annotator, labels)`` to texts, answers by annotator, and documents."""
    texts: dict[Any, str] = {}
    annotations: dict[Any, dict[Any, list[str]]] = {}
    for document, text, annotator, answer in rows:
        texts.setdefault(document, text)
        annotations.setdefault(document, {}).setdefault(annotator, answer)  # files repeat some: the first counts
    return list(texts.values()), list(annotations.values()), list(texts)


def soft_bunch(rows: Iterable[tuple[Any, str, Any, list[str]]], labels: Sequence[str], descr: str, **form: Any) -> Any:
    """Return what a loader of annotators' answers returns, from rows as `gather` takes them."""
    texts, annotations, ids = gather(rows)
    return make_bunch(texts, annotations, labels, ids, descr, **form)


def make_bunch(
    texts: list[str],
    annotations: Sequence[Mapping] | None,
    labels: Sequence[str] | None,
    ids: Sequence,
    descr: str,
    *,
    target: np.ndarray | None = None,
    return_X_y: bool = False,
    as_frame: bool = False,
    **more: Any,
) -> Any:
    """Return what a loader returns: a Bunch, or data and target; `target` is by default the soft targets."""
    if not texts:
        raise ValueError("Found no document in the file. Is it the right one, and complete?")
    names = None if labels is None else list(labels)
    if target is None:
        found = annotator_distribution(annotations, names)
        target, names = found.soft, found.labels
    data: Any = texts
    if as_frame:
        import pandas as pd

        data, target = pd.Series(texts, name="text"), pd.DataFrame(target, columns=names)
        more["frame"] = pd.concat([data, target], axis=1)
    if return_X_y:
        return data, target
    if annotations is not None:
        more["annotations"] = list(annotations)
    return Bunch(data=data, target=target, target_names=names, ids=[str(i) for i in ids], DESCR=descr, **more)
