"""Loaders of posts with emotions: Stack Overflow, and SemEval-2018 Task 1."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from ._fetching import documented_fetch, getter
from ._reading import documented_loader, make_bunch, malformed, read_lines, soft_bunch

STACKOVERFLOW_URL = (
    "https://raw.githubusercontent.com/collab-uniba/EmotionDatasetMSR18/HEAD/Emotions_GoldSandard_andAnnotation.xlsx"
)
STACKOVERFLOW_SHA256 = "29f667701227fc3f1ffc005c5d5364c30f24476005baac23fff8338dbd2f0179"
STACKOVERFLOW_LABELS = ("anger", "fear", "joy", "love", "sadness", "surprise")
STACKOVERFLOW = """Emotions in Stack Overflow: 4,800 questions, answers and comments with six emotions.

Use it for technical texts, most of which have no emotion. Each of the four groups of 1,200 posts was annotated by its
own three raters. The workbook has a sheet for each emotion; a post's id is its group, set and number in the set.

Origin: https://github.com/collab-uniba/EmotionDatasetMSR18; cite the paper.
N. Novielli, F. Calefato, F. Lanubile. A Gold Standard for Emotion Annotation in Stack Overflow. MSR 2018.
"""

SEMEVAL_LABELS = ("anger anticipation disgust fear joy love optimism pessimism sadness surprise trust").split()
SEMEVAL = """SemEval-2018 Task 1 E-c: English tweets with eleven emotions, aggregated labels.

Use it for many labels a text; without single annotators' answers it says nothing about disagreement.
The tweets may not be passed on; get them from the task's CodaLab page.
S. M. Mohammad, F. Bravo-Marquez, M. Salameh, S. Kiritchenko. SemEval-2018 Task 1: Affect in Tweets. SemEval 2018.
"""


@documented_fetch(STACKOVERFLOW, "bunch = fetch_stackoverflow_emotions()")
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

    {description}

    Parameters
    ----------
    data_home : path, default=None
        Folder of scikit-learn's data sets; the file (1.5 MB) goes to ``skmlmc/stackoverflow_emotions`` in it. It is a
        workbook, for which pandas and openpyxl are needed.
    {fetch_sections}
    """
    get = getter("stackoverflow_emotions", data_home, download_if_missing, n_retries, delay)
    rows = _read_stackoverflow(get(STACKOVERFLOW_URL, sha256=STACKOVERFLOW_SHA256))
    return soft_bunch(rows, STACKOVERFLOW_LABELS, STACKOVERFLOW, return_X_y=return_X_y, as_frame=as_frame)


def _read_stackoverflow(file: Path):
    """Yield id, text, rater and chosen labels; the emotions of one post stand in as many sheets."""
    columns = ["Group", "Set", "Text", "rater 1", "rater 2", "rater 3"]
    sheets = {f"{label.capitalize()}_all": label for label in STACKOVERFLOW_LABELS}
    posts: dict[str, tuple[str, dict[str, list[str]]]] = {}
    for sheet, table in _read_workbook(file, list(sheets)).items():
        if not set(columns) <= set(table.columns):
            raise malformed(file, 1, f"a header with {columns} in the sheet {sheet}", list(table.columns))
        numbers = table.groupby(["Group", "Set"]).cumcount() + 1
        rows = zip(numbers, table[columns].itertuples(index=False, name=None), strict=True)
        for line, (number, (group, part, content, *marks)) in enumerate(rows, start=2):
            chosen = [mark.strip().casefold() for mark in marks]
            if not set(chosen) <= {"", "x"}:
                raise malformed(file, line, f"x or nothing from every rater in the sheet {sheet}", marks)
            post = f"{group}-{part}-{number}"
            text, answers = posts.setdefault(post, (content, {f"{group}-rater{k}": [] for k in (1, 2, 3)}))
            if text != content:
                raise malformed(file, line, f"the text of {post} in the sheet {sheet} as in others", content)
            for answer, mark in zip(answers.values(), chosen, strict=True):
                answer += [sheets[sheet]] if mark else []
    for post, (text, answers) in posts.items():
        for rater, answer in answers.items():
            yield post, text, rater, answer


def _read_workbook(file: Path, sheets: list[str]) -> dict[str, Any]:
    """Return a DataFrame of str for each sheet, by the header in its first row; empty cells are ""."""
    try:
        import pandas as pd

        return pd.read_excel(file, sheet_name=sheets, dtype=str, keep_default_na=False, engine="openpyxl")
    except ImportError as error:
        raise ImportError(
            f"Reading {file} needs pandas and openpyxl ({error}): `pip install pandas openpyxl`."
        ) from error
    except (zipfile.BadZipFile, KeyError, ElementTree.ParseError, ValueError) as error:
        raise ValueError(
            f"{file}: expected a whole .xlsx workbook with the sheets {sheets}, but could not read it ({error})."
        ) from error


@documented_loader(SEMEVAL)
def load_semeval2018(path: Any, *, return_X_y: bool = False, as_frame: bool = False) -> Any:
    r"""Load a file of SemEval-2018 Task 1 E-c that you have: tweets with eleven emotions.

    {description}

    Parameters
    ----------
    path : path
        Tab-separated UTF-8 text with the header ID, Tweet and the emotions, such as ``2018-E-c-En-train.txt``.
    {pair_or_frame}

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
        {descr_and_frame}

    Raises
    ------
    ValueError
        A malformed file; its line is named.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from skmlmc.datasets import load_semeval2018
    >>> emotions = "anger anticipation disgust fear joy love optimism pessimism sadness surprise trust".split()
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder, "2018-E-c-En-train.txt")
    ...     rows = ["ID", "Tweet", *emotions], ["2017-En-1", "What a day", *"00001100000"]
    ...     _ = file.write_text("\n".join("\t".join(row) for row in rows))
    ...     X, y = load_semeval2018(file, return_X_y=True)
    >>> X, y
    (['What a day'], array([[0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0]]))
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
