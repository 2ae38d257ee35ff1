"""Tables of how a model answers: on arrays made by hand with known answers, and against slow twins."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inside import labelled
from numpy.testing import assert_allclose
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import KFold
from tiny_gguf import write_tiny_gguf

from skmlmc import StepwiseExtractor, clear_models
from skmlmc.align import generated_labels
from skmlmc.analysis import (
    __all__,
    accuracy_by_step,
    answer_lengths,
    answer_order,
    early_probability,
    multilabel_share,
    probe_own_labels,
    second_ranked,
    step_shape,
    step_values,
)
from skmlmc.calibrate import LinearProbe

NAN = float("nan")
NEVER = [NAN] * 4
LABELS = ["love", "anger", "joy"]

# Answers: love, joy, and the end; anger alone; none; joy, anger, love.
STEPS = np.array(
    [
        [[0.5, 0.3, 0.1, 0.1], [0.2, 0.2, 0.6, 0.0], [0.0, 0.1, 0.0, 0.9]],
        [[0.2, 0.7, 0.0, 0.1], NEVER, NEVER],
        [[0.1, 0.1, 0.1, 0.7], NEVER, NEVER],
        [[0.1, 0.3, 0.5, 0.1], [0.1, 0.4, 0.5, 0.0], [0.8, 0.1, 0.1, 0.0]],
    ]
)
TARGETS = np.array([[1, 0, 0.4], [0, 1, 0], [0, 0, 0], [0.2, 0.6, 1]])


def equal(table, expected):
    assert list(table) == list(expected)
    for name, column in expected.items():
        if any(isinstance(value, float) for value in column):
            assert_allclose(table[name], column, atol=1e-12, err_msg=name)
        else:
            assert table[name] == column, name


def random_steps(rng, n=12, n_labels=4):
    """Answers as the extractor writes them: after a label the answer may end, none ends it."""
    steps = np.full((n, n_labels, n_labels + 1), np.nan)
    for row in steps:
        said = []
        for r in range(n_labels):
            row[r] = rng.dirichlet(np.full(n_labels + 1, 0.5))
            said.append(max((k for k in range(n_labels + 1) if k not in said), key=lambda k: row[r, k]))  # noqa: B023
            if said[-1] == n_labels or rng.random() < 0.2:
                break
    return steps


def answers_of(steps):
    """Each document's labels in order, none left out."""
    none = steps.shape[2] - 1
    return [[k for k in row if k >= 0 and k != none] for row in generated_labels(steps).tolist()]


def test_step_values():
    equal(
        {k: v[:4] for k, v in step_values(STEPS).items()},
        {
            "document": [0, 0, 0, 1],
            "step": [1, 2, 3, 1],
            "position": ["intermediate", "intermediate", "last", "last"],
            "label": [0, 2, 3, 1],
            "top1": [0.5, 0.6, 0.9, 0.7],
            "top2": [0.3, 0.2, 0.1, 0.2],
            "spikiness": [0.2, 0.4, 0.8, 0.5],
            "entropy": [-sum(p * math.log(p) for p in row if p) for row in [*STEPS[0], STEPS[1, 0]]],
        },
    )
    assert len(step_values(STEPS)["step"]) == 8


def test_step_shape():
    def entropy(*rows):
        return np.mean([-sum(p * math.log(p) for p in row if p) for row in rows])

    equal(
        step_shape(STEPS),
        {
            "step": [1, 1, 2, 3],
            "position": ["intermediate", "last", "intermediate", "last"],
            "documents": [2, 2, 2, 2],
            "top1": [0.5, 0.7, 0.55, 0.85],
            "top2": [0.3, 0.15, 0.3, 0.1],
            "spikiness": [0.2, 0.55, 0.25, 0.75],
            "entropy": [
                entropy(STEPS[0, 0], STEPS[3, 0]),
                entropy(STEPS[1, 0], STEPS[2, 0]),
                entropy(STEPS[0, 1], STEPS[3, 1]),
                entropy(STEPS[0, 2], STEPS[3, 2]),
            ],
        },
    )


