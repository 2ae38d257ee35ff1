"""One table of methods."""

import numpy as np
import pytest
from inside import loaded
from sklearn.base import clone
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import KFold, ShuffleSplit
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from skmlmc import (
    ContextualCalibration,
    GGUFClassifier,
    LinearProbe,
    MaxOverGenerations,
    ScalingAligner,
    StepwiseExtractor,
    UnaryExtractor,
    clear_models,
    compare_methods,
    comparison,
)
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


def scored_by_hand(classifier, y, order):
    """Mean over folds, each label looked up by its name."""
    found = []
    for train, test in KFold(3).split(TEXTS):
        fitted = clone(classifier).fit([TEXTS[i] for i in train], y.iloc[train][order].to_numpy())
        proba = fitted.predict_proba([TEXTS[i] for i in test])
        found.append(sum(nll(y[[name]].iloc[test], proba[:, [order.index(name)]]) for name in LABELS))
    return np.mean(found)


def test_labels_in_other_orders_are_scored_under_their_names(tiny_model):
    pandas = pytest.importorskip("pandas")
    y = pandas.DataFrame(H, columns=LABELS)[["sadness", "joy", "anger"]]
    words = make_pipeline(TfidfVectorizer(), TruncatedSVD(2, random_state=0), LinearProbe(C=1.0))
    hard = make_pipeline(TfidfVectorizer(), KNeighborsClassifier(3))
    unary = {"method": "unary_breakdown", "aligner": "platt"}
    methods = {
        "one": GGUFClassifier(tiny_model, labels=LABELS, **unary),
        "other": GGUFClassifier(tiny_model, labels=LABELS[::-1], **unary),
        "from y": GGUFClassifier(tiny_model, **unary),
        "pipeline": make_pipeline(UnaryExtractor(tiny_model, labels=["anger", "sadness", "joy"]), ScalingAligner()),
        "words": words,
    }
    table, proba = compare_methods(TEXTS, y, methods, cv=KFold(3), return_proba=True)
    orders = (LABELS, LABELS[::-1], list(y), ["anger", "sadness", "joy"], list(y))
    scores = dict(zip(table["method"], table["nll"], strict=True))
    for (name, method), order in zip(methods.items(), orders, strict=True):
        method = method.set_params(labels=order) if name == "from y" else method
        assert scores[name] == pytest.approx(scored_by_hand(method, y, order)), name
        folds = [nll(y.iloc[test], proba[name][test]) for _, test in KFold(3).split(TEXTS)]
        assert scores[name] == pytest.approx(np.mean(folds))  # the columns are those of y
        assert nll(y[LABELS], proba[name]) == pytest.approx(nll(y, proba[name]))  # and know it
    # Neighbours have a list of arrays and no names: the order of the targets.
    indicators = (y > 0.5).astype(int)
    _, proba = compare_methods(TEXTS, indicators, {"hard": hard}, cv=KFold(3), return_proba=True)
    fitted = hard.fit(TEXTS[8:], indicators.to_numpy()[8:])
    lists = zip(fitted.predict_proba(TEXTS[:8]), fitted.classes_, strict=True)
    by_hand = np.column_stack([p[:, list(c).index(1)] for p, c in lists])
    np.testing.assert_array_equal(np.asarray(proba["hard"])[:8], by_hand)


def test_methods_for_other_labels_are_refused(tiny_model):
    pandas = pytest.importorskip("pandas")
    y = pandas.DataFrame(H, columns=LABELS)
    one, other, stranger = (
        GGUFClassifier(tiny_model, labels=labels) for labels in (LABELS, LABELS[::-1], ["joy", "anger", "fear"])
    )
    wrapped = make_pipeline(
        ContextualCalibration(StepwiseExtractor(tiny_model, labels=LABELS[::-1])), MaxOverGenerations()
    )
    with pytest.raises(ValueError, match="the labels of y, .*, but 'c' has .*'fear'"):
        compare_methods(TEXTS, y, {"a": one, "c": stranger})
    for method in (other, wrapped):
        with pytest.raises(ValueError, match="same order of labels, .* as y has no names, but 'b' has .*DataFrame"):
            compare_methods(TEXTS, H, {"a": one, "b": method})

    class Renamed(LinearProbe):
        def fit(self, X, y):
            super().fit(X, np.asarray(y))
            self.labels_ = ["x", "y", "z"]
            return self

    late = make_pipeline(TfidfVectorizer(), TruncatedSVD(2, random_state=0), Renamed(C=1.0))
    with pytest.raises(ValueError, match=r"Expected 'late' to give probabilities of .*, but got \['x', 'y', 'z'\]"):
        compare_methods(TEXTS, y, {"late": late}, cv=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"methods": ["guess"]}, "expected one of"),
        ({"methods": ["compare_to_none+magic"]}, "plus sign"),
        ({"methods": []}, "at least one"),
        ({"methods": {"a": 3}}, "predict_proba"),
        ({"estimator": LinearProbe()}, "GGUFClassifier"),
        ({"y": H[:5]}, "24"),
        ({"y": H[:, :2]}, "y to have 3 columns, one a label"),
        ({"cv": ShuffleSplit(2, random_state=0), "return_proba": True}, "hold every document out once"),
    ],
)
def test_bad_input(arguments, message, tiny_model):
    given = {"X": TEXTS, "y": H, "estimator": GGUFClassifier(tiny_model, labels=LABELS), **arguments}
    with pytest.raises((ValueError, TypeError), match=message):
        compare_methods(**given)
