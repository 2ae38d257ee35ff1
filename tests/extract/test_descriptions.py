"""Descriptions of labels: where they stand in a prompt, what they cost, and that they are text."""

import numpy as np
import pytest
from ecosystem_data import LABELS, TEXTS, H, classifier, extractor, same
from text_estimators import answer

from skmlmc import (
    GGUFClassifier,
    HiddenStateExtractor,
    MarginalExtractor,
    PairwiseExtractor,
    PromptTemplate,
    QuestionTemplate,
    StepwiseExtractor,
    UnaryExtractor,
)

TOLD = {"sadness": "gloomy, heartbroken", "joy": "happy\n{labels} </s>"}
LISTED = "joy (happy\n{labels} </s>), anger, sadness (gloomy, heartbroken)"
PLAIN = "joy, anger, sadness"
FEW = TEXTS[:3]
ANSWERS = (StepwiseExtractor, MarginalExtractor, HiddenStateExtractor)


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("cls", ANSWERS)
def test_the_instruction_of_an_answer_lists_them(cls, chat, tiny_model, tiny_chat_model):
    model = tiny_chat_model if chat else tiny_model
    bare, told = (extractor(model, cls, descriptions=given).fit() for given in (None, TOLD))
    assert PLAIN in bare.prompt_text("x")
    assert told.prompt_text("x") == bare.prompt_text("x").replace(PLAIN, LISTED)
    ordered = extractor(model, cls, descriptions=TOLD, label_order=["sadness", "joy", "anger"]).fit()
    assert "sadness (gloomy, heartbroken), joy (happy\n{labels} </s>), anger" in ordered.prompt_text("x")


@pytest.mark.parametrize("chat", [False, True])
def test_a_question_about_a_label_has_its_own(chat, tiny_model, tiny_chat_model):
    shown = [("ha", ["joy"]), ("oh", ["sadness"])]
    model = tiny_chat_model if chat else tiny_model
    fitted = extractor(model, UnaryExtractor, descriptions=TOLD, demonstrations=shown).fit()
    text = fitted.prompt_text("x")
    assert PLAIN in text and LISTED not in text
    assert "Label: joy (happy\n{labels} </s>)" in text.split("Input: x")[1]
    for _, label, _ in fitted.questions_:
        told = f" ({TOLD[label]})" if label in TOLD else ""
        assert f"Label: {label}{told}" in text.split("Input: x")[0]


def test_questions_about_pairs_leave_them_to_the_instruction(tiny_model):
    fitted = extractor(tiny_model, PairwiseExtractor, descriptions=TOLD).fit()
    instruction, question = fitted.prompt_text("x").split("Input: x")
    assert f"{LISTED}, none" in instruction and "(a) joy or (b) anger?" in question
    silent = QuestionTemplate("Which of two fits?", "{text}\n(a) {first} or (b) {second}?\nAnswer: {answer}\n")
    fitted = extractor(tiny_model, PairwiseExtractor, descriptions=TOLD, prompt=silent).fit()
    assert "(a) joy (happy\n{labels} </s>) or (b) anger?" in fitted.prompt_text("x")
    assert QuestionTemplate().lists_labels and not silent.lists_labels
    assert not QuestionTemplate(instruction="{{labels}}").lists_labels


SAME_TEXT = {
    StepwiseExtractor: (PromptTemplate("Choose from {labels} now."), PromptTemplate("Choose from {labels} (sad) now.")),
    UnaryExtractor: (
        QuestionTemplate(demonstration="{text}\nIs it {label}?\n{answer}\n"),
        QuestionTemplate(demonstration="{text}\nIs it {label} (sad)?\n{answer}\n"),
    ),
    PairwiseExtractor: (
        QuestionTemplate("Of {labels}?", "{text}\n{first} or {second}?\n{answer}\n"),
        QuestionTemplate("Of {labels} (sad)?", "{text}\n{first} or {second}?\n{answer}\n"),
    ),
}


