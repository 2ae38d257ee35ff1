"""Cheap checks of texts, labels and parameters, made before anything expensive runs."""

from __future__ import annotations

import numbers
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.model_selection import GroupKFold, KFold, check_cv
from sklearn.utils import check_random_state

from .arrays import as_list, check_not_empty, check_unmasked, column_names, describe, first_repeated

# Characters of other categories that show nothing: joiners, fillers, variation selectors, an empty Braille cell.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
LONGEST_WORDING = 10_000  # characters; tokenised in every place where an answer may have it


def is_number(value: Any) -> bool:
    """Return whether `value` is a real number, and not a bool."""
    return isinstance(value, numbers.Real) and not isinstance(value, (bool, np.bool_))


def is_missing(value: Any) -> bool:
    """Return whether `value` is None, NaN or the missing value of pandas."""
    # pandas.NA is recognised by name, so that pandas stays optional.
    return (
        value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value)
    )


def check_texts(X: Any, name: str = "X") -> list[str]:
    """Return the documents as a list of plain str, in order; empty ones are allowed.

    `X` is a list, tuple, 1-D ndarray, Series (pandas, polars) or pyarrow array. TypeError or ValueError, which call it
    `name`, where it is no ordered collection, empty or two-dimensional, or an element is missing, no str or not
    encodable.
    """
    expected = f"Expected {name} to be a list, 1-D array or Series of str, one element a document"
    if isinstance(X, (str, bytes, bytearray)):
        raise TypeError(f"{expected}, but got a single {type(X).__name__}. Put it in a list: [{name}].")
    columns = column_names(X)
    if columns is not None:
        column = next(iter(columns), "text")
        example = f"{name}[{column!r}], and in a ColumnTransformer {column!r} instead of [{column!r}]"
        raise ValueError(f"{expected}, but got a {type(X).__name__}. Select the column of texts, e.g. {example}.")
    check_unmasked(X, name)
    if len(getattr(X, "shape", ())) > 1:
        raise ValueError(f"{expected}, but got {describe(X)}. Select the column of texts, e.g. {name}[:, 0].")
    texts = as_list(X)
    if texts is None:
        raise TypeError(f"{expected}, but got {describe(X)}. Make it a list first, in the order of the documents.")
    check_not_empty(len(texts), name)
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            hint = "Drop missing texts or replace them with ''." if is_missing(text) else "Convert it to str first."
            raise TypeError(f"{expected}, but element {i} is {text!r:.40} of type {type(text).__name__}. {hint}")
        check_encodes(text, f"{name} to be texts", f"element {i}")
    return [str.__str__(text) for text in texts]  # plain str from np.str_ and other subclasses


def check_encodes(text: str, expected: str, what: str) -> None:
    """Raise ValueError when UTF-8 cannot encode `text`: no tokenizer could read it.

    For the message, `expected` says whose text it is ("X to be texts"), and `what` which one ("element 3").
    """
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"Expected {expected} that UTF-8 can encode, but {what} has {error.object[error.start]!r} at "
            f"character {error.start}. Clean it, e.g. text.encode('utf-8', 'replace').decode()."
        ) from error


def check_labels(labels: Any, none_label: str = "none") -> dict[str, str]:
    """Return label names, or a mapping from name to wording in the prompt, as an ordered dict from name to wording.

    TypeError or ValueError where `labels` is no ordered collection or mapping, there are fewer than two, or one of them
    or `none_label`, the answer for "no label", is no str, blank, repeated, very long or nothing that UTF-8 can encode.
    """
    expected = "Expected labels to be a sequence of at least two names, or a mapping of name to wording"
    if not isinstance(none_label, str) or not none_label.strip():
        raise ValueError(f"Got none_label={none_label!r} but expected a str that is not blank, such as 'none'.")
    check_encodes(none_label, "none_label to be a text", "it")
    _check_length(none_label, "none_label")
    names = list(labels) if isinstance(labels, Mapping) else as_list(labels)
    if names is None:
        raise TypeError(f"{expected}, but got labels={labels!r:.80}. Write e.g. labels=['joy', 'anger'].")
    if len(names) < 2:
        raise ValueError(f"{expected}, but got {len(names)}: {names!r}. Write a single question as two labels.")
    wordings = [labels[name] for name in names] if isinstance(labels, Mapping) else names
    for what, values in (("name", names), ("wording", wordings)):
        _check_words(what, values, none_label)
    if len(set(names)) < len(names):
        raise ValueError(f"Expected different label names, but {first_repeated(names)!r} comes twice. Remove one.")
    keys = [wording.strip().casefold() for wording in wordings]
    if len(set(keys)) < len(keys):
        raise ValueError(
            f"Expected labels with different wordings, but {first_repeated(keys)!r} comes twice (upper case and outer "
            "spaces do not count: a model's spellings of one label are combined). Reword one."
        )
    _check_look(names, "name")
    _check_look([*wordings, none_label], "wording")
    return {str.__str__(name): str.__str__(wording) for name, wording in zip(names, wordings, strict=True)}


