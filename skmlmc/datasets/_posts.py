"""Loaders of posts with emotions: Stack Overflow, and SemEval-2018 Task 1."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from ._fetching import data_folder, documented_fetch, fetch
from ._reading import gather, make_bunch, malformed, read_lines

__all__ = ["fetch_stackoverflow_emotions", "load_semeval2018"]

STACKOVERFLOW_URL = (
    "https://raw.githubusercontent.com/collab-uniba/EmotionDatasetMSR18/HEAD/Emotions_GoldSandard_andAnnotation.xlsx"
)
STACKOVERFLOW_SHA256 = "29f667701227fc3f1ffc005c5d5364c30f24476005baac23fff8338dbd2f0179"
STACKOVERFLOW_LABELS = ("anger", "fear", "joy", "love", "sadness", "surprise")
STACKOVERFLOW = """Emotions in Stack Overflow: 4,800 questions, answers and comments with six emotions.

Each of the four groups of 1,200 posts was annotated by its own three raters. The workbook has a sheet for each
emotion; a post's id is its group, set and number in the set.

Origin: https://github.com/collab-uniba/EmotionDatasetMSR18; cite the paper.
N. Novielli, F. Calefato, F. Lanubile. A Gold Standard for Emotion Annotation in Stack Overflow. MSR 2018.
"""

SEMEVAL_LABELS = ("anger anticipation disgust fear joy love optimism pessimism sadness surprise trust").split()
SEMEVAL = """SemEval-2018 Task 1 E-c: English tweets with eleven emotions, aggregated labels.

