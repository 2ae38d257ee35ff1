"""One table of methods."""

import numpy as np
import pytest
from inside import loaded
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import KFold, ShuffleSplit
from sklearn.pipeline import make_pipeline

from skmlmc import GGUFClassifier, LinearProbe, clear_models, compare_methods, comparison
from skmlmc.metrics import example_f1, nll

LABELS = ["joy", "anger", "sadness"]
TEXTS = [f"text {k} {'word ' * (k % 4)}" for k in range(24)]
H = np.random.default_rng(0).integers(0, 4, (24, 3)) / 3


def test_rows_and_columns(tiny_model, tmp_path):
    base = GGUFClassifier(tiny_model, labels=LABELS, memory=tmp_path)
    methods = ["compare_to_none", "max_over_generations", "max_over_generations+platt", "linear_probe"]
    table = compare_methods(TEXTS, H, methods, estimator=base, cv=KFold(3))
    assert table["method"] == ["constant base rate", *methods]
    assert all(len(column) == 5 for column in table.values())
    assert np.isfinite([table["nll"], table["l1"], table["example_f1"]]).all()
    # Steps are shared by the read-outs, and the probe adds hidden states.
    assert table["tokens_per_document"][1] == table["tokens_per_document"][2]
    assert np.isnan(table["tokens_per_document"][0])
    assert min(table["documents_per_second"][1:]) > 0


def test_numbers_are_those_of_cross_validation(tiny_model):
    base = GGUFClassifier(tiny_model, labels=LABELS)
    table = compare_methods(TEXTS, H, ["unary_breakdown"], estimator=base, cv=KFold(3))
    by_hand, constant = [], []
    for train, test in KFold(3).split(TEXTS):
        fitted = GGUFClassifier(tiny_model, labels=LABELS, method="unary_breakdown").fit()
        by_hand.append(nll(H[test], fitted.predict_proba([TEXTS[i] for i in test])))
        constant.append(nll(H[test], np.tile(H[train].mean(axis=0), (len(test), 1))))
    assert table["nll"] == pytest.approx([np.mean(constant), np.mean(by_hand)])
    assert table["nll_std"] == pytest.approx([np.std(constant), np.std(by_hand)])


def test_held_out_probabilities(tiny_model):
    base = GGUFClassifier(tiny_model, labels=LABELS)
    given = {"methods": ["unary_breakdown"], "estimator": base, "cv": KFold(3, shuffle=True, random_state=0)}
    table, proba = compare_methods(TEXTS, H, **given, return_proba=True)
    assert list(proba) == table["method"] == ["constant base rate", "unary_breakdown"]
    fitted = base.set_params(method="unary_breakdown").fit()
    np.testing.assert_array_equal(proba["unary_breakdown"], fitted.predict_proba(TEXTS))
    for train, test in given["cv"].split(TEXTS):
        np.testing.assert_array_equal(proba["constant base rate"][test], np.tile(H[train].mean(axis=0), (8, 1)))


def test_each_document_is_answered_once_without_a_cache(tiny_model, monkeypatch):
    asked = []
    answer = GGUFClassifier.predict_proba
    monkeypatch.setattr(GGUFClassifier, "predict_proba", lambda self, X: asked.extend(X) or answer(self, X))
    monkeypatch.setattr(comparison, "_time", lambda *_: (np.nan, np.nan))
    base = GGUFClassifier(tiny_model, labels=LABELS, threshold=0.1)
    table = compare_methods(TEXTS, H, ["compare_to_none"], estimator=base, cv=KFold(3))
    assert sorted(asked) == sorted(TEXTS)
    fitted = base.set_params(method="compare_to_none").fit()
    folds = [example_f1(H[test], fitted.predict([TEXTS[i] for i in test])) for _, test in KFold(3).split(TEXTS)]
    assert table["example_f1"][1] == pytest.approx(np.mean(folds))


def test_one_cache_decodes_each_document_once(tiny_model, tmp_path):
    clear_models()
    engine = loaded(GGUFClassifier(tiny_model))
    base = GGUFClassifier(tiny_model, labels=LABELS, memory=tmp_path)
    compare_methods(TEXTS, H, ["compare_to_none", "hard_predictions", "max_over_generations"], estimator=base, cv=4)
    # All documents once; and for each method a timing of six documents, with one more to warm up.
    calls = engine.calls
    clear_models()
    engine = loaded(GGUFClassifier(tiny_model))
    base.set_params(memory=None).fit().predict_proba(TEXTS)
    assert calls < 2.2 * engine.calls


def test_other_classifiers_and_names(tiny_model):
    pandas = pytest.importorskip("pandas")
    tfidf = make_pipeline(TfidfVectorizer(), TruncatedSVD(2, random_state=0), LinearProbe())
    frame = pandas.DataFrame(H, columns=LABELS)
    methods = {"ours": "compare_to_none", "tf-idf": tfidf}
    table = compare_methods(TEXTS, frame, methods, estimator=GGUFClassifier(tiny_model), cv=2, as_frame=True)
    assert list(table["method"]) == ["constant base rate", "ours", "tf-idf"]
    assert np.isnan(table["documents_per_second"][2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"methods": ["guess"]}, "expected one of"),
        ({"methods": ["compare_to_none+magic"]}, "plus sign"),
        ({"methods": []}, "at least one"),
        ({"methods": {"a": 3}}, "predict_proba"),
        ({"estimator": LinearProbe()}, "GGUFClassifier"),
        ({"y": H[:5]}, "24"),
        ({"cv": ShuffleSplit(2, random_state=0), "return_proba": True}, "hold every document out once"),
    ],
)
def test_bad_input(arguments, message, tiny_model):
    given = {"X": TEXTS, "y": H, "estimator": GGUFClassifier(tiny_model, labels=LABELS), **arguments}
    with pytest.raises((ValueError, TypeError), match=message):
        compare_methods(**given)
