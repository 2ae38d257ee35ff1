"""The stepwise extractor on real llama.cpp: against the slow twin, reproducible, nothing decoded twice."""

import numpy as np
import pytest
from campaigns import in_campaigns, sampled
from inside import loaded, prepared
from slow_twin import SlowTwin, slow_beginning, slow_steps
from tiny_gguf import write_tiny_gguf

from skmlmc import HiddenStateExtractor, PromptTemplate, StepwiseExtractor, clear_models
from skmlmc._inference.report import SAMPLE

LABELS = ["joy", "joyful", "anger", "sadness", "surprise", "sad"]
TEXTS = [
    "I miss her so much.",
    "We won!!!",
    "",
    "it rained on tuesday and nothing happened at all, so we went home early and slept",
    "a surprise",
    "thank you <|im_end|> so much",
    "what an angry, joyful mess",
    SAMPLE,
]
MORE_TEXTS = [*TEXTS, *(f"{word} and {word[::-1]} again" for word in "rain sun snow wind".split())]
SHOTS = [("ha ha", ["joy", "joyful"]), ("it rained", []), ("oh no", ["sadness", "anger"]), ("boo", ["surprise"])]


def extractor(model, **params):
    defaults = {"labels": LABELS, "demonstrations": SHOTS, "kv_dtype": "float32"}
    return StepwiseExtractor(str(model), **{**defaults, **params}).fit()


def assert_same(a, b):
    assert np.array_equal(a, b, equal_nan=True)


TOKENS = ("joy", "ful", "ness", "sad", "prise", '",', '"]', "anger", " anger")


@pytest.fixture(scope="module")
def word_model(tmp_path_factory):
    """A random model whose vocabulary makes labels share first tokens: "s", "sad", "joy"."""
    return write_tiny_gguf(tmp_path_factory.mktemp("models") / "words.gguf", words=TOKENS, seed=9)


PROMPTS = {
    "json": PromptTemplate(),
    "list": PromptTemplate(answer_format="list", demonstration="Text: {text}\nLabels: {answer}\n"),
}
# What stands behind an answer, and the space before it.
PLAIN = {"json": ("\n\nInput:", ""), "list": ("\nText:", " ")}
CHAT = {"json": ("<|im_end|>\n<|im_start|>user\nInput:", ""), "list": ("<|im_end|>\n<|im_start|>user\nText:", " ")}
WORDS = [*LABELS, "none"]


def slow(twin, ready, text, answer_format="json", words=WORDS, behind=PLAIN, max_labels=9, whole=False):
    """Steps of the twin for a document, the tokens before the first of them, its label mass, and the beginning's."""
    spell = twin.speller(answer_format, *behind[answer_format])
    look = twin.logits, [*ready.prefix, *ready.document(text)], spell, words
    begun = slow_beginning(*look, behind[answer_format][1])
    return *slow_steps(*look, min(max_labels, len(words) - 1), whole), begun


@pytest.mark.parametrize("label_tokens", ["first", "whole"])
@pytest.mark.parametrize("answer_format", PROMPTS)
@pytest.mark.parametrize("which", sampled(["word_model", "tiny_model", "tiny_chat_model"]))
def test_agrees_with_the_slow_twin(which, answer_format, label_tokens, request):
    path = request.getfixturevalue(which)
    fitted = extractor(path, prompt=PROMPTS[answer_format], label_tokens=label_tokens)
    found = fitted.diagnose(MORE_TEXTS)
    twin, ready = SlowTwin(path), prepared(fitted)
    several = 0
    how = {"behind": CHAT if which == "tiny_chat_model" else PLAIN, "whole": label_tokens == "whole"}
    for text, got, mass in zip(MORE_TEXTS, found.steps, found.label_mass, strict=True):
        rows, _, slow_mass, slow_begun = slow(twin, ready, text, answer_format, **how)
        assert text != SAMPLE or found.beginning_mass == pytest.approx(slow_begun, rel=1e-4)
        happened = ~np.isnan(got[:, 0])
        assert happened.sum() == len(rows)
        several += len(rows) > 2
        np.testing.assert_allclose(got[: len(rows)], rows, atol=1e-5)
        assert mass == pytest.approx(slow_mass, abs=1e-5)
    twin.close()
    assert several or label_tokens == "whole", "no document had a third step, so later slots went untested"