def check_descriptions(descriptions: Any, labels: Sequence[str]) -> tuple[str, ...]:
    """Return the description of each label, "" where it has none; no element where no label has one.

    TypeError or ValueError where `descriptions` is no mapping from some of the label names to texts that say something.

    Examples
    --------
    >>> check_descriptions({"joy": "happy, delighted"}, ["anger", "joy"])
    ('', 'happy, delighted')
    """
    if descriptions is None:
        return ()
    expected = "expected a mapping from label to text, such as descriptions={'joy': 'happy, delighted'}"
    if not isinstance(descriptions, Mapping):
        raise TypeError(f"Got descriptions={descriptions!r:.80} but {expected}.")
    given = {str(label): text for label, text in descriptions.items()}  # of classes that are numbers
    unknown = [label for label in given if label not in labels]
    if unknown:
        raise ValueError(f"Got descriptions of {unknown}, which are no labels, but {expected}: one of {list(labels)}.")
    for label, text in given.items():
        if not isinstance(text, str):
            raise TypeError(f"Got {text!r:.40} as the description of {label!r} but {expected}.")
        if not text.strip():
            raise ValueError(f"Got the blank description {text!r} of {label!r} but {expected}. Leave the label out.")
        check_encodes(text, "descriptions to be texts", f"that of {label!r}")
    texts = tuple(str.__str__(given.get(label, "")) for label in labels)
    return texts if given else ()


def _check_look(words: list, what: str) -> None:
    """Raise ValueError where two of `words` look alike: composed and decomposed letters, marks that have no width."""
    seen: dict[str, str] = {}
    for word in words:
        shown = (c for c in unicodedata.normalize("NFKC", word) if unicodedata.category(c) != "Cf")
        looks = " ".join(_INVISIBLE.sub("", "".join(shown)).split())
        if looks in seen:
            a, b = (" ".join(f"U+{ord(c):04X}" for c in text) for text in (seen[looks], word))
            raise ValueError(
                f"Expected labels that a reader can tell apart, but two {what}s look like {looks!r}: {a} and {b}. They "
                "differ in how letters are composed, in spaces, or in characters without width. Remove one."
            )
        seen[looks] = word


def _check_words(what: str, values: list, none_label: str) -> None:
    for i, value in enumerate(values):
        if not isinstance(value, str):
            raise TypeError(f"Expected every label {what} to be a str, but {what} {i} is {value!r:.40}.")
        if not value.strip():
            raise ValueError(f"Expected label {what}s that are not blank, but {what} {i} is {value!r}.")
        check_encodes(value, f"label {what}s", f"{what} {i}")
        _check_length(value, f"label {what} {i}")
        if value.strip().casefold() == none_label.strip().casefold():
            raise ValueError(
                f"Label {what} {i}, {value!r}, is the same as none_label={none_label!r}, which stands for no label at "
                "all. Leave it out of labels, or choose another none_label."
            )


def _check_length(word: str, what: str) -> None:
    if len(word) > LONGEST_WORDING:
        raise ValueError(
            f"Got a {what} of {len(word)} characters but expected a few words, at most {LONGEST_WORDING} characters: "
            "map the name to a short wording, labels={name: wording}."
        )


def check_threshold(
    threshold: Any, labels: Sequence[str], name: str = "threshold", inside: bool = False
) -> float | np.ndarray:
    """Return the decision threshold as a float, or as one float64 a label (L,), in the order of `labels`.

    A mapping, or the index of a Series, names every label. TypeError or ValueError, which call the parameter `name`,
    where the threshold is not made of numbers in [0, 1], with `inside` in (0, 1), or there is not one for each label.
    """
    labels, span = list(labels), "(0, 1)" if inside else "[0, 1]"
    expected = f"expected a number in {span}, {len(labels)} of them (one a label) or a mapping from label to number"
    check_unmasked(threshold, name)
    if hasattr(threshold, "iloc") and any(isinstance(name, str) for name in threshold.index):
        threshold = dict(threshold.items())  # a Series whose index names the labels
    values = threshold
    if isinstance(threshold, Mapping):
        threshold = {str(label): value for label, value in threshold.items()}  # of classes that are numbers
        missing = [label for label in labels if label not in threshold]
        unexpected = [label for label in threshold if label not in labels]
        if missing or unexpected:
            raise ValueError(f"Got a {name} mapping but {expected}; missing: {missing}, unexpected: {unexpected}.")
        values = [threshold[label] for label in labels]
    elif not is_number(threshold):
        values = as_list(threshold)
        if values is None:
            raise TypeError(f"Got {name}={threshold!r:.60} but {expected}.")
        if len(values) != len(labels):
            raise ValueError(f"Got a {name} of {len(values)} numbers but {expected}.")
    for value in values if isinstance(values, list) else [values]:
        if not is_number(value):
            raise TypeError(f"Got {name}={threshold!r:.60} but {expected}; {value!r} is no number.")
        if not 0 <= value <= 1 or (inside and value in (0, 1)):
            raise ValueError(f"Got {name}={threshold!r:.60} but {expected}; {value!r} is outside {span}.")
    return np.array(values, dtype=np.float64) if isinstance(values, list) else float(values)


