"""The shared tasks on learning with disagreement (Le-Wi-Di): one reader, and loaders of HS-Brexit and ConvAbuse."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .._utils.arrays import as_list, first_repeated
from .._utils.checks import check_choice
from .._utils.warning import warn
from ._fetching import documented_fetch, getter
from ._reading import documented_loader, make_bunch, read_json

LEWIDI_URL = (
    "https://raw.githubusercontent.com/Le-Wi-Di/le-wi-di.github.io/45d7b06e4c36b59472d6bdf9281f7f1e395eb0e0/"
    "LeWiDi_2-2023/{0}_dataset/{0}_{1}.json"
)
LEWIDI = "Documents of a Le-Wi-Di task with their annotators' answers, from files of the user."
PARTS = ("train", "dev", "test")
UNANSWERED = ("", "None", "nan")
NUMBER = r"-?\d+(\.\d+)?"

CONVABUSE_TASKS = {
    "type": "ableist homophobic intellectual racist sexist sex_harassment transphobic".split(),
    "target": ["generalised", "individual", "system"],
    "direction": ["explicit", "implicit"],
    "all": "all",
    "severity": None,
}
SEVERITY = dict(zip(("-3", "-2", "-1"), ("very strongly abusive", "strongly abusive", "mildly abusive"), strict=True))
SEVERITY |= {"0": "ambiguous", "1": "not abusive"}
CONVABUSE = """ConvAbuse: what users said to two conversational agents, with type, target and direction of abuse.

Use it for documents with context, and for several kinds of labels (type, target, direction) in one answer.

Annotators labelled these only where they saw abuse, so none of the labels is also "no abuse". A document is the last
four turns of a conversation; an id is the subset and the owner's number in it. Severity: each annotator chose one of
five classes, from the worst to none, so it is a single-label task.

Origin: https://le-wi-di.github.io, data of SemEval-2023 Task 11, CC BY 4.0. Some of the texts are abusive.
A. Cercas Curry, G. Abercrombie, V. Rieser. ConvAbuse: Data, Analysis, and Benchmarks for Nuanced Abuse Detection in
Conversational AI. EMNLP 2021.
"""

SPEECH = {"hate speech": "hate", "aggressive language": "aggressive", "offensive language": "offensive"}
HS_BREXIT = """HS-Brexit: 1,120 English tweets on Brexit, hateful, aggressive or offensive to each of six annotators.

Use it for annotators' distributions without gaps, since all six saw every tweet, and for two groups that differ.

Annotators 1 to 3 are Muslim immigrants in the UK (the target group), 4 to 6 a control group. An id is the subset and
the owner's number in it. Three answers are "No" in the files, which is read as 0.