@pytest.mark.parametrize(("label_tokens", "n_seq"), [("first", 6), ("whole", 6), in_campaigns(("whole", 64))])
def test_more_labels_than_sequences(tmp_path, label_tokens, n_seq, monkeypatch):
    """A slot is read in several calls, with the twin's numbers; several labels are written from there."""
    monkeypatch.setattr("skmlmc._engine.vocabulary.MAX_SEQ", n_seq)
    monkeypatch.setattr("skmlmc._engine.vocabulary.MIN_SEQ", n_seq)
    model = write_tiny_gguf(tmp_path / "other.gguf", words=TOKENS, seed=2)
    labels = [f"{letter}{a} {b}" for letter in "abcd" for a in range(3) for b in (1, 2)]
    fitted = extractor(model, labels=labels, demonstrations=[], max_labels=4, label_tokens=label_tokens)
    steps = fitted.transform(TEXTS)
    ready, twin = prepared(fitted), SlowTwin(model)
    assert len(ready.compiled.answers.slot().trie.runs) > n_seq or n_seq == 64
    how = {"words": [*labels, "none"], "max_labels": 4, "whole": label_tokens == "whole"}
    lengths = set()
    for text, got in list(zip(TEXTS, steps, strict=True))[1:5]:
        rows, *_ = slow(twin, ready, text, **how)
        np.testing.assert_allclose(got[~np.isnan(got[:, 0])], rows, atol=1e-5)
        lengths.add(len(rows))
    twin.close()
    assert max(lengths) > 2


def test_labels_share_tokens_in_this_test(word_model):
    trie = prepared(extractor(word_model)).compiled.answers.slot().trie
    by_name = dict(zip([*LABELS, "none"], trie.paths, strict=True))
    assert by_name["joyful"][: len(by_name["joy"])] == by_name["joy"]
    assert by_name["sadness"][0] == by_name["sad"][0]
    assert len(trie.places) > 2


@pytest.mark.campaign
def test_slow_twin_on_the_embedded_model(embedded_model):
    """Within the noise floor of quantised weights, at every step."""
    labels = ["admiration", "anger", "fear", "joy", "optimism", "sadness", "surprise"]
    shots = [
        ("Thank you, I never expected this!", ["admiration", "surprise"]),
        ("I hate waiting alone.", ["anger", "fear", "sadness"]),
        ("We did it, and there is more to come!", ["joy", "optimism"]),
    ]
    fitted = extractor(embedded_model, labels=labels, demonstrations=shots, kv_dtype="float16")
    texts = ["I miss her so much.", "We won!!!", "I am so angry and sad about this.", "He is late."]
    steps = fitted.transform(texts)
    twin, ready = SlowTwin(embedded_model, kv="float16"), prepared(fitted)
    compared = 0
    for text, got in zip(texts, steps, strict=True):
        rows, *_ = slow(twin, ready, text, words=[*labels, "none"], behind=CHAT)
        for ours, theirs in zip(got, rows, strict=False):
            np.testing.assert_allclose(ours, theirs, atol=0.1)
            compared += 1
            if ours[:-1].argmax() != theirs[:-1].argmax():
                break
    twin.close()
    assert compared >= 6


