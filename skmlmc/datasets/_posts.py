"""Loaders of posts with emotions or moral foundations: Reddit, Stack Overflow, and SemEval-2018 Task 1."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from .._utils.checks import check_choice
from .._utils.docs import PAPER
from ._annotators import annotator_distribution
from ._fetching import documented_fetch, getter
from ._reading import documented_loader, gather, make_bunch, malformed, read_csv, read_lines, soft_bunch

# The order of the owner's emotions.txt, whose line numbers the aggregated files hold; "neutral" is none of them.
EMOTIONS = (
    "admiration amusement anger annoyance approval caring confusion curiosity desire disappointment disapproval "
    "disgust embarrassment excitement fear gratitude grief joy love nervousness optimism pride realization relief "
    "remorse sadness surprise"
).split()
NEUTRAL = "neutral"
GROUPS = {
    "admiration": ("admiration", "pride", "gratitude", "relief", "approval", "realization"),
    "anger": ("anger", "disgust", "annoyance", "disapproval"),
    "fear": ("fear", "nervousness"),
    "joy": ("joy", "amusement", "excitement", "love"),
    "optimism": ("optimism", "desire", "caring"),
    "sadness": ("sadness", "remorse", "embarrassment", "disappointment", "grief"),
    "surprise": ("surprise", "confusion", "curiosity"),
}
GROUP_OF = {emotion: group for group, emotions in GROUPS.items() for emotion in emotions}
RATERS = "https://storage.googleapis.com/gresearch/goemotions/data/full_dataset/goemotions_{}.csv"
AGGREGATED = "https://raw.githubusercontent.com/google-research/google-research/{}/goemotions/data/{}.tsv"
COMMITS = {
    "train": "2adf640a14f11025ae5a9d0ec493b78530d276d3",
    "dev": "2adf640a14f11025ae5a9d0ec493b78530d276d3",
    "test": "b91598b43297db06cca27a29fe2d0442dffea029",
}

GOEMOTIONS = f"""GoEmotions: English Reddit comments with 27 emotions; "neutral" counts as none of them.

Use it for many labels that are seldom chosen together and on which raters often differ; the groups make them few
enough for a short prompt.

Rater files (the default): one row a rater. Ratings marked `example_very_unclear` chose no label and are left out, and
with them comments nobody could rate; of two ratings of one rater the first counts. Aggregated files: the labels that
at least two raters chose, of the comments where there are such labels, in the official training, development and test
sets. Groups: a group is chosen where one of its emotions is.

Origin: https://github.com/google-research/google-research/tree/master/goemotions, Apache-2.0.
D. Demszky, D. Movshovitz-Attias, J. Ko, A. Cowen, G. Nemade, S. Ravi. GoEmotions: A Dataset of Fine-Grained Emotions.
ACL 2020. The seven groups:
{PAPER}.
"""

FOUNDATIONS = ("care", "proportionality", "equality", "purity", "authority", "loyalty")
NO_FOUNDATION = ("non-moral", "thin morality")
MFRC_URL = "https://huggingface.co/datasets/USC-MOLA-Lab/MFRC/resolve/ddc21d2f03e156732fd1ba95a51c4c29f07975be/final_mfrc_data.csv"
MFRC = """Moral Foundations Reddit Corpus: English Reddit comments with six moral foundations.

Use it for a judgement on which people differ by their values, not by their care.

"Non-Moral" and "Thin Morality" count as none of them. The file has no ids: a document is a text, its id the number of
its first row, and of two answers of one annotator the first counts.