The tweets may not be passed on; get them from the task's CodaLab page.
S. M. Mohammad, F. Bravo-Marquez, M. Salameh, S. Kiritchenko. SemEval-2018 Task 1: Affect in Tweets. SemEval 2018.
"""
MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
LINK = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"


@documented_fetch
def fetch_stackoverflow_emotions(
    *,
    data_home: Any = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
    as_frame: bool = False,
    n_retries: int = 3,
    delay: float = 1.0,
) -> Any:
    """Load the Stack Overflow emotions: 4,800 posts with six emotions from three raters each.

    Parameters
    ----------
    data_home : path, default=None
        Folder of scikit-learn's data sets; the file (1.5 MB) goes to ``skmlmc/stackoverflow_emotions`` in it.
    {fetch_parameters}

    Returns
    -------
    Bunch
        As `fetch_goemotions` returns it: `data`, soft `target` of shape (n, 6), `target_names`, `annotations`, `ids`,
        `DESCR`.

    Raises
    ------
    OSError
        The file cannot be had; the message names it and where to put it.
    ValueError
        A malformed file; sheet and row are named.

    Examples
    --------
    >>> from skmlmc.datasets import fetch_stackoverflow_emotions
    >>> bunch = fetch_stackoverflow_emotions()  # doctest: +SKIP
    """
    file = fetch(
        STACKOVERFLOW_URL,
        data_folder(data_home, "stackoverflow_emotions"),
        sha256=STACKOVERFLOW_SHA256,
        download_if_missing=download_if_missing,
        n_retries=n_retries,
        delay=delay,
    )
    texts, annotations, ids = gather(_read_stackoverflow(file))
    return make_bunch(
        texts, annotations, STACKOVERFLOW_LABELS, ids, STACKOVERFLOW, return_X_y=return_X_y, as_frame=as_frame
    )


def _read_stackoverflow(file: Path):
    """Yield id, text, rater and chosen labels; the emotions of one post stand in as many sheets."""
    columns = ["Group", "Set", "Text", "rater 1", "rater 2", "rater 3"]
    sheets = {f"{label.capitalize()}_all": label for label in STACKOVERFLOW_LABELS}
    posts: dict[str, tuple[str, dict[str, list[str]]]] = {}
    counts: dict[tuple[str, str, str], int] = {}
    for sheet, number, row in _read_workbook(file, list(sheets), columns):
        marks = {f"{row['Group']}-rater{k}": row[f"rater {k}"].strip().casefold() for k in (1, 2, 3)}
        if not set(marks.values()) <= {"", "x"}:
            raise malformed(file, number, f"x or nothing from every rater in the sheet {sheet}", marks)
        where = sheet, row["Group"], row["Set"]
        counts[where] = counts.get(where, 0) + 1
        post = f"{row['Group']}-{row['Set']}-{counts[where]}"
        text, answers = posts.setdefault(post, (row["Text"], {rater: [] for rater in marks}))
        if text != row["Text"]:
            raise malformed(file, number, f"the text of {post} in the sheet {sheet} as in others", row["Text"])
        for rater, mark in marks.items():
            answers[rater] += [sheets[sheet]] if mark else []
    for post, (text, answers) in posts.items():
        for rater, answer in answers.items():
            yield post, text, rater, answer


def _read_workbook(file: Path, names: list[str], columns: list[str]) -> Iterator[tuple[str, int, dict[str, str]]]:
    """Yield sheet, row number and fields, by the header in the first row, of every row."""
    try:
        with zipfile.ZipFile(file) as book:
            links = ElementTree.fromstring(book.read("xl/_rels/workbook.xml.rels"))
            targets = {link.get("Id"): link.get("Target", "") for link in links}
            sheets = ElementTree.fromstring(book.read("xl/workbook.xml")).iter(f"{MAIN}sheet")
            paths = {sheet.get("name"): targets.get(sheet.get(LINK), "") for sheet in sheets}
            missing = [name for name in names if name not in paths]
            if missing:
                raise ValueError(f"{file}: expected a sheet {missing[0]!r}, but got {sorted(map(str, paths))}.")
            strings = [_text(item) for item in ElementTree.fromstring(book.read("xl/sharedStrings.xml"))]
            for name in names:
                sheet = ElementTree.fromstring(book.read(f"xl/{paths[name].removeprefix('/xl/')}"))
                for number, fields in _read_sheet(file, name, sheet, strings, columns):
                    yield name, number, fields
    except (zipfile.BadZipFile, KeyError, ElementTree.ParseError) as error:
        raise ValueError(f"{file}: expected a whole .xlsx workbook, but could not read it ({error}).") from error


def _read_sheet(file, name, sheet, strings, columns):
    header: dict[str, str] = {}
    for row in sheet.iter(f"{MAIN}row"):
        number = int(row.get("r", 0))
        cells = {re.sub(r"\d", "", cell.get("r", "")): _value(cell, strings) for cell in row}
        if not header:
            header = {letters: value for letters, value in cells.items() if value in columns}
            if set(header.values()) != set(columns):
                raise malformed(file, number, f"a header with {columns} in the sheet {name}", list(cells.values()))
            continue
        yield number, {column: cells.get(letters, "") for letters, column in header.items()}


def _text(item) -> str:
    # Phonetic hints (rPh) are no part of a text, so only direct and rich-text runs are read.
    return "".join(t.text or "" for t in [*item.findall(f"{MAIN}t"), *item.findall(f"{MAIN}r/{MAIN}t")])


def _value(cell, strings: list[str]) -> str:
    value = cell.findtext(f"{MAIN}v") or ""
    return strings[int(value)] if value and cell.get("t") == "s" else value


def load_semeval2018(path: Any, *, return_X_y: bool = False, as_frame: bool = False) -> Any:
    """Load a file of SemEval-2018 Task 1 E-c that you have: tweets with eleven emotions.

    Parameters
    ----------
    path : path
        Tab-separated UTF-8 text with the header ID, Tweet and the emotions, such as ``2018-E-c-En-train.txt``.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    as_frame : bool, default=False
        `data` as a pandas Series and `target` as a DataFrame.

    Returns
    -------
    Bunch
        data : list of str, length n
            Tweets.
        target : ndarray of shape (n, 11), int
            Indicator of the aggregated labels.
        target_names : list of str, length 11
            Emotions, in the file's order.
        ids : list of str, length n
            Tweet ids.
        DESCR : str
            Description and citation.
        frame : DataFrame
            Text and targets; only with ``as_frame=True``.

    Raises
    ------
    ValueError
        A malformed file; its line is named.

    Examples
    --------
    >>> from skmlmc.datasets import load_semeval2018
    >>> X, y = load_semeval2018("2018-E-c-En-train.txt", return_X_y=True)  # doctest: +SKIP
    """
    ids, texts, target = [], [], []
    names: list[str] = []
    for number, line in read_lines(path):
        fields = line.split("\t")
        if not names:
            names = fields[2:]
            if fields[:2] != ["ID", "Tweet"] or sorted(names) != SEMEVAL_LABELS:
                raise malformed(path, number, f"the tab-separated header ID, Tweet, {', '.join(SEMEVAL_LABELS)}", line)
            continue
        if len(fields) != len(names) + 2:
            raise malformed(path, number, f"{len(names) + 2} tab-separated fields", f"{len(fields)}: {line}")
        if not set(fields[2:]) <= {"0", "1"}:
            raise malformed(path, number, "0 or 1 for every emotion (test files without labels hold NONE)", fields[2:])
        ids.append(fields[0])
        texts.append(fields[1])
        target.append([int(value) for value in fields[2:]])
    y = np.array(target, dtype=int)
    return make_bunch(texts, None, names, ids, SEMEVAL, target=y, return_X_y=return_X_y, as_frame=as_frame)