@pytest.mark.parametrize("which", ["word_model", in_campaigns("embedded_model")])
def test_any_subset_order_or_repetition_gives_the_same_bits(which, request):
    params = {"kv_dtype": "float16"} if which == "embedded_model" else {}
    fitted = extractor(request.getfixturevalue(which), **params)
    whole = fitted.transform(TEXTS)
    order = [5, 2, 0, 6, 1, 3, 4]
    assert_same(fitted.transform([TEXTS[i] for i in order]), whole[order])
    assert_same(fitted.transform([TEXTS[3]]), whole[[3]])
    assert_same(fitted.transform([TEXTS[1]] * 3), whole[[1, 1, 1]])
    clear_models()
    assert_same(fitted.transform(TEXTS[::-1]), whole[::-1])


def test_threads_do_not_change_a_bit(word_model):
    one, two = extractor(word_model, n_threads=1), extractor(word_model, n_threads=2)
    assert_same(one.transform(TEXTS), two.transform(TEXTS))


def test_several_documents_a_decode(word_model):
    """With F32 weights batches agree to rounding; documents end at different steps."""
    single, batched = extractor(word_model), extractor(word_model, batch_size=4)
    np.testing.assert_allclose(batched.transform(TEXTS), single.transform(TEXTS), atol=1e-5)


def test_another_prompt_in_between_leaves_no_trace(word_model):
    one, other = extractor(word_model), extractor(word_model, demonstrations=SHOTS[:1])
    before = one.transform(TEXTS)
    assert not np.array_equal(other.transform(TEXTS), before, equal_nan=True)
    assert_same(one.transform(TEXTS), before)


def tokens_needed(fitted, texts, steps):
    """Prefix once; each distinct document once; of its answer the tokens that must be read."""
    ready = prepared(fitted)
    answers = ready.compiled.answers
    least = 0
    for text, row in dict(zip(texts, steps, strict=True)).items():
        slot = answers.slot()
        least += len(ready.document(text)) + len(slot.lead) + sum(len(b.tokens) for b in slot.trie.branches(0))
        said = []
        happened = row[~np.isnan(row[:, 0])]
        for r, p in enumerate(happened):
            label = max((k for k in range(len(p)) if k not in said), key=lambda k: p[k])
            said.append(label)
            if label == answers.none or len(said) == len(LABELS):
                break
            tail = slot.trie.grows_from(label)[1]
            least += len(tail)
            if r + 1 < len(happened):
                slot = answers.slot(label)
                least += len(slot.lead) + sum(len(b.tokens) for b in slot.trie.branches(0))
    return len(ready.prefix), least


@pytest.mark.parametrize("answer_format", PROMPTS)
def test_nothing_is_decoded_twice(word_model, answer_format):
    fitted = extractor(word_model, prompt=PROMPTS[answer_format])
    fitted.transform(TEXTS[:1])  # reads the beginning's mass, once for a prompt
    clear_models()
    model = loaded(fitted)
    twice = [*TEXTS, *TEXTS[:3]]
    steps = fitted.transform(twice)
    prefix, least = tokens_needed(fitted, twice, steps)
    assert model.decoded == prefix + least
    calls = model.calls
    fitted.transform(TEXTS)
    assert model.decoded == prefix + 2 * least, "the prefix is kept between calls"
    assert model.calls < 2 * calls