def test_steps_after_none_do_not_count():
    """They may be there, as in arrays that were made for another purpose, but belong to no answer."""
    steps = [[[0.1, 0.2, 0.7], [0.8, 0.1, 0.1]]]
    assert step_shape(steps)["step"] == [1]
    assert step_shape(steps)["position"] == ["last"]
    assert answer_lengths(steps)["documents"] == [1]


def test_second_ranked():
    # Step 1: love first, anger second, but joy is next and anger never comes; joy first, anger second and next.
    # Step 2: of joy, anger, only love is left, and it is next.
    equal(
        second_ranked(STEPS),
        {
            "step": [1, 2],
            "transitions": [2, 1],
            "next": [0.5, 1.0],
            "not_next": [0.5, 0.0],
            "never_generated": [1.0, NAN],
        },
    )
    equal(
        second_ranked(STEPS, by_step=False),
        {"transitions": [3], "next": [2 / 3], "not_next": [1 / 3], "never_generated": [1.0]},
    )


def test_the_second_ranked_label_is_none_of_the_earlier_ones():
    """Also where these, or none, are more probable."""
    steps = [[[0.5, 0.1, 0.0, 0.4], [0.4, 0.3, 0.1, 0.2], [0.4, 0.3, 0.2, 0.1]]]
    assert answers_of(np.array(steps)) == [[0, 1, 2]]
    assert second_ranked(steps)["next"] == [1, 1]


def slow_second_ranked(steps):
    hits, misses, never = 0, 0, 0
    for row, answer in zip(steps, answers_of(steps), strict=True):
        for r in range(len(answer) - 1):
            candidates = [k for k in range(steps.shape[2] - 1) if k not in answer[: r + 1]]
            second = max(candidates, key=lambda k: row[r, k])  # noqa: B023
            hits += second == answer[r + 1]
            misses += second != answer[r + 1]
            never += second not in answer
    return hits, misses, never


@given(st.integers(0, 10**6))
def test_second_ranked_against_a_loop(seed):
    steps = random_steps(np.random.default_rng(seed))
    hits, misses, never = slow_second_ranked(steps)
    table = second_ranked(steps, by_step=False)
    assert table["transitions"] == [hits + misses]
    if hits + misses:
        assert_allclose([table["next"], table["not_next"]], [[hits / (hits + misses)], [misses / (hits + misses)]])
    assert_allclose(table["never_generated"], [never / misses if misses else NAN])
    by_step = second_ranked(steps)
    assert sum(by_step["transitions"]) == hits + misses
    assert_allclose(np.dot(by_step["transitions"], by_step["next"]), hits)


def test_early_probability():
    # Joy before its step: 0.1, below anger's 0.3, so rank 2; anger 0.3 and love 0.1 are the best that are left.
    equal(
        early_probability(STEPS),
        {"step": [1, 2], "transitions": [2, 1], "early": [0.2, 0.1], "own": [0.5, 0.8], "rank": [1.5, 1.0]},
    )
    equal(
        early_probability(STEPS, by_step=False),
        {"transitions": [3], "early": [0.5 / 3], "own": [1.8 / 3], "rank": [4 / 3]},
    )


@given(st.integers(0, 10**6))
def test_early_probability_against_a_loop(seed):
    steps = random_steps(np.random.default_rng(seed))
    found = []
    for row, answer in zip(steps, answers_of(steps), strict=True):
        for r, label in enumerate(answer[1:]):
            ranked = sorted((k for k in range(4) if k not in answer[: r + 1]), key=lambda k: -row[r, k])  # noqa: B023
            found.append((row[r, label], row[r + 1, label], ranked.index(label) + 1))
    table = early_probability(steps, by_step=False)
    assert table["transitions"] == [len(found)]
    means = np.mean(found, axis=0) if found else [NAN] * 3
    assert_allclose([table[k][0] for k in ("early", "own", "rank")], means)
    # A label of rank 1 is the one ranked second.
    assert_allclose(second_ranked(steps, by_step=False)["next"], np.mean([f[2] == 1 for f in found]) if found else NAN)


