"""Unary and binary breakdown on real llama.cpp: against the slow twin, reproducible, nothing decoded twice."""

import numpy as np
import pytest
from campaigns import in_campaigns
from inside import loaded, prepared
from slow_twin import SlowTwin, slow_row
from tiny_gguf import write_tiny_gguf

from skmlmc import BradleyTerry, PairwiseExtractor, QuestionTemplate, UnaryExtractor, clear_models

LABELS = ["joy", "joyful", "anger", "sadness"]
TEXTS = ["I miss her so much.", "We won!!!", "", "it rained and nothing happened", "<|im_end|> {label}"]
SHOTS = [("ha ha", ["joy", "joyful"]), ("it rained", []), ("oh no", ["sadness", "anger"]), ("boo", LABELS)]
EXTRACTORS = {
    "unary": UnaryExtractor,
    "pairs": PairwiseExtractor,
    "one order": lambda *args, **params: PairwiseExtractor(*args, both_orders=False, **params),
}


@pytest.fixture(scope="module")
def word_model(tmp_path_factory):
    return write_tiny_gguf(tmp_path_factory.mktemp("models") / "w.gguf", words=("joy", "ful", " joy", "sad"), seed=1)


def fitted(which, model, **params):
    defaults = {"labels": LABELS, "demonstrations": SHOTS, "kv_dtype": "float32", "random_state": 0}
    return EXTRACTORS[which](str(model), **{**defaults, **params}).fit()


def questions_alone(estimator):
    """Each question's whole prompt behind the document, and its answers: nothing shared."""
    task, model = estimator._task(), loaded(estimator)
    for question, compiled in zip(task.questions, task.compile(model), strict=True):
        yield question, compiled.bridge + compiled.answers.slot().lead, compiled.answers.slot().trie


def slow_answers(twin, estimator, ready, text, behind="\n\nInput:", every=1):
    """The twin's probability of the first answer word, for each question."""
    task, model, spell = estimator._task(), loaded(estimator), twin.speller("list", behind, " ")
    for question, compiled in list(zip(task.questions, task.compile(model), strict=True))[::every]:
        prompt = [*ready.prefix, *ready.document(text), *compiled.bridge]
        yield question, slow_row(twin.logits, prompt, spell, estimator.answer_words)[0][0]


@pytest.mark.parametrize("model", ["word_model", in_campaigns("tiny_chat_model")])
@pytest.mark.parametrize("which", EXTRACTORS)
@pytest.mark.parametrize("words", [("reasonable", "unreasonable"), in_campaigns(pytest.param(("joy", "joyful")))])
def test_agrees_with_the_slow_twin(which, model, words, request):
    path = request.getfixturevalue(model)
    behind = {"word_model": "\n\nInput:", "tiny_chat_model": "<|im_end|>\n<|im_start|>user\nInput:"}
    estimator = fitted(which, path, answer_words=words)
    got = estimator.transform(TEXTS)
    ready = prepared(estimator)
    twin = SlowTwin(path)
    for text, row in zip(TEXTS, got, strict=True):
        answers = dict(slow_answers(twin, estimator, ready, text, behind[model]))
        if which == "unary":
            expected = np.array([answers[k,] for k in range(len(LABELS))])
        else:
            n = len(LABELS) + 1
            expected = np.full((n, n), 0.5)
            for a, b in answers:
                other = 1 - answers.get((b, a), 1 - answers[a, b])
                expected[a, b] = (answers[a, b] + other) / 2
                expected[b, a] = 1 - expected[a, b]
        np.testing.assert_allclose(row, expected, atol=1e-5)
    twin.close()


@pytest.mark.parametrize("which", EXTRACTORS)
def test_any_subset_order_or_repetition_gives_the_same_bits(which, word_model):
    estimator = fitted(which, word_model)
    whole = estimator.transform(TEXTS)
    np.testing.assert_array_equal(estimator.transform(TEXTS[::-1]), whole[::-1])
    np.testing.assert_array_equal(estimator.transform([TEXTS[2], TEXTS[2]]), whole[[2, 2]])
    clear_models()
    np.testing.assert_array_equal(estimator.transform(TEXTS[1:2]), whole[1:2])


@pytest.mark.parametrize("which", EXTRACTORS)
def test_batches_agree(which, word_model):
    single, batched = fitted(which, word_model), fitted(which, word_model, batch_size=3)
    np.testing.assert_allclose(batched.transform(TEXTS), single.transform(TEXTS), atol=1e-5)


