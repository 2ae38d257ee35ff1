"""GGUFClassifier(method="stack"): probes on several layers and on words, combined."""

import pickle

import numpy as np
import pytest
from ecosystem_data import LABELS, TEXTS, H, Y, classifier
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GroupKFold, KFold, cross_validate
from sklearn.pipeline import make_pipeline
from tiny_gguf import write_tiny_gguf

from skmlmc import EmbeddingExtractor, HiddenStateExtractor, LinearProbe, compare_methods
from skmlmc.calibrate import SoftStackingClassifier
from skmlmc.metrics import scorers


def stack(model, **params):
    return classifier(model, method="stack", random_state=0, **params)


def test_probes_on_layers_and_on_words(tiny_model, decoded):
    fitted = stack(tiny_model).fit(TEXTS, H)
    (combined,) = fitted.readouts_
    assert combined.views_ == ["states[0]", "states[1]", "words"], "the tiny model has two blocks"
    proba = fitted.predict_proba(TEXTS)
    assert proba.shape == H.shape and ((proba > 0) & (proba < 1)).all()
    assert fitted.labels_.tolist() == LABELS
    decoded()
    fitted.predict_proba(TEXTS[:1])
    once = decoded()
    fitted.extractors_[0].transform(TEXTS[1:2])
    assert abs(once - decoded()) <= 2, "one pass gives the states of all layers"


def test_as_its_parts_by_hand(tiny_model):
    states = {"layer": [0, 0, None], "pooling": ["mean", "last", "last"]}
    fitted = stack(tiny_model, **states).fit(TEXTS, H)
    extractor = HiddenStateExtractor(tiny_model, labels=LABELS, n_threads=1, **states).fit(TEXTS, H)
    vectors = TfidfVectorizer(token_pattern=r"\b\w+\b", ngram_range=(1, 2), sublinear_tf=True)
    words = make_pipeline(vectors, LinearProbe(None, scale=False, random_state=0))
    by_hand = SoftStackingClassifier([("states", FrozenEstimator(extractor)), ("words", words)])
    by_hand.fit(np.array(TEXTS, dtype=object), H)
    assert_allclose(fitted.predict_proba(TEXTS), by_hand.predict_proba(TEXTS))
    width = extractor.n_features_out_ // 3
    assert extractor.widths_ == [width] * 3
    alone = HiddenStateExtractor(tiny_model, labels=LABELS, n_threads=1, layer=0, pooling="mean").fit()
    assert_array_equal(extractor.transform(TEXTS)[:, :width], alone.transform(TEXTS))
    alone.set_params(pooling="last").fit()
    assert_array_equal(extractor.transform(TEXTS)[:, width : 2 * width], alone.transform(TEXTS))
    assert extractor.get_feature_names_out()[[0, width, 2 * width]].tolist() == [
        "layer0_mean_hidden0",
        "layer0_last_hidden0",
        "layer1_last_hidden0",
    ]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"layer": [0, 0], "pooling": ["mean"]}, "one for all layers, or 2"),
        ({"layer": [0, 0], "pooling": ["mean", "mean"]}, "expected each of them once"),
        ({"layer": [0, None], "pooling": ["mean", "mean"]}, "last layer is computed at one token only"),
        ({"layer": [0, 0], "pooling": ["mean", "most"]}, "pooling='most' but expected"),
        ({"method_params": {"estimators": []}}, "expected None or a dict with some of"),
        ({"content_free": ["N/A"]}, "no probabilities to divide"),
    ],
)
def test_hostile_parameters(tiny_model, params, message, decoded):
    with pytest.raises(ValueError, match=message):
        stack(tiny_model, **params).fit(TEXTS, H)
    assert decoded() == 0


def test_demonstrations_are_those_of_the_whole_fit(tiny_model):
    fitted = stack(tiny_model, shots=3).fit(TEXTS, H)
    (front, _), (probes, _) = fitted.readouts_[0].estimators_, fitted.readouts_[0].heads_
    assert front.demonstrations_ == fitted.demonstrations_ and len(probes) == 2


def test_single_label(tiny_model):
    y = np.array(LABELS)[H.argmax(axis=1)]
    fitted = stack(tiny_model, multi_label=False).fit(TEXTS, y)
    assert fitted.classes_.tolist() == sorted(LABELS)
    assert_allclose(fitted.predict_proba(TEXTS).sum(axis=1), 1)
    assert set(fitted.predict(TEXTS)) <= set(LABELS)
    soft = stack(tiny_model, multi_label=False).fit(TEXTS, (H + 0.1) / (H + 0.1).sum(axis=1, keepdims=True))
    assert_allclose(soft.predict_proba(TEXTS).sum(axis=1), 1)


def test_what_classifiers_can_do(tiny_model, tmp_path, decoded):
    fitted = stack(tiny_model, aligner="platt", n_label_orders=2, memory=tmp_path).fit(TEXTS, H)
    assert fitted.predict_proba(TEXTS).shape == H.shape
    assert [len(readout.views_) for readout in fitted.readouts_] == [3, 3]
    decoded()
    again = clone(fitted).fit(TEXTS, H)
    assert_array_equal(again.predict_proba(TEXTS), fitted.predict_proba(TEXTS))
    assert decoded() == 0, "all states come from the cache"
    loaded = pickle.loads(pickle.dumps(fitted))
    assert_array_equal(loaded.predict_proba(TEXTS), fitted.predict_proba(TEXTS))
    loaded.set_params(memory=None)
    assert loaded.readouts_[0].estimators_[0].memory is None, "it is the classifier's own extractor"
    assert_array_equal(fitted.diagnose(TEXTS[:2]).proba, fitted.predict_proba(TEXTS[:2]))