@pytest.mark.parametrize("table", [second_ranked, early_probability])
def test_no_answer_goes_on(table):
    assert all(column == [] for column in table(STEPS[1:3]).values())
    pooled = table(STEPS[1:3], by_step=False)
    assert pooled.pop("transitions") == [0]
    assert all(math.isnan(value) for (value,) in pooled.values())


def test_what_was_written_counts_and_not_what_is_largest():
    """An extractor's array knows its labels and what the model wrote, also where its numbers have changed since."""
    written = np.array([[1, 0, 3], [1, -1, -1], [3, -1, -1], [2, 1, 0]])
    steps = labelled(STEPS, "steps", LABELS, None, written)
    assert step_values(steps)["label"] == [1, 0, 3, 1, 3, 2, 1, 0]
    assert answer_order(steps, LABELS)["share"] == [0.5, 0, 0, 1]
    frame = pd.DataFrame(TARGETS, columns=LABELS)[["joy", "love", "anger"]]
    by_name = accuracy_by_step(steps, frame)
    assert by_name == accuracy_by_step(steps, TARGETS) == accuracy_by_step(steps, frame, labels=LABELS)
    assert by_name != accuracy_by_step(STEPS, TARGETS)
    probes = [probe_own_labels(np.eye(4), steps, y, cv=2, probe=Reads()) for y in (frame, TARGETS)]
    assert str(probes[0]) == str(probes[1])


def test_accuracy_by_step():
    # love right, joy not (0.4 of the annotators); joy right, anger right, love not.
    equal(
        accuracy_by_step(STEPS, TARGETS),
        {"step": [1, 2, 3], "documents": [2, 2, 1], "accuracy": [1.0, 0.5, 0.0], "annotators": [1.0, 0.5, 0.2]},
    )
    every = accuracy_by_step(STEPS, TARGETS, min_labels=1)
    assert every["documents"] == [3, 2, 1], "none is no label"
    assert accuracy_by_step(STEPS, 1 - TARGETS, min_labels=1)["accuracy"] == [0, 0.5, 1]
    assert accuracy_by_step(STEPS, TARGETS, min_labels=3)["documents"] == [1, 1, 1]


def test_answer_order():
    # love, joy is the prompt's order (love, anger, joy) and backwards in the alphabet; joy, anger, love is backwards in
    # the prompt and mixed in the alphabet.
    equal(
        answer_order(STEPS, LABELS),
        {
            "order": ["alphabetical", "reverse alphabetical", "prompt", "reverse prompt"],
            "answers": [2] * 4,
            "share": [0.0, 0.5, 0.5, 0.5],
            "by_chance": [(1 / 2 + 1 / 6) / 2] * 4,
        },
    )
    assert answer_order(STEPS, LABELS, ["love", "joy", "anger"])["share"] == [0.0, 0.5, 0.5, 0.0]


def test_the_alphabet_does_not_know_capitals():
    assert answer_order(STEPS[3:], ["Love", "anger", "Joy"])["share"][:2] == [0, 0]
    assert answer_order(STEPS[3:], ["Love", "b", "A"])["share"][:2] == [1, 0]


def test_answer_order_without_answers_of_several_labels():
    table = answer_order(STEPS[1:3], LABELS)
    assert table["answers"] == [0] * 4
    assert all(math.isnan(share) for share in table["share"] + table["by_chance"])


@given(st.integers(0, 10**6))
def test_random_orders_are_as_frequent_as_chance(seed):
    """Over all orders of the labels each answer is in order by chance exactly 1 / k! of the time."""
    from itertools import permutations

    steps = random_steps(np.random.default_rng(seed), n=5, n_labels=3)
    tables = [answer_order(steps, list("abc"), list(order)) for order in permutations("abc")]
    assert_allclose(np.mean([t["share"][2] for t in tables]), tables[0]["by_chance"][2])
    assert_allclose(tables[0]["share"][:2], tables[0]["share"][2:], err_msg="the alphabet is the prompt's order here")


