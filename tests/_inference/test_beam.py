"""All answers a model may give: against brute-force enumeration with the slow twin."""

import numpy as np
import pytest
from campaigns import in_campaigns
from inside import loaded, prepared
from scipy.special import expit
from slow_twin import SlowTwin, slow_choice, slow_row, slow_steps
from tiny_gguf import write_tiny_gguf

from skmlmc import GGUFClassifier, MarginalExtractor, StepwiseExtractor, clear_models

LABELS = ["joy", "joyful", "sad"]
TEXTS = ["I miss her so much.", "We won!!!", "", "it rained"]
SHOTS = [("ha ha", ["joy", "joyful"]), ("it rained", []), ("oh no", ["sad"])]


@pytest.fixture(scope="module")
def word_model(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "w.gguf"
    yield write_tiny_gguf(path, words=("joy", "ful", " joy", "sad"), seed=10)
    clear_models()


def fitted(model, cls=MarginalExtractor, **params):
    defaults = {"labels": LABELS, "demonstrations": SHOTS, "kv_dtype": "float32"}
    return cls(str(model), **{**defaults, **params}).fit()


def enumerate_answers(look, whole=False):
    """Probability of each label set, by trying every label sequence."""
    sets = {}

    def follow(said, p):
        distribution = slow_row(*look, said, whole)[0]
        distribution[list(said)] = 0
        distribution /= distribution.sum()
        for k, q in enumerate(p * distribution):
            if k in said:
                continue
            if k == len(LABELS):
                sets[frozenset(said)] = sets.get(frozenset(said), 0) + q
                continue
            now = (*said, k)
            another, end = slow_choice(*look, now)
            goes_on = expit(another - end) if len(now) < len(LABELS) else 0.0
            sets[frozenset(now)] = sets.get(frozenset(now), 0) + q * (1 - goes_on)
            if goes_on:
                follow(now, q * goes_on)

    follow((), 1.0)
    return sets


def looks(twin, ready, text):
    """What the twin's functions ask for first: logits, prompt, spelling of answers, words."""
    prompt = [*ready.prefix, *ready.document(text)]
    return twin.logits, prompt, twin.speller("json", "\n\nInput:"), [*LABELS, "none"]


@pytest.mark.parametrize(
    ("label_tokens", "batch_size", "n_seq"),
    [("first", 1, 64), ("first", 3, 64), ("whole", 1, 14), *map(in_campaigns, [("whole", 3, 64), ("first", 1, 14)])],
)
def test_equals_enumeration(word_model, batch_size, n_seq, label_tokens, monkeypatch):
    """With few sequences slots are read in several calls."""
    for name in ("MIN_SEQ", "MAX_SEQ"):
        monkeypatch.setattr(f"skmlmc._engine.vocabulary.{name}", n_seq)
    clear_models()
    how = {"max_labels": 3, "batch_size": batch_size, "label_tokens": label_tokens}
    estimator = fitted(word_model, min_probability=1e-12, **how)
    got, mass = estimator.diagnose(TEXTS).values()
    np.testing.assert_allclose(mass, 1, atol=1e-6)
    ready = prepared(estimator)
    twin = SlowTwin(word_model)
    for text, row in zip(TEXTS, got, strict=True):
        sets = enumerate_answers(looks(twin, ready, text), label_tokens == "whole")
        assert sum(sets.values()) == pytest.approx(1)
        expected = [sum(p for labels, p in sets.items() if k in labels) for k in range(len(LABELS))]
        np.testing.assert_allclose(row, expected, atol=1e-5)
    twin.close()
    clear_models()


@pytest.mark.parametrize("max_labels", [1, 2, 3])
@pytest.mark.parametrize("min_probability", [0.5, 0.05, 0.002])
def test_a_bound_that_holds(word_model, max_labels, min_probability):
    """Less is followed, so the probabilities are lower, by no more than the mass that is missing."""
    exact = fitted(word_model, min_probability=1e-12).transform(TEXTS)
    estimator = fitted(word_model, min_probability=min_probability, max_labels=max_labels)
    bound, mass = estimator.diagnose(TEXTS).values()
    assert (bound <= exact + 1e-6).all()
    assert (bound + (1 - mass)[:, None] >= exact - 1e-6).all()


def test_never_below_the_greedy_path(word_model):
    """What the greedy answer alone proves: its labels, with the probability of the answer up to them."""
    bound = fitted(word_model, min_probability=0.9).transform(TEXTS)
    steps = fitted(word_model, StepwiseExtractor).transform(TEXTS)
    ready = fitted(word_model, StepwiseExtractor)._task().prepare(loaded(fitted(word_model)))
    twin = SlowTwin(word_model)
    longest = 0
    for text, row, distributions in zip(TEXTS, bound, steps, strict=True):
        look, said, p = looks(twin, ready, text), [], 1
        rows, *_ = slow_steps(*look, len(LABELS))
        np.testing.assert_allclose(rows, distributions[: len(rows)], atol=1e-5)
        for distribution in rows:
            left = distribution.copy()
            left[said] = 0
            label = int(left.argmax())
            p *= (left / left.sum())[label]
            if label == len(LABELS):
                break
            assert row[label] >= p - 1e-6
            said.append(label)
            longest = max(longest, len(said))
            another, end = slow_choice(*look, said)
            p *= expit(another - end)
    twin.close()
    assert longest > 1


def test_same_bits_in_any_order(word_model):
    estimator = fitted(word_model)
    np.testing.assert_array_equal(estimator.transform(TEXTS[::-1]), estimator.transform(TEXTS)[::-1])


def test_many_labels_within_the_budget(tiny_model):
    labels = [f"{chr(97 + k)}{chr(97 + k)}" for k in range(20)]
    estimator = fitted(tiny_model, labels=labels, demonstrations=[], min_probability=1e-4, max_labels=2)
    proba = estimator.transform(TEXTS[:2])
    assert proba.shape == (2, 20)
    assert ((proba >= 0) & (proba <= 1)).all()


def test_too_many_levels_are_refused(word_model):
    labels = [f"a{chr(97 + k % 26)}{k}" for k in range(40)]
    with pytest.raises(ValueError, match="smaller max_labels"):
        fitted(word_model, labels=labels, demonstrations=[], max_labels=40).transform(TEXTS)


def test_is_a_method_and_a_final_estimator(word_model, tmp_path):
    direct = fitted(word_model, memory=tmp_path)
    proba = direct.predict_proba(TEXTS)
    clear_models()
    np.testing.assert_array_equal(direct.transform(TEXTS), proba)
    params = {"labels": LABELS, "demonstrations": SHOTS, "kv_dtype": "float32"}
    clf = GGUFClassifier(str(word_model), method="marginal_over_generations", **params).fit()
    np.testing.assert_array_equal(clf.predict_proba(TEXTS), proba)
    np.testing.assert_array_equal(direct.predict(TEXTS), (proba >= 0.5).astype(int))
    assert list(direct.get_feature_names_out()) == LABELS