def test_weights(tiny_model):
    w = np.where(np.arange(len(TEXTS)) % 2, 3.0, 1.0)
    plain, weighted = (stack(tiny_model).fit(TEXTS, H, sample_weight=each) for each in (None, w))
    assert np.abs(plain.predict_proba(TEXTS) - weighted.predict_proba(TEXTS)).max() > 1e-4
    assert_allclose(
        stack(tiny_model).fit(TEXTS, H, sample_weight=np.ones(len(TEXTS))).predict_proba(TEXTS),
        plain.predict_proba(TEXTS),
    )


def test_tools(tiny_model, tmp_path):
    base = stack(tiny_model, memory=tmp_path)
    scores = cross_validate(base, TEXTS, H, cv=KFold(2), scoring=scorers(), error_score="raise")
    assert np.isfinite(scores["test_nll"]).all()
    table = compare_methods(TEXTS, H, ["stack", "linear_probe"], estimator=base, cv=KFold(2))
    assert table["nll"][1] == pytest.approx(-scores["test_nll"].mean())


def test_a_deeper_model_has_five_views(tmp_path):
    model = write_tiny_gguf(tmp_path / "deep.gguf", n_layer=8)
    fitted = stack(model).fit(TEXTS, Y)
    assert len(fitted.readouts_[0].views_) == 6
    (extractor,) = fitted.extractors_
    assert len(extractor.widths_) == 5 and extractor.n_features_out_ == sum(extractor.widths_)


@pytest.mark.parametrize("method", ["stack", "linear_probe"])
@pytest.mark.parametrize("aligner", [None, "platt", "matrix"])
def test_groups_reach_what_is_cross_validated(tiny_model, method, aligner):
    groups = np.arange(len(TEXTS)) // 2
    params = {"method_params": {"cv": GroupKFold(4)}, "aligner": aligner}
    fitted = stack(tiny_model, **params).set_params(method=method).fit(TEXTS, H, groups=groups)
    assert np.isfinite(fitted.predict_proba(TEXTS)).all()
    with pytest.raises(ValueError, match="groups"):
        stack(tiny_model, **params).set_params(method=method).fit(TEXTS, H)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        stack(tiny_model, **params).set_params(method=method).fit(TEXTS, H, groups=groups[1:])
    probe = LinearProbe(None, cv=GroupKFold(4)).fit(np.eye(len(TEXTS)), H, groups=groups)
    by_hand = LinearProbe(None, cv=list(GroupKFold(4).split(TEXTS, groups=groups))).fit(np.eye(len(TEXTS)), H)
    assert probe.C_ == by_hand.C_


def test_documents_are_read_once_however_often_they_are_held_out(tiny_model, decoded):
    """Behind an aligner the stack is fitted six times."""
    texts = [f"{text} {i}" for i, text in enumerate(TEXTS)]
    stack(tiny_model).fit(texts, H)
    once = decoded()
    fitted = stack(tiny_model, aligner="platt").fit(texts, H)
    assert len(texts) < decoded() <= once
    stack(tiny_model, threshold="tune").fit(texts, H)
    assert len(texts) < decoded() <= once
    assert isinstance(fitted.readouts_[0].estimators_[0], FrozenEstimator)
    assert len(pickle.dumps(fitted)) < 16_000, "features are not kept"


def test_an_encoder_is_one_more_member(tiny_model, tiny_encoder, tmp_path):
    plain = stack(tiny_model).fit(TEXTS, H)
    params = {"method_params": {"encoder": tiny_encoder}, "truncation": "end", "n_ctx": 64}
    fitted = stack(tiny_model, **params).fit(TEXTS, H)
    combined = fitted.readouts_[0]
    assert combined.views_ == ["states[0]", "states[1]", "words", "encoder"]
    assert_allclose(combined.estimators_[2].transform(TEXTS), EmbeddingExtractor(tiny_encoder).fit_transform(TEXTS))
    assert not np.allclose(fitted.predict_proba(TEXTS), plain.predict_proba(TEXTS))
    given = stack(tiny_model, method_params={"encoder": EmbeddingExtractor(tiny_encoder, pooling="cls")}).fit(TEXTS, H)
    assert given.readouts_[0].estimators_[2].pooling_ == "cls"
    fitted.set_params(memory=str(tmp_path), n_threads=2)
    assert combined.estimators_[2].memory == str(tmp_path) and combined.estimators_[2].n_threads == 2
    assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict_proba(TEXTS), fitted.predict_proba(TEXTS))


def test_what_is_no_encoder_is_refused_before_anything_is_decoded(tiny_model, tmp_path, decoded):
    for encoder, error in ((tiny_model, ValueError), (tmp_path / "nothing.gguf", FileNotFoundError)):
        with pytest.raises(error):
            stack(tiny_model, method_params={"encoder": encoder}).fit(TEXTS, H)
    with pytest.raises(ValueError, match="expected None or a dict with some of"):
        classifier(tiny_model, method="linear_probe", method_params={"encoder": "a.gguf"}).fit(TEXTS, H)
    assert decoded() == 0


def test_documents_alone_unless_there_is_a_prompt(tiny_model):
    alone = stack(tiny_model).fit(TEXTS, H)
    assert alone.model_report().layout == "document"
    for params in ({"shots": 2}, {"prompt": "Which of {labels}?"}, {"method_params": {"read": "prompt"}}):
        assert stack(tiny_model, **params).fit(TEXTS, H).model_report().layout == "plain"