@pytest.mark.parametrize("cls", SAME_TEXT)
def test_they_count_as_the_text_that_they_are(cls, tiny_model):
    """A prompt in which somebody wrote the same by hand has the same tokens, and the same answers bit for bit."""
    template, by_hand = SAME_TEXT[cls]
    told = dict.fromkeys(LABELS if cls is UnaryExtractor else LABELS[-1:], "sad")
    expected = extractor(tiny_model, cls, prompt=by_hand).fit().transform(TEXTS)
    assert same(extractor(tiny_model, cls, prompt=template, descriptions=told).fit().transform(TEXTS), expected)
    assert not same(extractor(tiny_model, cls, prompt=template).fit().transform(TEXTS), expected)


@pytest.mark.parametrize("cls", [*ANSWERS, PairwiseExtractor, UnaryExtractor])
def test_what_a_document_costs(cls, tiny_model, decoded):
    """The prefix is decoded once; behind it a document costs what it did, but where its questions are longer."""
    spent = []
    for told in (None, TOLD):
        fitted = extractor(tiny_model, cls, descriptions=told).fit()
        first = answer(fitted, FEW[:1])
        decoded()
        answer(fitted, FEW[1:])
        spent.append(decoded())
        assert np.shape(first) == np.shape(answer(fitted, FEW[:1]))
    if cls in (PairwiseExtractor, HiddenStateExtractor):
        assert spent[0] == spent[1]
    elif cls is UnaryExtractor:
        assert spent[0] < spent[1]
    else:  # another answer has other steps
        assert abs(spent[0] - spent[1]) < 2 * len(LISTED)


@pytest.mark.parametrize("method", ["max_over_generations", "unary_breakdown", "binary_breakdown"])
def test_the_cache_knows_them(method, tiny_model, decoded, tmp_path):
    made = {}
    for name, told in {"bare": None, "empty": {}, "told": TOLD, "other": TOLD | {"anger": "furious"}}.items():
        decoded()
        clf = classifier(tiny_model, method=method, descriptions=told, memory=tmp_path).fit()
        made[name] = clf.predict_proba(FEW)
        assert (decoded() == 0) == (name == "empty")
        fresh = classifier(tiny_model, method=method, descriptions=told).fit()
        assert same(fresh.predict_proba(FEW), made[name])
    assert same(made["bare"], made["empty"])
    assert len({array.tobytes() for array in made.values()}) == 3


def test_each_method_of_the_classifier_has_them(tiny_model):
    for method in ("compare_to_none", "marginal_over_generations", "linear_probe", "binary_breakdown", "stack"):
        clf = classifier(tiny_model, method=method, descriptions=TOLD).fit(TEXTS, H)
        assert LISTED in clf.prompt_text("x"), method
        assert clf.predict_proba(FEW).shape == (3, 3)
    several = classifier(tiny_model, n_label_orders=3, content_free=["N/A"], descriptions=TOLD, random_state=0).fit()
    for part in several.extractors_:
        assert "sadness (gloomy, heartbroken)" in part.extractor_.prompt_text("x")


def test_names_not_wordings_have_them(tiny_model):
    wordings = {"joy": "happiness", "anger": "rage", "sadness": "grief"}
    fitted = extractor(tiny_model, labels=wordings, descriptions={"joy": "bliss"}).fit()
    assert "happiness (bliss), rage, grief" in fitted.prompt_text("x")
    with pytest.raises(ValueError, match=r"descriptions of \['happiness'\], which are no labels"):
        fitted.set_params(descriptions={"happiness": "bliss"}).fit()


def test_classes_that_are_numbers_have_them(tiny_model):
    y = np.arange(len(TEXTS)) % 3
    labels, told = {0: "grim", 1: "calm", 2: "glad"}, {0: "sad, bitter", 2: "happy"}
    clf = GGUFClassifier(tiny_model, labels=labels, multi_label=False, descriptions=told, n_threads=1).fit(TEXTS, y)
    assert "grim (sad, bitter), calm, glad (happy)" in clf.prompt_text("x")
    assert set(clf.predict(FEW)) <= {0, 1, 2}


def test_nothing_is_described_where_documents_are_read_alone(tiny_model):
    alone = HiddenStateExtractor(tiny_model, read="document", descriptions=TOLD)
    with pytest.raises(ValueError, match=r'Got descriptions=.* with read="document", which has no prompt'):
        alone.fit()
