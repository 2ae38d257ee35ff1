"""Loaders of data sets on hate and abuse: HateXplain, ConvAbuse and HS-Brexit."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from .._utils.checks import check_choice
from ._fetching import data_folder, documented_fetch, getter
from ._reading import malformed, read_csv, read_json, soft_bunch

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

CONVABUSE_URL = (
    "https://raw.githubusercontent.com/amandacurry/convabuse/c0a9469f48956e868276c605d499010ea3c7c0d0/"
    "1_full/ConvAbuseEMNLPfull.csv"
)
CONVABUSE_TURNS = (("Agent", "prev_agent"), ("User", "prev_user"), ("Agent", "agent"), ("User", "user"))
CONVABUSE_TASKS = {
    "all": ("type.", "target.", "direct"),
    "type": ("type.",),
    "target": ("target.",),
    "direction": ("direct",),
    "severity": ("is_abuse.",),
}
SEVERITY = {
    "1": "not abusive",
    "0": "ambiguous",
    "-1": "mildly abusive",
    "-2": "strongly abusive",
    "-3": "very strongly abusive",
}
CONVABUSE = """ConvAbuse: what users said to two conversational agents, with type, target and direction of abuse.

Use it for documents with context, and for several kinds of labels (type, target, direction) in one answer.

Annotators labelled these only where they saw abuse, so none of the labels is also "no abuse". A document is the last
four turns of a conversation (its id is the number of its first row); the same turns from several conversations are one
document. The file holds repeated answers, made to measure how far annotators agree with themselves: the first one of
an annotator counts. Severity: each annotator chose one of five classes, so it is a single-label task.

Origin: https://github.com/amandacurry/convabuse, CC BY 4.0. Some of the texts are abusive.
A. Cercas Curry, G. Abercrombie, V. Rieser. ConvAbuse: Data, Analysis, and Benchmarks for Nuanced Abuse Detection in
Conversational AI. EMNLP 2021.
"""

HS_BREXIT_URL = (
    "https://raw.githubusercontent.com/Le-Wi-Di/le-wi-di.github.io/37ed47e84d3709a3eb08c67dd3c65d0f934e2b9c/"
    "data_post-competition.zip"
)
HS_BREXIT_LABELS = {
    "hate": None,
    "aggressive": "aggressive language detection",
    "offensive": "offensive language detection",
}
HS_BREXIT = """HS-Brexit: 1,120 English tweets on Brexit, hateful, aggressive or offensive to each of six annotators.

Use it for annotators' distributions without gaps, since all six saw every tweet, and for two groups that differ.

Annotators 1 to 3 are Muslim immigrants in the UK (the target group), 4 to 6 a control group. An id is the subset and
the owner's number in it. Three answers are "No" in the files, which is read as 0.

Origin: https://le-wi-di.github.io, data of SemEval-2023 Task 11. Some of the texts are abusive.
S. Akhtar, V. Basile, V. Patti. Whose Opinions Matter? Perspective-aware Models to Identify Opinions of Hate Speech
Victims in Abusive Language Detection. arXiv 2106.15896, 2021.
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


@documented_fetch(CONVABUSE, 'bunch = fetch_convabuse(task="type")')
def fetch_convabuse(
    *,
    task: str = "all",
    context: bool = True,
    data_home: Any = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
    as_frame: bool = False,
    n_retries: int = 3,
    delay: float = 1.0,
) -> Any:
    """Load ConvAbuse: users' turns in conversations with agents, and how abusive annotators found them.

    {description}

    Parameters
    ----------
    task : {"all", "type", "target", "direction", "severity"}, default="all"
        Which labels: seven types, three targets, two directions (explicit, implicit), or "all" twelve of them, several
        of which may be right; or one of five classes of severity.
    context : bool, default=True
        Texts are the last four turns, a line each; False: the user's last turn alone.
    data_home : path, default=None
        Folder of scikit-learn's data sets; the file (2.5 MB) goes to ``skmlmc/convabuse`` in it.
    {fetch_sections}
    """
    task = check_choice(task, "task", list(CONVABUSE_TASKS))
    get = getter("convabuse", data_home, download_if_missing, n_retries, delay)
    names, rows = _read_convabuse(get(CONVABUSE_URL), task, context)
    return soft_bunch(rows, names, CONVABUSE, return_X_y=return_X_y, as_frame=as_frame)


