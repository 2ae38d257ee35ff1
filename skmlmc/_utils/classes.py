"""Classes of single-label tasks: what a one-dimensional `y` holds, and how a prompt names it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.exceptions import DataConversionWarning
from sklearn.preprocessing import LabelEncoder
from sklearn.utils.multiclass import check_classification_targets

from .arrays import as_list, check_not_empty, describe, first_repeated, names_of
from .checks import is_missing
from .labelled import labelled
from .warning import warn

# Functions of scikit-learn that fit an estimator on one column of a table of labels.
BINARISERS = {
    ("sklearn.multiclass", "_fit_binary"): "OneVsRestClassifier (or OneVsOneClassifier, OutputCodeClassifier)",
    ("sklearn.multioutput", "_fit_estimator"): "MultiOutputClassifier",
    ("sklearn.multioutput", "fit"): "ClassifierChain",
}
# Functions of scikit-learn that fit an estimator on the codes of a LabelEncoder in place of the classes.
ENCODERS = {
    ("sklearn.ensemble._base", "_fit_single_estimator"): "VotingClassifier (or StackingClassifier)",
    ("sklearn.model_selection._validation", "_fit_and_predict"): "cross_val_predict (or StackingClassifier)",
}
# Those that make the codes, and where among their variables the encoder is.
ENCODES: dict[tuple[str, str], Callable[[dict], Any]] = {
    ("sklearn.ensemble._voting", "fit"): lambda values: getattr(values.get("self"), "le_", None),
    ("sklearn.ensemble._stacking", "fit"): lambda values: getattr(values.get("self"), "_label_encoder", None),
    ("sklearn.model_selection._validation", "cross_val_predict"): lambda values: values.get("le"),
}


class Classes(NamedTuple):
    """Classes of a task, sorted as scikit-learn sorts them: its metrics take columns to be in that order.

    `values` (L,) are what ``predict`` returns; `wordings` the name of each, as text, with its wording in the prompt;
    `order` the names as the prompt lists them; `codes` (n,) the number of each document's class, None without `y`.
    """

    values: np.ndarray
    wordings: dict[str, str]
    order: list[str]
    codes: np.ndarray | None

    def targets(self) -> np.ndarray | None:
        """0/1 targets (n, L) that know their columns' names, in the prompt's order."""
        if self.codes is None:
            return None
        names = list(self.wordings)
        indicator = np.eye(len(names))[self.codes][:, [names.index(name) for name in self.order]]
        return labelled(indicator, None, self.order, None)


def holds_classes(y: Any, column: bool = False) -> bool:
    """Return whether `y` has one class a document, not a table of labels; with `column` also one column of a table."""
    shape: Any = getattr(y, "shape", ())
    if len(shape) == 2:
        return column and bool(shape[1] == 1)
    values = as_list(_as_array(y))
    return values is not None and not any(
        hasattr(value, "__len__") and not isinstance(value, (str, bytes)) for value in values
    )


def find_classes(y: Any, labels: Any = None, asked: bool = True) -> Classes:
    """Return the classes of a single-label task.

    Parameters
    ----------
    y : array-like of shape (n,) or None
        The class of each document: str, int, bool or a category.
    labels : sequence, mapping of class to wording, or None
        All classes there are, in the order in which a prompt lists them. None: those in `y`. Where `y` holds numbers
        from 0 in their place, these are the codes of a ``LabelEncoder``; a warning says so where they may mean
        something else. Where a tool of scikit-learn calls that makes such codes, `y` is what it made them of.
    asked : bool, default=True
        Whether a model is asked for these classes, so that numbers need a wording.

    Raises
    ------
    TypeError, ValueError
        `y` is no list of classes, one is missing in it, or `labels` does not name one.

    Examples
    --------
    >>> classes = find_classes(["pos", "neg", "pos"], {"pos": "positive", "neg": "negative"})
    >>> classes.values.tolist(), classes.order, classes.codes.tolist()
    (['neg', 'pos'], ['pos', 'neg'], [1, 0, 1])
    >>> classes.wordings
    {'neg': 'negative', 'pos': 'positive'}
    """
    encoder = None
    if y is not None:
        refuse_binarisers()
        y, encoder = _decode(class_vector(y))
    if labels is None:
        if y is None:
            raise ValueError(
                "Got labels=None, which requires y to be passed, but the target y is None: expected class names, "
                "labels=['pos', 'neg'], or the class of each document as y."
            )
        labels = np.unique(y).tolist()
        if asked and y.dtype.kind in "iuf":
            _warn_of_numbers(labels)
    keys = list(labels) if isinstance(labels, Mapping) else as_list(labels)
    if keys is None:
        raise TypeError(f"Got labels={labels!r:.80} but expected a sequence of classes or a mapping to wordings.")
    words = {key: labels[key] if isinstance(labels, Mapping) else str(key) for key in keys}
    if len(words) < len(keys):
        raise ValueError(f"Expected different labels, but {first_repeated(keys)!r} comes twice. Remove one.")
    try:
        ordered = sorted(words)
    except TypeError:
        raise TypeError(f"Expected labels to hold classes of one type, but got {keys!r:.80}.") from None
    if len(words) < 2:
        raise ValueError(
            f"The number of classes has to be greater than one; got 1 class, {keys[0]!r}. Give labels= with all "
            "classes there are, where some are missing in y."
        )
    values, ordered = _class_values(y, ordered, keys, encoder)
    return Classes(
        values=values if encoder is None or encoder.classes is None else _check_codes(encoder, values),
        wordings={str(key): words[key] for key in ordered},
        order=[str(key) for key in keys],
        codes=None if y is None else np.searchsorted(values, y),
    )


def _as_array(y):
    """Return what only numpy can read as its array."""
    return np.asarray(y) if hasattr(y, "__array__") and not hasattr(y, "shape") and as_list(y) is None else y


def as_indicator(estimator: Any, y: Any) -> Any:
    """Return the classes `y` of documents as 0/1 targets (n, L), columns as a fitted classifier has them; else `y`.

    One that was fitted on a table of targets and gives one label a document knows classes by its labels.
    """
    classes: Any = getattr(estimator, "classes_", None)
    if np.ndim(classes) == 2 and not getattr(estimator, "multi_label", True):
        classes = estimator.labels_
    if np.ndim(classes) != 1 or not holds_classes(y):
        return y
    known, y = np.asarray(classes).tolist(), class_vector(y)
    strange = np.setdiff1d(y, known).tolist()
    if strange:
        raise ValueError(f"Expected classes that the classifier was fitted with, {known}, but got {strange[:5]}.")
    return np.eye(len(known))[[known.index(value) for value in y.tolist()]]


def as_targets(estimator: Any, y: Any, name: str = "y") -> Any:
    """As ``as_indicator``, of targets, which may be a table: ValueError where nobody knows the order of its columns."""
    made = as_indicator(estimator, y)
    parts = [estimator, *(part for _, part in getattr(estimator, "steps", ()))]
    labels = next((part.labels for part in parts if getattr(part, "labels", None) is not None), None)
    classes = getattr(parts[-1], "_classes", None)  # of OneVsRestClassifier classes_ may number labels
    if made is y and labels is not None and classes is not None:
        order, names = list(map(str, labels)), list(map(str, classes.tolist()))
        check_class_columns(y, order, names if set(names) == set(order) else sorted(order), name)
    return made


def check_class_columns(values: Any, order: list[str], known: list[str], name: str) -> None:
    """Raise ValueError where columns have no names, so that they may be as in `order`, that of `labels`, or `known`."""
    if values is None or order == known or names_of(values, order, name):
        return
    raise ValueError(
        f"Expected {name} to be a table whose columns are the classes {order}, as labels has them in another order "
        f"than predict_proba, which sorts them. Give e.g. pandas.DataFrame({name}, columns={order})."
    )


def class_vector(y: Any) -> np.ndarray:
    """Return the classes of documents (n,) as an array of one type, or raise a TypeError or ValueError."""
    if len(getattr(y, "shape", ())) == 2:
        warn(
            "A column-vector y was passed when a 1d array was expected: its one column is taken as the classes. Give "
            "a list or a Series, e.g. y.iloc[:, 0] or y.ravel().",
            DataConversionWarning,
        )
        y = np.asarray(y).ravel()
    expected = "Expected y to be the class of each document, such as ['pos', 'neg', ...]"
    y = _as_array(y)
    found = as_list(y)
    if found is None:
        raise TypeError(f"{expected}, but got {describe(y)}.")
    check_not_empty(len(found), "y")
    missing = next((i for i, value in enumerate(found) if is_missing(value)), None)
    if missing is not None:
        raise ValueError(
            f"Input y contains NaN. {expected}, but element {missing} is {found[missing]!r}: leave out documents "
            "without a class."
        )
    if len({_kind(value) for value in found}) > 1:
        names = sorted({type(value).__name__ for value in found})
        raise TypeError(f"{expected}, all of one type, but got {' and '.join(names)}.")
    dtype = getattr(y, "dtype", None)
    keep = isinstance(dtype, np.dtype) and dtype.kind != "O"
    values = np.array(found, dtype=dtype if keep else None)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError(f"Input y contains infinity. {expected}.")
    check_classification_targets(values)
    return values


def _warn_of_numbers(classes):
    shown = ", ".join(map(repr, classes[:3]))
    warn(
        f"The classes in y are numbers ({shown}, ...), and so the model is asked for numbers. Say what they mean with "
        "labels={number: wording}. Where y held names: cross_val_predict, VotingClassifier and StackingClassifier hand "
        "on numbers in their place; name the classes with labels=, which are then told apart by it.",
    )


def _kind(value):
    return "text" if isinstance(value, str) else "bool" if isinstance(value, (bool, np.bool_)) else "number"


def _class_values(y, ordered, keys, encoder):
    """Return what ``classes_`` is, and the keys of `labels` in that order."""
    if y is None:
        return np.array(ordered), ordered
    known, found = set(ordered), np.unique(y).tolist()
    if encoder is not None and encoder.classes is None and found != ordered:
        return _codes(y, ordered, keys, encoder.tool), ordered
    strange = [value for value in found if value not in known]
    if not strange:
        values = np.array(ordered)
        same = values.astype(y.dtype) if y.dtype.kind in "biuf" else values
        return (same if (same == values).all() else values), ordered
    if y.dtype.kind in "iu" and {str(value) for value in found} <= known and all(_is_number(key) for key in keys):
        return _written_out(found, ordered)
    if y.dtype.kind in "iu" and found[0] >= 0 and found[-1] == len(ordered) - 1:
        return _encoded(y, ordered, keys), ordered
    mapping = ", ".join(f"{value!r}: 'its wording'" for value in found[:3])
    raise ValueError(
        f"Expected the classes in y to be those of labels, {keys}, but got {strange[:5]} too. Name every class, e.g. "
        f"labels={{{mapping}, ...}}, or leave labels out. Numbers from 0 that scikit-learn puts in the place of names "
        f"(cross_val_predict, VotingClassifier, StackingClassifier) are understood where all {len(keys)} classes are "
        "among them."
    )


def _decode(y):
    """Return the classes of documents, and the `_Encoder` where a tool of scikit-learn has put codes in their place."""
    tool, classes = _find_encoder()
    if tool is None or y.dtype.kind not in "iu":
        return y, None
    known = None
    for known in classes:
        if not 0 <= y.min() <= y.max() < len(known):  # something in between has given it another meaning
            return y, None
        y = known[y]
    return y, _Encoder(tool, known)


def _check_codes(encoder, values):
    """Return the codes of classes; ValueError where the tool that made them does not know one."""
    known = encoder.classes.tolist()
    missing = [value for value in values.tolist() if value not in known]
    if missing:
        raise ValueError(
            f"Got labels with {missing}, but expected just the classes in y, {known}: {encoder.tool} knows no others, "
            "and finds columns by their number. Name these alone in labels."
        )
    return np.array([known.index(value) for value in values.tolist()])


def _codes(y, ordered, keys, encoder):
    """Take numbers as the codes that a tool of scikit-learn is known to have made of classes that nobody can see."""
    n = int(y.max()) + 1
    if y.min() < 0 or n != len(ordered):
        raise ValueError(
            f"Got labels={ordered} but expected {n} of them: {encoder} numbers the classes that y has and hands on the "
            "numbers alone, so nobody can tell which ones these are. Name in labels the classes of y and no others; "
            "where a fold may lack one, use StratifiedKFold."
        )
    # Only of names such as "2" and "10" nobody knows whether y had texts or numbers, which are sorted otherwise.
    unclear = all(map(_is_number, ordered)) and ordered != sorted(ordered, key=int)
    return _encoded(y, ordered, keys) if unclear else np.arange(n, dtype=y.dtype)


def _is_number(key):
    return isinstance(key, str) and key.removeprefix("-").isdecimal() and str(int(key)) == key


def _written_out(found, ordered):
    """Take numbers as the labels that are written so: 2 is "2", wherever texts would sort it."""
    if any(ordered[value : value + 1] != [str(value)] for value in found if value >= 0):
        warn(
            "The numbers in y are read as the labels with the same digits. A LabelEncoder, and cross_val_predict, "
            "VotingClassifier and StackingClassifier with it, numbers such names otherwise ('10' before '2'): give "
            "labels={2: 'wording', ...} to say what a number means, or names that are no numbers.",
        )
    numbers = sorted(map(int, ordered))
    return np.array(numbers), [str(number) for number in numbers]


def _encoded(y, ordered, keys):
    """Take numbers as the codes of a ``LabelEncoder``, which numbers sorted classes."""
    if keys != ordered or not all(isinstance(key, str) for key in keys) or any(map(_is_number, keys)):
        mapping = ", ".join(f"{code}: {key!r}" for code, key in enumerate(ordered))
        warn(
            f"The numbers in y are read as a LabelEncoder gives them, in sorted order: {mapping}. Say what they mean "
            f"with labels={{{mapping}}}, or give y as names.",
        )
    return np.arange(len(ordered), dtype=y.dtype)


def refuse_binarisers() -> None:
    """Raise ValueError where a tool of scikit-learn that makes one task of each label is what calls."""
    wrapper = next((BINARISERS[caller] for caller, _ in _callers() if caller in BINARISERS), None)
    if wrapper:
        raise ValueError(
            f"Expected y to be a table of all labels, or the class of each document, but {wrapper} asks for a "
            "classifier of one label at a time. This one answers all labels at once: use it without that wrapper, "
            "GGUFClassifier(labels=[...]) for several labels a document and GGUFClassifier(multi_label=False) for one."
        )


class _Encoder(NamedTuple):
    """What put codes in the place of classes: its name, and the sorted classes as it got them, None out of sight."""

    tool: str
    classes: np.ndarray | None


def _find_encoder() -> tuple[str | None, list[np.ndarray]]:
    """Return the tool of scikit-learn that puts codes in the place of classes, where one is what calls.

    With the classes that each of several such tools, the innermost first, had its codes from; none where they are out
    of sight: a worker process gets the codes alone.
    """
    tool: str | None = None
    found: list[Any] = []
    open_ = False
    for caller, values in _callers():
        if caller in ENCODERS and values.get("method") != "predict":  # which leaves classes as they are
            tool, open_ = tool or ENCODERS[caller], True
        encoder = ENCODES[caller](values) if caller in ENCODES else None
        if isinstance(encoder, LabelEncoder) and not any(encoder is one for one in found):
            found, open_ = [*found, encoder], False
    return tool, [] if tool is None or open_ else [encoder.classes_ for encoder in found]


def _callers():
    """Yield module and name of each function that led here, and its variables."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        yield (frame.f_globals.get("__name__"), frame.f_code.co_name), frame.f_locals
        frame = frame.f_back


def expand(proba: np.ndarray, classes: Sequence[int], n_classes: int) -> np.ndarray:
    """Return probabilities with a column for each of `n_classes`, 0 for those that are not among `classes`."""
    if list(classes) == list(range(n_classes)):
        return proba
    full = np.zeros((len(proba), n_classes))
    full[:, np.asarray(classes, int)] = proba
    return full
