"""Loader of HateXplain: posts with hate, and whom they are about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .._utils.checks import check_choice
from ._fetching import documented_fetch, getter
from ._reading import read_json, soft_bunch

HATEXPLAIN_URL = (
    "https://raw.githubusercontent.com/hate-alert/HateXplain/01d742279dac941981f53806154481c0e15ee686/Data/{}"
)
HATEXPLAIN_CLASSES = ("hatespeech", "normal", "offensive")
HATEXPLAIN = """HateXplain: English posts of Twitter and Gab, by class and by target group, from three annotators each.

Use it for labels that a text names (the groups), or beside them for a single-label task on the same texts (the class).

The text is the owners' tokens, joined by spaces. Class: each annotator chose one of hatespeech, normal and offensive,
so use the single-label forms of methods and metrics. Targets: the groups that a post is about; "None" is none of them.
The columns are the groups found in the whole file, in alphabetical order, the same in every subset; some are rare. Of
two answers of one annotator the first counts.

Origin: https://github.com/hate-alert/HateXplain, MIT. Some of the texts are abusive.
B. Mathew, P. Saha, S. M. Yimam, C. Biemann, P. Goyal, A. Mukherjee. HateXplain: A Benchmark Dataset for Explainable
Hate Speech Detection. AAAI 2021.
"""


@documented_fetch(HATEXPLAIN, 'bunch = fetch_hatexplain(task="class", subset="test")')
def fetch_hatexplain(
    *,
    task: str = "targets",
    subset: str = "all",
    data_home: Any = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
    as_frame: bool = False,
    n_retries: int = 3,
    delay: float = 1.0,
) -> Any:
    """Load HateXplain: posts with target groups (multi-label) or with a class (single-label).

    {description}

    Parameters
    ----------
    task : {"targets", "class"}, default="targets"
        "targets": groups that a post is about, several may be right. "class": hatespeech, normal or offensive.
    subset : {"all", "train", "val", "test"}, default="all"
        The official sets.
    data_home : path, default=None
        Folder of scikit-learn's data sets; files (12 MB) go to ``skmlmc/hatexplain`` in it.
    {fetch_sections}
    """
    task = check_choice(task, "task", ["targets", "class"])
    subset = check_choice(subset, "subset", ["all", "train", "val", "test"])
    get = getter("hatexplain", data_home, download_if_missing, n_retries, delay)
    file = get(HATEXPLAIN_URL.format("dataset.json"))
    posts = read_json(file)
    chosen = list(posts)
    if subset != "all":
        sets = get(HATEXPLAIN_URL.format("post_id_divisions.json"))
        chosen = read_json(sets)[subset]
        missing = [post for post in chosen if post not in posts]
        if missing:
            raise ValueError(f"{file}: expected every post of the {subset} set, but {missing[0]!r} is not there.")
    answers = {post: list(_read_post(file, post, posts[post], task)) for post in posts}
    labels = sorted({label for rows in answers.values() for *_, answer in rows for label in answer})
    rows = (row for post in chosen for row in answers[post])
    names = HATEXPLAIN_CLASSES if task == "class" else labels
    return soft_bunch(rows, names, HATEXPLAIN, return_X_y=return_X_y, as_frame=as_frame)


def _read_post(file: Path, name: str, post: Any, task: str):
    """Yield id, text, annotator and chosen labels of every answer on one post."""
    try:
        text = " ".join(post["post_tokens"])
        answers = [(str(one["annotator_id"]), one["label"], list(one["target"])) for one in post["annotators"]]
        if not answers or any(label not in HATEXPLAIN_CLASSES for _, label, _ in answers):
            raise ValueError("no annotators, or a label other than " + ", ".join(HATEXPLAIN_CLASSES))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{file}: expected {name!r} to have post_tokens and annotators with annotator_id, label and target, but "
            f"found {error!r}."
        ) from error
    for annotator, label, targets in answers:
        groups = sorted({target for target in targets if target != "None"})
        yield name, text, annotator, [label] if task == "class" else groups