Origin: https://le-wi-di.github.io, data of SemEval-2023 Task 11. Some of the texts are abusive.
S. Akhtar, V. Basile, V. Patti. Whose Opinions Matter? Perspective-aware Models to Identify Opinions of Hate Speech
Victims in Abusive Language Detection. arXiv 2106.15896, 2021.
"""


@documented_loader(LEWIDI)
def load_lewidi(
    path: Any,
    *,
    tasks: Any = None,
    languages: Any = None,
    context: bool = True,
    return_X_y: bool = False,
    as_frame: bool = False,
) -> Any:
    """Load files of the shared tasks on learning with disagreement (Le-Wi-Di), 2023 and 2025, that you have.

    All data sets of these tasks have that form: MD-Agreement, ArMIS, HS-Brexit and ConvAbuse (SemEval-2023 Task 11),
    CSC, MP, Paraphrase and VariErrNLI (2025).

    A task is yes or no, such as "hate speech detection": its labels are "not hate speech" and "hate speech", of which
    one is right (single-label), and where several such tasks are asked for, each is a label. Or it is a scale: its
    labels are the numbers, in order, of which one is right. Or it has names: several of these labels may be right. Soft
    targets are counted from the answers, so they are not rounded as the files' `soft_label` are; of two answers of one
    annotator the first counts, and an answer "No" is 0.

    Origin: https://le-wi-di.github.io; each data set has owners and a licence of its own.
    E. Leonardelli et al. SemEval-2023 Task 11: Learning With Disagreements (LeWiDi). SemEval 2023.

    Parameters
    ----------
    path : path or sequence of paths
        Files such as ``MD-Agreement_train.json``, of one data set.
    tasks : str or sequence of str, default=None
        Which of the questions that annotators answered: None for the one that the file is about; names of others, such
        as "offensive language"; "all" for all that are yes or no.
    languages : str or sequence of str, default=None
        Only documents in these languages, such as "en"; None: all.
    context : bool, default=True
        A text of several parts, such as post and reply, is a line each; False: the last part alone.
    {pair_or_frame}

    Returns
    -------
    {bunch}
        multi_label : bool
            Whether several labels may be right.
        info : list of dict, length n
            What else the file says of the documents: split, lang, soft_label, other_info, ...

    Raises
    ------
    ValueError
        A file of another form, answers that are not as many as annotators, an unknown task or language; the file and
        the document are named.

    Warns
    -----
    UserWarning
        Documents that nobody answered, as in test files of a running task, are left out.

    Examples
    --------
    >>> import json
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from skmlmc.datasets import load_lewidi
    >>> tweet = {
    ...     "text": "so it goes",
    ...     "annotation task": "irony detection",
    ...     "annotators": "Ann1,Ann2,Ann3,Ann4",
    ...     "annotations": "0,1,0,0",
    ...     "split": "train",
    ... }
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder, "train.json")
    ...     _ = file.write_text(json.dumps({"7": tweet}))
    ...     bunch = load_lewidi(file)
    >>> bunch.ids, bunch.target_names, bunch.target
    (['train-7'], ['not irony', 'irony'], array([[0.75, 0.25]]))
    """
    files = as_list(path) or [path]
    return _load(files, tasks, context, LEWIDI, languages, return_X_y=return_X_y, as_frame=as_frame)


def _load(files, tasks, context, descr, languages=None, rename=None, **form):
    """Return the Bunch of some files; `rename`: other names of labels, those of a whole scale even if not in use."""
    documents = [one for file in files for one in _read(Path(file), context)]
    ids = [one[0] for one in documents]
    if len(set(ids)) < len(ids):
        raise ValueError(f"Expected other documents in every file, but {first_repeated(ids)!r} comes twice in {files}.")
    spoken = sorted({info.get("lang", "") for *_, info in documents})
    wanted = spoken if languages is None else as_list(languages) or [languages]
    wanted = [check_choice(language, "languages", spoken) for language in wanted]
    documents = [one for one in documents if one[3].get("lang", "") in wanted]
    labels, annotations, several = _choose(documents, tasks, rename or {})
    kept = [(one, chosen) for one, chosen in zip(documents, annotations, strict=True) if chosen]
    if len(kept) < len(documents):
        warn(f"{len(documents) - len(kept)} of {len(documents)} documents in {files} have no answers and are left out.")
    texts, ids, answers = [one[1] for one, _ in kept], [one[0] for one, _ in kept], [chosen for _, chosen in kept]
    more = {"multi_label": several, "info": [one[3] for one, _ in kept], **form}
    return make_bunch(texts, answers, labels, ids, descr, **more)


def _read(file: Path, context: bool) -> Iterator[tuple[str, str, dict[tuple[str, str], list[str]], dict]]:
    """Yield id, text, words of the answers by task and annotator, and the other fields of each document."""
    for number, item in read_json(file).items():
        try:
            text, names, more = _text(item.pop("text"), context), item.pop("annotators"), item.get("other_info", {})
            others = more.get("other annotations", more.get("other_annotations", {}))
            answers: dict[tuple[str, str], list[str]] = {}
            for task, given in {item["annotation task"]: item.pop("annotations", None), **others}.items():
                # As many words as names, or an object that says whose they are.
                words = zip(names.split(","), given.split(","), strict=given != "") if isinstance(given, str) else given
                for who, said in words.items() if isinstance(words, dict) else words or ():
                    said = [_plain(word.strip()) for word in str(said).split(",")]
                    if said[0] not in UNANSWERED:
                        answers.setdefault((_short(task), who), said)
            yield f"{item.get('split', file.stem)}-{number}", text, answers, item
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{file}: expected {number!r} to have text, annotation task, annotators and as many annotations, as "
                f"files of the Le-Wi-Di tasks have, but found {error!r}."
            ) from error


def _short(task):
    """Return "hate speech" of "hate speech detection", and "system" of "target.system"."""
    return task.split(" detection")[0].split(".")[-1]


def _text(text, context):
    """Return a text, one of several parts as lines: an object, or JSON in a str, where "_" is no part."""
    try:
        parts = json.loads(text)
    except (TypeError, ValueError):
        parts = text
    if isinstance(parts, dict):
        lines = [f"{name.removeprefix('prev_').capitalize()}: {part}" for name, part in parts.items() if part != "_"]
        text = "\n".join(lines) if context and lines else list(parts.values())[-1]
    if not isinstance(text, str):
        raise TypeError(f"{type(text).__name__} as text")
    return text


def _plain(word):
    """Return a word of an answer, numbers in one spelling: "0.0" is "0"; "No" is too."""
    return f"{float(word):g}" if re.fullmatch(NUMBER, word) else "0" if word == "No" else word


def _choose(documents, tasks, rename):
    """Return labels of some tasks, what each annotator chose in each document, and whether several may be right."""
    main = list(dict.fromkeys(_short(info["annotation task"]) for *_, info in documents))
    if len(main) != 1:
        raise ValueError(f"Expected files of one data set, but got documents of the tasks {main}.")
    words: dict[str, set[str]] = {main[0]: set()}
    for (task, _), said in (pair for one in documents for pair in one[2].items()):
        words.setdefault(task, set()).update(said)
    yes_no = [task for task in words if words[task] <= {"0", "1"}]
    asked = main if tasks is None else yes_no if tasks == "all" else as_list(tasks) or [tasks]
    labels = asked = [check_choice(task, "tasks", list(words)) for task in asked]
    columns, scale = len(asked) > 1, False
    if columns and not set(asked) <= set(yes_no):
        raise ValueError(f"Got tasks={asked} but expected some that are yes or no, {yes_no}, or one other.")
    if not columns:
        rename = {"0": f"not {asked[0]}", "1": asked[0]} if asked[0] in yes_no else rename
        # Soft labels have the numbers of a scale that nobody chose.
        unused = (map(_plain, info.get("soft_label", ())) for *_, info in documents if asked == main)
        found = words[asked[0]].union(rename, *unused)
        scale = all(re.fullmatch(NUMBER, word) for word in found)
        labels = sorted(found, key=float if scale else str)
    annotations: list[dict[str, list[str]]] = [{} for _ in documents]
    for chosen, one in zip(annotations, documents, strict=True):
        for (task, who), said in one[2].items():
            if task in asked:
                said = [task] * (said == ["1"]) if columns else said
                chosen.setdefault(who, []).extend(rename.get(word, word) for word in said)
    return [rename.get(label, label) for label in labels], annotations, not scale


@documented_fetch(CONVABUSE, 'bunch = fetch_convabuse(task="type")')
def fetch_convabuse(
    *,
    task: str = "all",
    subset: str = "all",
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
    subset : {"all", "train", "dev", "test"}, default="all"
        The sets of SemEval-2023 Task 11.
    context : bool, default=True
        Texts are the last four turns, a line each; False: the user's last turn alone.
    data_home : path, default=None
        Folder of scikit-learn's data sets; files such as ``ConvAbuse_train.json`` (5 MB) go to ``skmlmc/convabuse`` in
        it.
    {fetch_sections}
    """
    tasks = CONVABUSE_TASKS[check_choice(task, "task", list(CONVABUSE_TASKS))]
    rename = SEVERITY if task == "severity" else {}
    files = _files("ConvAbuse", subset, getter("convabuse", data_home, download_if_missing, n_retries, delay))
    return _load(files, tasks, context, CONVABUSE, rename=rename, return_X_y=return_X_y, as_frame=as_frame)


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
        Folder of scikit-learn's data sets; files such as ``HS-Brexit_train.json`` (1 MB) go to ``skmlmc/hs_brexit`` in
        it.
    {fetch_sections}
    """
    files = _files("HS-Brexit", subset, getter("hs_brexit", data_home, download_if_missing, n_retries, delay))
    return _load(files, "all", True, HS_BREXIT, rename=SPEECH, return_X_y=return_X_y, as_frame=as_frame)


def _files(name, subset, get):
    check_choice(subset, "subset", ["all", *PARTS])
    return [get(LEWIDI_URL.format(name, part)) for part in PARTS if subset in ("all", part)]