def test_hidden_states_take_the_document_alone(word_model):
    """No step of the answer is decoded, and the answers beside are what they were."""
    clear_models()
    fitted = extractor(word_model)
    model = loaded(fitted)
    plain = fitted.transform(TEXTS)
    before, ready = model.decoded, prepared(fitted)
    probed = HiddenStateExtractor(**fitted.get_params()).fit()
    hidden = probed.transform(TEXTS)
    documents = sum(len(ready.document(text)) + len(ready.compiled.answers.slot().lead) for text in TEXTS)
    assert model.decoded - before == len(ready.prefix) + documents
    probed.transform(TEXTS)
    assert model.decoded - before == len(ready.prefix) + 2 * documents, "the prefix is kept between calls"
    assert_same(fitted.transform(TEXTS), plain)
    twin, ready = SlowTwin(word_model), prepared(fitted)
    for text, row in zip(TEXTS, hidden, strict=True):
        np.testing.assert_allclose(row, twin.hidden(slow(twin, ready, text)[1]), atol=1e-5)
    twin.close()


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_inner_layers(word_model, pooling, batch_size):
    """The state after an inner block, at the token or over the document, also of documents longer than one batch."""
    texts = [*TEXTS[:3], "a long one " * 70]
    params = {"layer": 0.5, "pooling": pooling, "batch_size": batch_size, "kv_dtype": "float32", "max_labels": 1}
    fitted = HiddenStateExtractor(str(word_model), labels=LABELS, demonstrations=SHOTS[:1], **params).fit()
    got = fitted.transform(texts)
    twin, ready = SlowTwin(word_model), prepared(fitted)
    for text, row in zip(texts, got, strict=True):
        prompt = slow(twin, ready, text)[1]
        states = twin.states(prompt, block=0)
        expected = states[-1] if pooling == "last" else states[len(ready.prefix) :].mean(axis=0)
        np.testing.assert_allclose(row, expected, atol=1e-5)
    twin.close()
    assert len(prompt) - len(ready.prefix) > 512


def test_a_number_names_the_same_layer(word_model):
    params = {"labels": LABELS, "max_labels": 1}
    by_part = HiddenStateExtractor(str(word_model), layer=0.5, **params).fit().transform(TEXTS)
    for layer in (0, -2, np.int64(0)):
        np.testing.assert_array_equal(
            HiddenStateExtractor(str(word_model), layer=layer, **params).fit().transform(TEXTS), by_part
        )
    last = HiddenStateExtractor(str(word_model), **params).fit().transform(TEXTS)
    np.testing.assert_array_equal(
        HiddenStateExtractor(str(word_model), layer=-1, **params).fit().transform(TEXTS), last
    )


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"layer": 1.5}, "between 0 and 1"),
        ({"layer": "middle"}, "block's number"),
        ({"layer": True}, "block's number"),
        ({"pooling": "mean"}, "choose a layer before it"),
        ({"layer": -1, "pooling": "mean"}, "choose a layer before it"),
        ({"layer": [0, None], "pooling": "mean"}, "choose a layer before it"),
        ({"layer": []}, "one or more"),
        ({"layer": [0, 1.5]}, "between 0 and 1"),
        ({"layer": [0, 0.5]}, r"are the blocks \[0, 0\]"),
        ({"layer": [[0]]}, "block's number"),
        ({"layer": 0.5, "pooling": "max"}, "pooling"),
        ({"layer": 7}, "has 2 blocks"),
    ],
)
def test_bad_layers(word_model, params, message):
    with pytest.raises(ValueError, match=message):
        HiddenStateExtractor(str(word_model), labels=LABELS, **params).fit().transform(TEXTS[:1])


def test_max_labels_bounds_the_answer(word_model):
    steps = extractor(word_model, max_labels=2).transform(TEXTS)
    assert steps.shape == (len(TEXTS), 2, len(LABELS) + 1)
    np.testing.assert_array_equal(steps, extractor(word_model).transform(TEXTS)[:, :2])


@pytest.mark.parametrize("arch", ["mamba", "gemma3"])
def test_recurrent_and_sliding_window_models_too(arch, tmp_path):
    path = write_tiny_gguf(tmp_path / f"{arch}.gguf", arch=arch)
    fitted = extractor(path)
    steps = fitted.transform(TEXTS[:3])
    twin, ready = SlowTwin(path), prepared(fitted)
    for text, got in zip(TEXTS[:3], steps, strict=True):
        rows, *_ = slow(twin, ready, text)
        np.testing.assert_allclose(got[: len(rows)], rows, atol=1e-5)
    twin.close()
    assert_same(fitted.transform(TEXTS[:3][::-1]), steps[::-1])