def check_positive_int(value: Any, name: str, or_else: str = "") -> int:
    """Return `value` as an int of at least 1, or raise ValueError naming the parameter `name` (`or_else` it may be)."""
    is_int = isinstance(value, numbers.Integral) and not isinstance(value, (bool, np.bool_))
    if not is_int or value < 1:
        raise ValueError(f"Got {name}={value!r} but expected a positive integer{or_else}.")
    return int(value)


def check_positive(value: Any, name: str, upper: float = np.inf) -> float:
    """Return `value` as a float in (0, `upper`), or raise ValueError naming the parameter `name`."""
    if not is_number(value) or not 0 < value < upper:
        expected = "a finite number above 0" if upper == np.inf else f"a number between 0 and {upper:g}, both excluded"
        raise ValueError(f"Got {name}={value!r} but expected {expected}.")
    return float(value)


def check_choice(value: Any, name: str, choices: Sequence[Any]) -> Any:
    """Return `value` if it is one of `choices`, or raise ValueError naming the parameter `name`."""
    if isinstance(value, np.generic):  # parameters drawn from an array
        value = value.item()
    for choice in choices:
        if value is choice or (isinstance(value, type(choice)) and value == choice):
            return choice
    raise ValueError(f"Got {name}={value!r} but expected one of {', '.join(map(repr, choices))}.")


def check_seed(value: Any, name: str = "random_state") -> np.random.RandomState:
    """Return the generator of a `random_state`, or raise ValueError naming the parameter `name`."""
    try:
        return check_random_state(value)
    except (TypeError, ValueError) as error:  # TypeError: scikit-learn below 1.8 cannot print a tuple
        raise ValueError(
            f"Got {name}={value!r:.60} but expected None, a whole number from 0 to 2**32 - 1 or a RandomState."
        ) from error


def check_splits(
    cv: Any, X: Any, y: Any, classifier: bool = False, groups: Any = None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the rows that each split of the parameter `cv` trains on and holds out, or raise ValueError naming it.

    With `classifier` a number of parts is stratified by the classes in `y`, as scikit-learn does; with `groups` none of
    these is divided.

    Examples
    --------
    >>> [(train.tolist(), test.tolist()) for train, test in check_splits(2, list("abcd"), None)]
    [([2, 3], [0, 1]), ([0, 1], [2, 3])]
    """
    rows, given = np.arange(len(X)), cv
    expected = f"expected a number of parts from 2 to the {len(X)} documents, a splitter, or pairs of rows"
    try:
        if groups is not None and isinstance(cv, numbers.Integral):
            cv = GroupKFold(min(int(cv), max(2, len(np.unique(groups)))))
        splits = [
            (rows[train], rows[test]) for train, test in check_cv(cv, y, classifier=classifier).split(X, y, groups)
        ]
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"Got cv={given!r:.200} but {expected} to train on and to hold out: {error}") from error
    if not splits or not all(len(part) for split in splits for part in split):
        got = "one with an empty side" if splits else "no split at all"
        raise ValueError(f"Got cv={given!r:.200}, {got}, but {expected} to train on and to hold out.")
    return splits


def shuffled_splits(cv: Any, X: Any, y: Any, groups: Any = None) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the splits of `cv` as `check_splits` does, a number of parts shuffled, and no more parts than documents.

    Examples
    --------
    >>> [test.tolist() for _, test in shuffled_splits(5, list("abcd"), None)]
    [[2], [3], [1], [0]]
    """
    if isinstance(cv, numbers.Integral) and not isinstance(cv, bool) and groups is None:
        cv = KFold(max(2, min(check_positive_int(cv, "cv"), len(X))), shuffle=True, random_state=0)
    return check_splits(cv, X, y, groups=groups)