def _read_convabuse(file: Path, task: str, context: bool):
    """Return the label names, and id, text, annotator and chosen labels of every row."""
    first: dict[tuple, str] = {}
    names: dict[str, str] = {}
    rows = []
    for number, row in read_csv(file, ["example_no", "annotator_id", *(column for _, column in CONVABUSE_TURNS)]):
        if not names:
            columns = [column for column in row if column.startswith(CONVABUSE_TASKS[task])]
            names = {column: column.split(".", 1)[1] for column in columns}
            if task == "severity":
                names = {column: SEVERITY[level] for column, level in names.items()}
        if not names or any(row[column] not in ("0", "1") for column in names):
            raise malformed(file, number, f"0 or 1 in columns that begin with {CONVABUSE_TASKS[task]}", row)
        document = first.setdefault(tuple(row[column] for _, column in CONVABUSE_TURNS), row["example_no"])
        # The owners write _ for a turn that was not there.
        turns = [f"{who}: {row[column]}" for who, column in CONVABUSE_TURNS if row[column] != "_"]
        text = "\n".join(turns) if context else row["user"]
        rows.append((document, text, row["annotator_id"], [names[c] for c in names if row[c] == "1"]))
    return list(names.values()), rows


@documented_fetch(HS_BREXIT, "X, H = fetch_hs_brexit(return_X_y=True)")
def fetch_hs_brexit(
    *,
    subset: str = "all",
    data_home: Any = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
    as_frame: bool = False,
    n_retries: int = 3,
    delay: float = 1.0,
) -> Any:
    """Load HS-Brexit: tweets that each of six annotators found hateful, aggressive, offensive or none of these.

    {description}

    Parameters
    ----------
    subset : {"all", "train", "dev", "test"}, default="all"
        The sets of SemEval-2023 Task 11.
    data_home : path, default=None
        Folder of scikit-learn's data sets; the archive goes to ``skmlmc/hs_brexit`` in it. Files such as
        ``HS-Brexit_train.json`` that lie there already are read instead.
    {fetch_sections}
    """
    subset = check_choice(subset, "subset", ["all", "train", "dev", "test"])
    folder = data_folder(data_home, "hs_brexit")
    get = getter("hs_brexit", data_home, download_if_missing, n_retries, delay)
    rows: list = []
    for part in ["train", "dev", "test"] if subset == "all" else [subset]:
        file = folder / f"HS-Brexit_{part}.json"
        tweets = read_json(file) if file.exists() else _read_member(get(HS_BREXIT_URL), file.name)
        for name, tweet in tweets.items():
            rows += _read_tweet(file.name, f"{part}-{name}", tweet)
    return soft_bunch(rows, list(HS_BREXIT_LABELS), HS_BREXIT, return_X_y=return_X_y, as_frame=as_frame)


def _read_member(archive: Path, name: str) -> dict:
    """Return the JSON object that the archive holds under `name` in any folder."""
    try:
        with zipfile.ZipFile(archive) as members:
            found = [path for path in members.namelist() if path.rsplit("/", 1)[-1] == name]
            if not found:
                raise ValueError(f"{archive}: expected an archive with {name}, but it is not in there.")
            return read_json(f"{archive}/{found[0]}", members.read(found[0]).decode("utf-8"))
    except zipfile.BadZipFile as error:
        raise ValueError(f"{archive}: expected a whole zip archive, but could not read it ({error}).") from error


def _read_tweet(file: str, name: str, tweet: Any):
    """Yield id, text, annotator and chosen labels of every answer on one tweet."""
    try:
        others = tweet["other_info"]["other annotations"]
        values = {
            label: (tweet["annotations"] if field is None else others[field]).split(",")
            for label, field in HS_BREXIT_LABELS.items()
        }
        annotators = tweet["annotators"].split(",")
        if any(len(column) != len(annotators) or not set(column) <= {"0", "1", "No"} for column in values.values()):
            raise ValueError("other than 0 or 1 (or No) for each annotator")
        text = tweet["text"]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{file}: expected {name!r} to have text, annotators and as many annotations, comma-separated 0 and 1, but "
            f"found {error!r}."
        ) from error
    for i, annotator in enumerate(annotators):
        yield name, text, annotator, [label for label, column in values.items() if column[i] == "1"]