Origin: https://huggingface.co/datasets/USC-MOLA-Lab/MFRC, CC BY 4.0.
J. Trager et al. The Moral Foundations Reddit Corpus. arXiv 2208.05545, 2022.
"""

STACKOVERFLOW_URL = (
    "https://raw.githubusercontent.com/collab-uniba/EmotionDatasetMSR18/d6a679f39a198fdb0657a6116d35dd7b92496898/"
    "Emotions_GoldSandard_andAnnotation.xlsx"
)
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


@documented_fetch(GOEMOTIONS, 'X, H = fetch_goemotions(subset="train", groups=True, return_X_y=True)')
def fetch_goemotions(
    *,
    subset: str = "all",
    groups: bool = False,
    aggregated: bool = False,
    data_home: Any = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
    as_frame: bool = False,
    n_retries: int = 3,
    delay: float = 1.0,
) -> Any:
    """Load GoEmotions: Reddit comments with 27 emotions, or 7 groups of them.

    {description}

    Parameters
    ----------
    subset : {"all", "train", "dev", "test"}, default="all"
        The official sets; rater files also hold comments that are in none of these.
    groups : bool, default=False
        Pool the emotions to seven groups, as the paper does.
    aggregated : bool, default=False
        Load the owners' aggregated labels (5 MB) instead of every rater's answers (43 MB). The target is then an
        indicator, and there are no annotations.
    data_home : path, default=None
        Folder of scikit-learn's data sets; files go to ``skmlmc/goemotions`` in it.
    {fetch_sections}
    """
    subset = check_choice(subset, "subset", ["all", "train", "dev", "test"])
    get = getter("goemotions", data_home, download_if_missing, n_retries, delay)
    labels = list(GROUPS) if groups else EMOTIONS
    rows: list = []
    if aggregated or subset != "all":
        for part in COMMITS if subset == "all" else [subset]:
            rows += _read_aggregated(get(AGGREGATED.format(COMMITS[part], part)), groups)
    if aggregated:
        texts, annotations, ids = gather(rows)
        y = annotator_distribution(annotations, labels).majority
        return make_bunch(texts, None, labels, ids, GOEMOTIONS, target=y, return_X_y=return_X_y, as_frame=as_frame)
    files = [get(RATERS.format(k)) for k in (1, 2, 3)]
    ratings: Any = (row for file in files for row in _read_raters(file, groups))
    if subset != "all":
        place = {document: i for i, (document, *_) in enumerate(rows)}
        ratings = sorted((row for row in ratings if row[0] in place), key=lambda row: place[row[0]])
    return soft_bunch(ratings, labels, GOEMOTIONS, return_X_y=return_X_y, as_frame=as_frame)


def _read_aggregated(file: Path, groups: bool):
    """Yield id, text, a name for the raters together and the chosen labels of every line."""
    for number, line in read_lines(file):
        fields = line.split("\t")
        numbers = fields[1].split(",") if len(fields) == 3 else []
        if not numbers or not all(k.isdecimal() and int(k) <= len(EMOTIONS) for k in numbers):
            raise malformed(file, number, "text, tab, numbers of emotions (0 to 27), tab, comment id", line)
        emotions = [EMOTIONS[int(k)] for k in numbers if int(k) < len(EMOTIONS)]
        yield fields[2], fields[0], "aggregated", _pool(emotions, groups)


def _read_raters(file: Path, groups: bool):
    """Yield id, text, rater and chosen labels of every rating."""
    columns = ["text", "id", "rater_id", "example_very_unclear", *EMOTIONS, NEUTRAL]
    for number, row in read_csv(file, columns):
        wrong = [name for name in EMOTIONS if row[name] not in ("0", "1")]
        if wrong or row["example_very_unclear"] not in ("True", "False"):
            raise malformed(file, number, "0 or 1 for every emotion and True or False for unclear", row)
        if row["example_very_unclear"] == "False":
            yield row["id"], row["text"], row["rater_id"], _pool([e for e in EMOTIONS if row[e] == "1"], groups)


def _pool(emotions: list[str], groups: bool) -> list[str]:
    return sorted({GROUP_OF[emotion] for emotion in emotions}) if groups else emotions


@documented_fetch(MFRC, "bunch = fetch_mfrc()")
def fetch_mfrc(
    *,
    data_home: Any = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
    as_frame: bool = False,
    n_retries: int = 3,
    delay: float = 1.0,
) -> Any:
    """Load the Moral Foundations Reddit Corpus: Reddit comments with six moral foundations.

    {description}

    Parameters
    ----------
    data_home : path, default=None
        Folder of scikit-learn's data sets; the file (16 MB) goes to ``skmlmc/mfrc`` in it.
    {fetch_sections}
    """
    get = getter("mfrc", data_home, download_if_missing, n_retries, delay)
    rows = _read_mfrc(get(MFRC_URL))
    return soft_bunch(rows, FOUNDATIONS, MFRC, return_X_y=return_X_y, as_frame=as_frame)


def _read_mfrc(file: Path):
    """Yield id, text, annotator and chosen labels of every row; the id is the number of the text's first row."""
    first: dict[str, int] = {}
    for i, (number, row) in enumerate(read_csv(file, ["text", "annotator", "annotation"])):
        answer = [label.strip().casefold() for label in row["annotation"].split(",")]
        unknown = [label for label in answer if label not in FOUNDATIONS + NO_FOUNDATION]
        if unknown:
            raise malformed(file, number, f"labels among {FOUNDATIONS + NO_FOUNDATION}", unknown[0])
        document = first.setdefault(row["text"], i)
        yield document, row["text"], row["annotator"], [label for label in answer if label in FOUNDATIONS]


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
    rows = _read_stackoverflow(get(STACKOVERFLOW_URL))
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