def test_answer_lengths():
    equal(answer_lengths(STEPS), {"n_labels": [0, 1, 2, 3], "documents": [1, 1, 1, 1], "share": [0.25] * 4})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: accuracy_by_step(STEPS, TARGETS[:3]), "4 rows"),
        (lambda: accuracy_by_step(STEPS, TARGETS[:, :2]), "3 columns, one a label of steps, but got 2"),
        (lambda: accuracy_by_step(STEPS, TARGETS, min_labels=0), "min_labels=0"),
        (lambda: answer_order(STEPS, LABELS[:2]), "3 labels, one a column of steps but none, but got 2"),
        (lambda: answer_order(STEPS, LABELS, ["love", "anger", "fun"]), "each of the labels once"),
        (lambda: step_shape(STEPS[:, 0]), "numbers of shape"),
        (lambda: second_ranked(STEPS * 2), "sum to 1"),
        (lambda: probe_own_labels(np.ones((3, 2)), STEPS, TARGETS), "inconsistent numbers of samples"),
        (lambda: probe_own_labels(np.ones((4, 2)), STEPS, TARGETS[:, :2], cv=2), "3 columns"),
        (lambda: probe_own_labels(np.full((4, 2), NAN), STEPS, TARGETS), "hidden contains NaN"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda **k: step_values(STEPS, **k),
        lambda **k: step_shape(STEPS, **k),
        lambda **k: second_ranked(STEPS, **k),
        lambda **k: early_probability(STEPS, **k),
        lambda **k: accuracy_by_step(STEPS, TARGETS, **k),
        lambda **k: answer_order(STEPS, LABELS, **k),
        lambda **k: answer_lengths(STEPS, **k),
        lambda **k: probe_own_labels(np.eye(4), STEPS, TARGETS, cv=2, probe=Reads(), **k),
        lambda **k: multilabel_share(Imitator(), TEXTS, MANY, shots=4, random_state=0, **k),
    ],
)
def test_frames(call):
    frame = call(as_frame=True)
    pd.testing.assert_frame_equal(frame, pd.DataFrame(call()))


def test_every_name_is_there():
    import skmlmc.analysis as module

    assert __all__ == sorted(__all__)
    for name in __all__:
        assert "Do Multi-Label Classification Differently" in getattr(module, name).__doc__, f"{name} names its source"
        assert ">>>" in getattr(module, name).__doc__
        assert name in module.__doc__


class Imitator(BaseEstimator):
    """Gives several labels for as large a share of the documents as its demonstrations have."""

    def __init__(self, labels=("a", "b", "c"), demonstrations="multilabel"):
        self.labels = labels
        self.demonstrations = demonstrations

    def fit(self, X=None, y=None):
        self.labels_ = np.array(list(self.labels), dtype=object)
        seen.append(self.demonstrations)
        return self

    def transform(self, X):
        answered.append(list(X))
        share = np.mean([len(labels) > 1 for _, labels in self.demonstrations])
        steps = np.full((len(X), 2, 4), np.nan)
        steps[:, 0] = [0.7, 0.1, 0.1, 0.1]
        steps[: round(share * len(X)), 1] = [0.1, 0.7, 0.1, 0.1]
        return steps


seen: list = []
answered: list = []
TEXTS = [f"text {i}" for i in range(20)]
MANY = np.array([[1, 1, 0], [0, 1, 0], [0.4, 0.9, 0.6], [0, 0, 0]] * 5)


@pytest.fixture(autouse=True)
def _forget_what_was_seen():
    seen.clear()
    answered.clear()


def test_multilabel_share():
    table = multilabel_share(Imitator(), TEXTS, MANY, shares=[0, 0.5, 1], shots=4, n_repeats=2, random_state=0)
    # Four with several labels and four others are shown in some prompt, the other twelve are answered.
    equal(
        table,
        {
            "repeat": [0, 0, 0, 1, 1, 1],
            "share_of_demonstrations": [0, 0.5, 1.0] * 2,
            "documents": [12] * 6,
            "share_of_answers": [0, 0.5, 1.0] * 2,
            "labels_per_answer": [1, 1.5, 2.0] * 2,
        },
    )
    assert [[len(labels) > 1 for _, labels in prompt].count(True) for prompt in seen] == [0, 2, 4] * 2
    for prompt in seen:
        assert len({text for text, _ in prompt}) == 4
        for text, labels in prompt:
            target = MANY[TEXTS.index(text)]
            assert list(labels) == [name for name, h in zip("abc", target, strict=True) if h > 0.5]
    for repeat in (0, 3):
        shown = {text for prompt in seen[repeat : repeat + 3] for text, _ in prompt}
        assert all(set(texts) == set(TEXTS) - shown for texts in answered[repeat : repeat + 3])
        common = [{text for text, _ in prompt} for prompt in seen[repeat : repeat + 3]]
        assert len(common[0] & common[1]) == len(common[1] & common[2]) == 2
    assert seen[:3] != seen[3:], "each repeat draws anew"


