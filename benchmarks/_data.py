"""Data that the benchmarks read: annotated documents by name, and who is tested and who is fitted on."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from skmlmc import datasets


@dataclass(frozen=True)
class Source:
    """Where annotated documents come from, and what their labels are."""

    fetch: Callable | None = None
    wording: str = "labels"
    field: str = "annotations"
    single: bool = False
    paper: str = "GoEmotions"
    same: bool = False


def hatexplain(task, data_home=None):
    """Read the validation and test set of HateXplain: the paper's test documents and enough others to fit on."""
    parts = [datasets.fetch_hatexplain(task=task, subset=name, data_home=data_home) for name in ("val", "test")]
    first, second = parts
    return Bunch(
        data=[*first.data, *second.data],
        target=np.concatenate([first.target, second.target]),
        target_names=first.target_names,
        ids=[*first.ids, *second.ids],
        annotations=[*first.annotations, *second.annotations],
    )


SOURCES = {
    "stackoverflow_emotions": Source(datasets.fetch_stackoverflow_emotions, "emotions"),
    "goemotions": Source(partial(datasets.fetch_goemotions, groups=True), "emotions", same=True),
    "goemotions_aggregated": Source(
        partial(datasets.fetch_goemotions, groups=True, aggregated=True, subset="test"), "emotions"
    ),
    "goemotions_27": Source(datasets.fetch_goemotions, "emotions"),
    "mfrc": Source(datasets.fetch_mfrc, "moral foundations", paper="MFRC", same=True),
    "hatexplain": Source(partial(hatexplain, "class"), "classes", "class", True, "HateXplain", same=True),
    "hatexplain_targets": Source(partial(hatexplain, "targets"), "target groups", paper="MFRC"),
    "hs_brexit": Source(datasets.fetch_hs_brexit, "kinds of speech", paper="MFRC"),
    "convabuse": Source(datasets.fetch_convabuse, "kinds of abuse", paper="MFRC"),
}


@dataclass(frozen=True)
class Documents:
    """Texts with annotator proportions `H` of shape (n, L), what each annotator said, and what was done to them."""

    texts: list[str]
    H: np.ndarray
    labels: list[str]
    ids: list[str]
    notes: tuple[str, ...] = ()
    annotations: list[dict] | None = None

    def take(self, rows):
        """Return some of them."""
        texts, ids = [self.texts[i] for i in rows], [self.ids[i] for i in rows]
        said = None if self.annotations is None else [self.annotations[i] for i in rows]
        return replace(self, texts=texts, ids=ids, H=self.H[rows], annotations=said)


def load(name, files=None, data_home=None, n_labels=None):
    """Read the documents of a data set, from files of JSON lines where given; labels in alphabetical order."""
    source = SOURCES.get(name, Source())
    if files:
        bunch = datasets.load_annotations(files, field=source.field)
    elif source.fetch is None:
        raise SystemExit(f"Got --data {name} but expected one of {sorted(SOURCES)}, or any name with --file.")
    else:
        bunch = source.fetch(data_home=data_home)
    columns = sorted(range(len(bunch.target_names)), key=lambda k: bunch.target_names[k])
    names, said = [bunch.target_names[k] for k in columns], bunch.get("annotations")
    every = Documents(bunch.data, bunch.target[:, columns], names, bunch.ids, annotations=said)
    return every if n_labels is None else most_frequent(every, n_labels)


def most_frequent(documents, n_labels):
    """Keep the labels that annotators chose most often; documents with others only count as having none."""
    keep = np.sort(np.argsort(-documents.H.mean(axis=0), kind="stable")[:n_labels])
    left = len(documents.labels) - len(keep)
    note = f"The {len(keep)} most frequent labels are kept; the {left} others count as none."
    labels = [documents.labels[k] for k in keep]
    said = documents.annotations and [
        {who: [label for label in answer if label in labels] for who, answer in row.items()}
        for row in documents.annotations
    ]
    notes = (*documents.notes, note) if left else ()
    return replace(documents, H=documents.H[:, keep], labels=labels, notes=notes, annotations=said)


def split(documents, n_test, *, test_ids=None, reserved=0, natural=False, seed=0):
    """Return test documents and all others: the paper's ids where there are, else a balanced draw or a `natural` one.

    So many documents with several labels are `reserved` for demonstrations: where they are rare, a balanced test set
    would take them all.
    """
    rng = np.random.default_rng(seed)
    if natural:
        test = rng.permutation(len(documents.H))[:n_test]
        notes = ["Test documents: drawn at random, labels as frequent as they come."]
    elif test_ids is not None and Path(test_ids).exists():
        wanted = set(Path(test_ids).read_text(encoding="utf-8").split())
        test = np.array([i for i, name in enumerate(documents.ids) if name in wanted], int)
        if len(test) < len(wanted):
            raise SystemExit(f"{test_ids}: {len(wanted) - len(test)} of its {len(wanted)} ids are not in the data.")
        notes = [f"Test documents: the {len(test)} ids in {Path(test_ids).name}, from the paper's code."]
    else:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            several = np.flatnonzero((documents.H > 0.5).sum(axis=1) > 1)
            free = np.setdiff1d(np.arange(len(documents.H)), rng.permutation(several)[:reserved])
            test = free[datasets.paper_split(documents.H[free], n_test=n_test, random_state=seed)[0]]
        aside = min(reserved, len(several))
        kept = f", after {aside} documents with several labels were kept for demonstrations" if aside else ""
        notes = [f"Test documents: drawn by `paper_split`{kept}.", *(str(warning.message) for warning in caught)]
        notes += [] if test_ids is None else [f"No file {Path(test_ids).name} was there, so its ids are not used."]
    tested = {documents.texts[i] for i in test}
    rest = rng.permutation(np.array([i for i, text in enumerate(documents.texts) if text not in tested], int))
    told = replace(documents, notes=(*documents.notes, *notes))
    return told.take(test), told.take(rest)