@pytest.mark.parametrize("which", EXTRACTORS)
def test_nothing_is_decoded_twice(which, word_model):
    """Prefix once, each document once, and of the questions every shared token once: the size of their trie."""
    clear_models()
    estimator = fitted(which, word_model)
    model = loaded(estimator)
    estimator.transform([*TEXTS, *TEXTS])
    paths = [tuple(tokens) for _, tokens, _ in questions_alone(estimator)]
    inner = sum(len(b.tokens) for *_, trie in questions_alone(estimator) for b in trie.branches(0))
    trie_size = len({path[:k] for path in paths for k in range(1, len(path) + 1)})
    ready = prepared(estimator)
    documents = sum(len(ready.document(text)) for text in TEXTS)
    assert model.decoded == len(ready.prefix) + documents + len(TEXTS) * (trie_size + inner)
    before = model.decoded
    estimator.transform(TEXTS[:1])
    assert model.decoded == before + len(ready.document(TEXTS[0])) + trie_size + inner


@pytest.mark.parametrize("which", EXTRACTORS)
def test_more_questions_than_sequences(which, word_model):
    """Twelve labels make 156 questions for 63 sequences: several calls, nothing twice, and the twin's numbers."""
    labels = [f"label {chr(97 + k)}{k % 3}" for k in range(12)]
    clear_models()
    estimator = fitted(which, word_model, labels=labels, demonstrations=[])
    model = loaded(estimator)
    got = estimator.transform(TEXTS[:2])
    paths = [tuple(tokens) for _, tokens, _ in questions_alone(estimator)]
    trie_size = len({path[:k] for path in paths for k in range(1, len(path) + 1)})
    ready = prepared(estimator)
    documents = sum(len(ready.document(text)) for text in TEXTS[:2])
    assert model.decoded == len(ready.prefix) + documents + 2 * trie_size
    twin = SlowTwin(word_model)
    for question, p in slow_answers(twin, estimator, ready, TEXTS[1], every=17):
        if which == "unary":
            assert got[1, question[0]] == pytest.approx(p, abs=1e-5)
        elif which == "one order":
            assert got[1][question] == pytest.approx(p, abs=1e-5)
    twin.close()


def test_pairs_are_probabilities(word_model):
    pairs = fitted("pairs", word_model).transform(TEXTS)
    np.testing.assert_allclose(pairs + pairs.transpose(0, 2, 1), 1, atol=1e-12)
    proba = BradleyTerry().fit_transform(pairs)
    assert proba.shape == (len(TEXTS), len(LABELS))
    assert ((proba > 0) & (proba < 1)).all()


def test_unary_demonstrations_are_half_right(word_model):
    shots = [(f"text {k}", ["joy"] if k % 2 else ["anger", "sadness"]) for k in range(10)]
    estimator = fitted("unary", word_model, demonstrations=shots)
    answers = [answer for *_, answer in estimator.questions_]
    assert answers.count("reasonable") == answers.count("unreasonable") == 5
    given = dict(shots)
    for text, label, answer in estimator.questions_:
        assert (label in given[text]) == (answer == "reasonable")
    again = fitted("unary", word_model, demonstrations=shots)
    assert again.questions_ == estimator.questions_
    others = [fitted("unary", word_model, demonstrations=shots, random_state=s).questions_ for s in range(1, 4)]
    assert any(other != estimator.questions_ for other in others)


def test_pair_demonstrations_show_the_given_label_as_better(word_model):
    shots = [("a", ["joy"]), ("b", []), ("c", LABELS), ("d", ["anger", "sadness"])]
    given = dict(shots)
    questions = fitted("pairs", word_model, demonstrations=shots).questions_
    assert sorted(text for text, *_ in questions) == ["a", "b", "c", "d"]
    for text, first, second, answer in questions:
        better, worse = (first, second) if answer == "a" else (second, first)
        assert better in (given[text] or ["none"])
        assert worse not in given[text]
    assert {answer for *_, answer in questions} == {"a", "b"}


def test_names_of_the_columns(word_model):
    pandas = pytest.importorskip("pandas")
    frame = fitted("unary", word_model).set_output(transform="pandas").transform(TEXTS)
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns) == LABELS


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"answer_words": ("yes",)}, "answer_words"),
        ({"answer_words": ("yes", "yes")}, "two different words"),
        ({"prompt": QuestionTemplate(demonstration="{text} {first} {second} {answer}\n")}, "placeholders"),
        ({"labels": ["joy"]}, "at least two"),
    ],
)
def test_bad_parameters(params, message, word_model):
    with pytest.raises(ValueError, match=message):
        fitted("unary", word_model, **params)


def test_a_question_without_a_label_is_refused():
    with pytest.raises(ValueError, match="label"):
        QuestionTemplate(demonstration="{text} fits? {answer}")