def test_multilabel_share_is_seeded_and_takes_test_documents():
    tests = ["one", "two"]
    call = {"shares": [0.3, 1], "shots": 5}
    first = multilabel_share(Imitator(), TEXTS, MANY, tests, random_state=3, **call)
    prompts = list(seen)
    assert answered == [tests, tests]
    assert first["share_of_demonstrations"] == [0.4, 1.0], "the nearest that five shots can have"
    assert multilabel_share(Imitator(), TEXTS, MANY, tests, random_state=3, **call) == first
    assert seen[2:] == prompts
    multilabel_share(Imitator(), TEXTS, MANY, tests, random_state=4, **call)
    assert seen[4:] != prompts


@pytest.mark.parametrize("fitted", [False, True])
def test_multilabel_share_finds_the_names(fitted):
    y = pd.DataFrame(MANY, columns=["a", "b", "c"])
    extractor = Imitator(labels=None)
    if fitted:
        extractor = Imitator(labels=["c", "b", "a"]).fit()
        extractor.labels = None
    before = len(seen)
    multilabel_share(extractor, TEXTS, y, shares=[1], shots=2, random_state=0)
    for text, labels in seen[before]:
        named = y.columns[y.iloc[TEXTS.index(text)] > 0.5]
        assert list(labels) == ([*named[::-1]] if fitted else [*named])
    assert extractor.labels is None, "the extractor itself is left alone"


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"shots": 0}, ValueError, "shots=0"),
        ({"shares": []}, ValueError, "numbers in .0, 1."),
        ({"shares": [0, 1.5]}, ValueError, "numbers in .0, 1."),
        ({"shots": 11}, ValueError, "Expected 11 documents with two labels or more and 11 others .* 10 and 10"),
        ({"shots": 10, "shares": [0, 1]}, ValueError, "All 20 documents of X serve as demonstrations"),
        ({"extractor": Imitator(labels=None)}, ValueError, "Got no label names"),
        ({"extractor": KFold()}, TypeError, "expected a StepwiseExtractor"),
        ({"y": MANY[:3]}, ValueError, "20 rows"),
    ],
)
def test_multilabel_share_refuses(params, error, message):
    call = {"extractor": Imitator(), "X": TEXTS, "y": MANY, "shots": 4, **params}
    with pytest.raises(error, match=message):
        multilabel_share(call.pop("extractor"), call.pop("X"), call.pop("y"), **call)
    assert answered == []


def test_multilabel_share_of_a_model(tmp_path):
    extractor = StepwiseExtractor(write_tiny_gguf(tmp_path / "tiny.gguf", seed=6), labels=["a", "b", "c"])
    call = {"shares": [0, 1], "shots": 2, "random_state": 0}
    table = multilabel_share(extractor, TEXTS, MANY, **call)
    assert table["documents"] == [16, 16]
    assert all(0 <= share <= 1 for share in table["share_of_answers"])
    fitted = StepwiseExtractor(extractor.model, labels=["a", "b", "c"], shots=2).fit(TEXTS, MANY)
    assert multilabel_share(fitted, TEXTS, MANY, **call) == table
    clear_models()


class Reads(ClassifierMixin, BaseEstimator):
    """A probe that knows what it should say: the first columns of `X`; keeps the rows it was fitted on."""

    def fit(self, X, y):
        fitted.append((X[:, -1].tolist(), y))
        return self

    def predict_proba(self, X):
        return X[:, :3].clip(0, 1)


fitted: list = []


