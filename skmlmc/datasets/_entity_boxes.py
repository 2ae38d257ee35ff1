"""The entity-tracking task, "which objects lie in Box 2 now?": `make_boxes` generates texts, `load_boxes` reads them.

Nothing here has to do with box plots or bounding boxes: "Boxes" is what the task's authors call their data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from .._utils.checks import check_positive_int
from ._annotators import check_names
from ._reading import documented_loader, make_bunch, malformed, parse_json, read_lines

OBJECTS = (
    "apple ball bell book bottle brush camera candle clock coin cup drum fork glove hammer key lamp letter map mirror "
    "pencil plate ring rope scarf shell shoe spoon stamp watch"
).split()
MASK = "<extra_id_0>"

GENERATED = """Entity tracking, generated: a text says what boxes hold and how objects move, then asks about one box.

Use it where the right labels must be known for sure, with as many labels and as hard a question as you like, and
without a download. The labels are the objects; those in the box asked about, after the last operation, are right.
After the task of N. Kim, S. Schuster. Entity Tracking in Language Models. ACL 2023; texts and generator are our own.
"""
BOXES = """Boxes: an entity-tracking data set; which objects are in a box after some operations.

Use it to compare with published results; `make_boxes` generates texts of the same kind without a file.
Get the password-protected archive from https://github.com/sebschu/entity-tracking-lms and unpack it; its owners ask
that the data stay out of the training data of language models.
N. Kim, S. Schuster. Entity Tracking in Language Models. ACL 2023.
"""


@documented_loader(GENERATED)
def make_boxes(
    n_samples: int = 100,
    *,
    n_boxes: int = 4,
    n_objects: int = 12,
    n_operations: int = 3,
    max_per_box: int = 3,
    random_state: Any = None,
    return_X_y: bool = False,
    as_frame: bool = False,
) -> Any:
    """Generate entity-tracking items: texts that move objects between boxes; the labels are one box's contents.

    {description}

    Parameters
    ----------
    n_samples : int, default=100
        Number of items n.
    n_boxes : int, default=4
        Boxes, at least 2.
    n_objects : int, default=12
        Objects that can occur, so number of labels; 2 to 30.
    n_operations : int, default=3
        Operations before the question; 0 or more. Each moves, removes or puts one object.
    max_per_box : int, default=3
        Most objects in one box.
    random_state : int, RandomState or None, default=None
        Seed, for the same items in every call.
    {pair_or_frame}

    Returns
    -------
    Bunch
        data : list of str, length n
            Texts that end in a question such as "What does Box 2 contain?".
        target : ndarray of shape (n, n_objects), int
            1 for the objects in that box.
        target_names : list of str, length n_objects
            Objects.
        ids : list of str, length n
            "0", "1", ...
        {descr_and_frame}

    Raises
    ------
    ValueError
        A number out of range.

    Examples
    --------
    >>> from skmlmc.datasets import make_boxes
    >>> bunch = make_boxes(1, n_boxes=2, n_objects=4, n_operations=1, random_state=0)
    >>> for sentence in bunch.data[0].split(". "):
    ...     print(sentence)
    Box 0 contains the apple and the ball and the book, Box 1 contains the bell
    Remove the book from Box 0
    What does Box 1 contain?
    >>> bunch.target_names, bunch.target
    (['apple', 'ball', 'bell', 'book'], array([[0, 0, 1, 0]]))
    """
    for what, value in (("n_samples", n_samples), ("max_per_box", max_per_box)):
        check_positive_int(value, what)
    for what, value, low, high in (
        ("n_boxes", n_boxes, 2, 100),
        ("n_objects", n_objects, 2, len(OBJECTS)),
        ("n_operations", n_operations, 0, 1000),
    ):
        if not isinstance(value, Integral) or not low <= value <= high:
            raise ValueError(f"Got {what}={value!r} but expected a whole number from {low} to {high}.")
    rng = check_random_state(random_state)
    names = OBJECTS[:n_objects]
    texts, target = [], np.zeros((n_samples, n_objects), dtype=int)
    for i in range(n_samples):
        text, contents = _make_item(rng, names, n_boxes, n_operations, max_per_box)
        texts.append(text)
        target[i, contents] = 1
    ids = range(n_samples)
    return make_bunch(texts, None, names, ids, GENERATED, target=target, return_X_y=return_X_y, as_frame=as_frame)


def _make_item(rng, names, n_boxes, n_operations, max_per_box):
    """Return one text and the positions of the objects in the box that it asks about."""
    # place[k] is the box of object k, n_boxes: in none.
    place = np.full(len(names), n_boxes)
    outside: Any = list(rng.permutation(len(names)))
    for box in range(n_boxes):
        for _ in range(min(rng.randint(max_per_box + 1), len(outside))):
            place[outside.pop()] = box
    sentences = [", ".join(_describe(box, place, names) for box in range(n_boxes)) + "."]
    for _ in range(n_operations):
        free = [box for box in range(n_boxes) if (place == box).sum() < max_per_box]
        inside, outside = np.flatnonzero(place < n_boxes), np.flatnonzero(place == n_boxes)
        kinds = [
            [(k, box) for k in inside for box in free if box != place[k]],
            [(k, n_boxes) for k in inside],
            [(k, box) for k in outside for box in free],
        ]
        kinds = [steps for steps in kinds if steps]
        steps = kinds[rng.randint(len(kinds))]
        k, box = steps[rng.randint(len(steps))]
        sentences.append(_operation(names[k], place[k], box, n_boxes))
        place[k] = box
    asked = rng.randint(n_boxes)
    return " ".join([*sentences, f"What does Box {asked} contain?"]), np.flatnonzero(place == asked)


def _describe(box, place, names):
    contents = [f"the {names[k]}" for k in np.flatnonzero(place == box)]
    return f"Box {box} contains {' and '.join(contents)}" if contents else f"Box {box} is empty"


def _operation(name, source, goal, nowhere):
    if source == nowhere:
        return f"Put the {name} into Box {goal}."
    if goal == nowhere:
        return f"Remove the {name} from Box {source}."
    return f"Move the {name} from Box {source} to Box {goal}."


@documented_loader(BOXES)
def load_boxes(
    path: Any, labels: Sequence[str] | None = None, *, return_X_y: bool = False, as_frame: bool = False
) -> Any:
    """Load a file of the Boxes data set that you have: entity tracking, the labels are one box's contents.

    {description}

    Parameters
    ----------
    path : path
        JSON lines with "sentence_masked" and "masked_content", such as ``test-t5.jsonl`` of the owners' archive.
    labels : sequence of str, length L, default=None
        Objects in the order wanted; None: those that the file's answers hold, in alphabetical order.
    {pair_or_frame}

    Returns
    -------
    Bunch
        data : list of str, length n
            Texts up to what is asked for, as in "... Box 2 contains" or "... Box 2".
        target : ndarray of shape (n, L), int
            1 for the objects in that box.
        target_names : list of str, length L
            Objects.
        ids : list of str, length n
            "sample_id:line", so that items of one world can be kept together.
        n_operations : ndarray of shape (n,), int
            Operations that changed the box ("numops"), -1 where the file does not say.
        {descr_and_frame}

    Raises
    ------
    ValueError
        A malformed line or an unknown object; file and line are named.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from skmlmc.datasets import load_boxes
    >>> line = (
    ...     '{"sentence_masked": "Box 0 contains the key. Put the cup into Box 0. Box 0 <extra_id_0> .", '
    ...     '"masked_content": "<extra_id_0> contains the key and the cup", "sample_id": 4, "numops": 1}'
    ... )
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder, "test-t5.jsonl")
    ...     _ = file.write_text(line)
    ...     bunch = load_boxes(file)
    >>> bunch.data, bunch.target_names, bunch.target
    (['Box 0 contains the key. Put the cup into Box 0. Box 0'], ['cup', 'key'], array([[1, 1]]))
    """
    names = None if labels is None else check_names(labels)
    texts, contents, ids, numops = [], [], [], []
    for number, line in read_lines(path):
        row = parse_json(line, path, number)
        try:
            text, mask, _ = row["sentence_masked"].partition(MASK)
            head, _, answer = row["masked_content"].partition(MASK)
            found = _contents(answer.strip().rstrip(".").strip())
            if head.strip() or not mask or (names is not None and not set(found) <= set(names)):
                raise ValueError(f"{found} in the masked content")
            numops.append(int(row.get("numops", -1)))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            expected = f'"sentence_masked" with {MASK} and "masked_content" with known objects'
            raise malformed(path, number, expected, repr(error)) from error
        texts.append(text.strip())
        contents.append(found)
        ids.append(f"{row.get('sample_id', '')}:{number}")
    if names is None:
        names = sorted({name for found in contents for name in found})
    target = np.array([[int(name in found) for name in names] for found in contents])
    more = {"target": target, "n_operations": np.array(numops, dtype=int)}
    return make_bunch(texts, None, names, ids, BOXES, return_X_y=return_X_y, as_frame=as_frame, **more)


def _contents(answer: str) -> list[str]:
    """Return the objects of "contains the key and the cup", "the key and the cup", "is empty" or "nothing"."""
    if answer in ("is empty", "nothing", "contains nothing"):
        return []
    objects = answer.removeprefix("contains ").split(" and ")
    if not all(name.startswith("the ") for name in objects):
        raise ValueError(f"{answer!r} in the masked content")
    return [name.removeprefix("the ") for name in objects]