def test_probe_scores_by_hand():
    fitted.clear()
    hidden = np.array(
        [
            [0.9, 0.2, 0.8, 0],  # answer love, joy
            [0.1, 0.6, 0.7, 1],  # anger
            [0.0, 0.1, 0.3, 2],  # none
            [0.2, 0.9, 0.9, 3],  # joy, anger, love
        ]
    )
    table = probe_own_labels(hidden, STEPS, TARGETS, cv=2, probe=Reads())
    assert table["target"] == ["gold", "pred", "pred 2+"]
    # Predicted sets: love joy / anger joy / nothing / anger joy.
    assert table["documents"] == [4, 4, 3], "the answer none has no first label"
    assert table["positives"] == [4, 6, 3]
    # gold: love / anger / nothing / anger joy: 4 hits, 2 too many.
    # pred: love joy / anger / nothing / joy anger love: 5 hits, 1 too many, 1 missing.
    # pred 2+: joy / - / anger love, predicted joy / joy / anger: 2 hits, 1 too many, 1 missing.
    assert_allclose(table["micro_f1"], [8 / 10, 10 / 12, 4 / 6])
    assert_allclose(table["macro_f1"], [(1 + 1 + 2 / 4) / 3, (2 / 3 + 1 + 4 / 5) / 3, (0 + 1 + 2 / 3) / 3])
    assert_allclose(table["jaccard"], [(1 / 2 + 1 / 2 + 1 + 1) / 4, (1 + 1 / 2 + 1 + 2 / 3) / 4, (1 + 0 + 1 / 2) / 3])
    # pred 2+ without first labels: love 0.1 no, 0.2 yes; anger 0.2 no, 0.9 yes; joy 0.8 yes, 0.7 no.
    assert_allclose(table["auc"], [1, 1, 1])
    folds = [rows for rows, _ in fitted]
    assert folds == [[2, 3], [0, 1]] * 2, "the probe of the model's labels is fitted once for both"
    np.testing.assert_array_equal(fitted[0][1], TARGETS[2:])
    np.testing.assert_array_equal(fitted[2][1], [[0, 0, 0], [1, 1, 1]])


def test_probe_documents_outside_the_folds_do_not_count():
    hidden = np.eye(4)
    table = probe_own_labels(hidden, STEPS, TARGETS, cv=[([0, 1], [2, 3])], probe=Reads())
    assert table["documents"] == [2, 2, 1]
    assert table["positives"] == [2, 3, 2]


def test_probe_without_any_answer():
    steps = np.tile([0.1, 0.1, 0.1, 0.7], (4, 1, 1))
    table = probe_own_labels(np.eye(4), steps, TARGETS, cv=2, probe=Reads())
    assert table["documents"] == [4, 4, 0]
    assert math.isnan(table["auc"][1]), "no label occurs"
    assert all(math.isnan(table[name][2]) for name in ("micro_f1", "macro_f1", "jaccard", "auc"))


def test_probes_find_what_the_state_knows():
    """It knows the right labels and the first one, and nothing about which comes second."""
    rng = np.random.default_rng(0)
    n = 240
    first, gold = rng.integers(4, size=n), rng.integers(2, size=(n, 4))
    second = (first + rng.integers(1, 4, size=n)) % 4
    hidden = np.column_stack([np.eye(4)[first], gold]) + 0.2 * rng.normal(size=(n, 8))
    steps = np.full((n, 2, 5), 0.05)
    steps[np.arange(n), 0, first] = steps[np.arange(n), 1, second] = 0.8
    y = pd.DataFrame(gold, columns=list("abcd"))
    probe = LinearProbe(n_components=None, C=1.0)
    table = probe_own_labels(hidden, steps, y[list("dcba")], cv=3, probe=probe, labels=list("abcd"))
    auc = dict(zip(table["target"], table["auc"], strict=True))
    assert auc["gold"] > 0.99
    assert auc["pred"] > 0.7
    assert 0.4 < auc["pred 2+"] < 0.65
    assert table["positives"] == [gold.sum(), 2 * n, n]
    wrong = probe_own_labels(hidden, steps, y[list("dcba")], cv=3, probe=probe)
    assert wrong["auc"][1:] == table["auc"][1:]
    assert not hasattr(probe, "coef_")
