"""Attention of later labels: against NumPy, against the whole prompt in one decode, and which tokens count as what."""

import gc
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from campaigns import sampled
from gguf import GGUFReader
from inside import loaded, prepared
from numpy.testing import assert_allclose
from sklearn.exceptions import NotFittedError
from slow_twin import SlowTwin
from tiny_gguf import write_tiny_gguf

from skmlmc import HiddenStateExtractor, PromptTemplate, StepwiseExtractor, clear_models
from skmlmc._inference.attention import TARGETS, AttentionTask, count_attention, write_answer
from skmlmc.align import generated_labels
from skmlmc.analysis import attention_to_labels

LABELS = ["joy", "joyful", "anger", "sadness", "surprise", "sad"]
SHOTS = [("ha ha", ["joy", "joyful"]), ("oh no", ["sadness", "anger"])]
TEXTS = ["I miss her", "", "We won!!! " * 60, "it rained", "a surprise", "what an angry, joyful mess"]
WORDS = ("joy", "ful", "ness", "sad", "prise", '",', '"]', "anger", " anger")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Random models that like long answers: plain attention, and a sliding window."""
    folder = tmp_path_factory.mktemp("models")
    sizes = {"llama": {"seed": 6, "scale": 0.3}, "gemma3": {"seed": 13, "scale": 0.3, "n_layer": 7}}
    yield {a: write_tiny_gguf(folder / f"{a}.gguf", arch=a, words=WORDS, **size) for a, size in sizes.items()}
    clear_models()


def extractor(model, **params):
    defaults = {"labels": LABELS, "demonstrations": SHOTS, "kv_dtype": "float32", "n_threads": 1}
    return StepwiseExtractor(str(model), **{**defaults, **params}).fit()


def expected_table(fitted, texts, weights_of):
    """The table from `weights_of(tokens)`, the attention (tokens, tokens) of a whole prompt, token by token."""
    ready, rows = prepared(fitted), []
    for i, (text, steps) in enumerate(zip(texts, fitted.transform(texts), strict=True)):
        said = [k for k in generated_labels(steps[None])[0] if 0 <= k < len(LABELS)]
        tokens = [*ready.prefix, *ready.document(text)]
        kinds = ["prompt"] * len(ready.prefix) + ["input"] * len(ready.compiled.document(text))
        kinds += ["other"] * (len(tokens) - len(kinds))
        for previous, label in zip([None, *said[:-1]], said, strict=True):
            slot = ready.compiled.answers.slot(previous)
            kinds += ["other"] * len(slot.lead) + [label] * len(slot.trie.paths[label])
            tokens += [*slot.lead, *slot.trie.paths[label]]
        weights = weights_of(tokens) if len(said) > 1 else None
        for step, label in enumerate(said[1:], 2):
            mine = [t for t, kind in enumerate(kinds) if kind == label]
            seen = ["earlier labels" if k in said[: step - 1] else k for k in kinds[: mine[-1] + 1]]
            seen = ["other" if isinstance(k, (int, np.integer)) else k for k in seen]
            for target in TARGETS:
                at = [t for t, kind in enumerate(seen) if kind == target]
                attention = np.mean([weights[t][at].sum() for t in mine])
                rows.append((i, step, LABELS[label], target, len(at), attention))
    return pd.DataFrame(rows, columns=["document", "step", "label", "target", "tokens", "attention"])


def assert_tables_agree(got, expected, atol=1e-5):
    exact = ["document", "step", "label", "target", "tokens"]
    pd.testing.assert_frame_equal(got[exact], expected[exact])
    assert_allclose(got["attention"], expected["attention"], atol=atol)
    with np.errstate(invalid="ignore"):
        assert_allclose(got["per_token"], expected["attention"] / expected["tokens"], atol=atol)


def first_block(path, n_head=4, base=10000.0):
    """Attention weights of a Llama's first block in NumPy, averaged over heads: ``weights(tokens)``."""
    tensors = {t.name: np.array(t.data, np.float64) for t in GGUFReader(path).tensors}

    def rotate(x):
        # Neighbouring columns are a pair that turns with the position.
        n, _, d = x.shape
        angle = np.arange(n)[:, None] * base ** (-np.arange(0, d, 2) / d)
        even, odd, cos, sin = x[..., ::2], x[..., 1::2], np.cos(angle)[:, None], np.sin(angle)[:, None]
        return np.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1).reshape(x.shape)

    def weights(tokens):
        x = tensors["token_embd.weight"][tokens]
        x = x / np.sqrt((x**2).mean(axis=1, keepdims=True) + 1e-5)
        q, k = (rotate((x @ tensors[f"blk.0.attn_{name}.weight"].T).reshape(len(x), n_head, -1)) for name in ("q", "k"))
        scores = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(q.shape[2])
        scores += np.triu(np.full(scores.shape[1:], -np.inf), 1)
        scores = np.exp(scores - scores.max(axis=2, keepdims=True))
        return (scores / scores.sum(axis=2, keepdims=True)).mean(axis=0)

    return weights


def test_against_numpy(models):
    fitted = extractor(models["llama"])
    got = attention_to_labels(fitted, TEXTS, layer=0, as_frame=True)
    expected = expected_table(fitted, TEXTS, first_block(models["llama"]))
    assert got["step"].max() > 2
    assert len(got) >= 24
    assert_tables_agree(got, expected)


@pytest.mark.parametrize("layer", sampled([None, 0, -1]))
@pytest.mark.parametrize("arch", ["llama", "gemma3"])
def test_against_the_whole_prompt_in_one_decode(models, arch, layer):
    """Also documents longer than a batch, inner blocks, and sliding windows with global blocks among them."""
    block = None if layer is None else layer % {"llama": 2, "gemma3": 7}[arch]
    fitted, twin = extractor(models[arch]), SlowTwin(models[arch])
    expected = expected_table(fitted, TEXTS, lambda tokens: twin.attention(tokens, block))
    twin.close()
    assert len(prepared(fitted).document(TEXTS[2])) > 512
    assert 2 in set(expected["document"]), "the long document has several labels"
    assert_tables_agree(attention_to_labels(fitted, TEXTS, layer=layer, as_frame=True), expected)


def test_blocks_average(models):
    fitted = extractor(models["llama"])
    every, first, last = (np.array(attention_to_labels(fitted, TEXTS, layer=k)["attention"]) for k in (None, 0, 1))
    assert_allclose(every, (first + last) / 2, atol=1e-6)
    assert abs(first - last).max() > 0.01
    assert attention_to_labels(fitted, TEXTS, layer=0.5)["attention"] == first.tolist()


@pytest.mark.parametrize("arch", ["llama", "gemma3"])
def test_all_attention_goes_somewhere(models, arch):
    table = attention_to_labels(extractor(models[arch], kv_dtype="float16", n_ctx=1500), TEXTS, as_frame=True)
    labels = table.groupby(["document", "step"])
    assert_allclose(labels["attention"].sum(), 1, atol=1e-5)
    assert (labels["target"].agg(tuple) == TARGETS).all()


def test_the_mean_over_labels(models):
    fitted = extractor(models["llama"])
    table = attention_to_labels(fitted, TEXTS, as_frame=True)
    pooled = attention_to_labels(fitted, TEXTS, by_label=False, as_frame=True)
    seen = table[table["tokens"] > 0].groupby("target", sort=False)
    assert pooled["target"].tolist() == list(TARGETS)
    for column in ("tokens", "attention", "per_token"):
        assert_allclose(pooled[column], seen[column].mean()[list(TARGETS)])
    assert pooled["labels"].tolist() == seen.size()[list(TARGETS)].tolist()


def test_a_document_counts_alone(models):
    """In any order, and whatever batch_size the extractor has."""
    fitted = extractor(models["llama"], batch_size=4)
    whole = attention_to_labels(fitted, TEXTS, as_frame=True)
    order = [5, 2, 0, 4, 1, 3]
    mixed = attention_to_labels(fitted, [TEXTS[i] for i in order] + [TEXTS[5]], as_frame=True)
    for now, before in [*enumerate(order), (6, 5)]:
        left, right = (t[t["document"] == i].drop(columns="document") for t, i in ((mixed, now), (whole, before)))
        pd.testing.assert_frame_equal(left.reset_index(drop=True), right.reset_index(drop=True), check_exact=True)


@pytest.mark.parametrize("answer_format", ["json", "list"])
def test_spans_spell_the_labels(models, answer_format):
    demonstration = "Text: {text}\nLabels: {answer}\n"
    fitted = extractor(models["llama"], prompt=PromptTemplate(answer_format=answer_format, demonstration=demonstration))
    model, ready = loaded(fitted), prepared(fitted)
    for said in ([2], [3, 0, 5], [5, 4, 3, 2, 1, 0]):
        tokens, spans = write_answer(ready.compiled.answers, said)
        texts = [model.token_text(token).replace("Ġ", " ") for token in tokens]
        assert ["".join(texts[a:b]).strip(' "') for a, b in spans] == [LABELS[k] for k in said]
        inside = {t for a, b in spans for t in range(a, b)}
        outside = "".join(text for t, text in enumerate(texts) if t not in inside)
        assert not any(letter.isalpha() for letter in outside.replace("label", ""))
        whole = ready.compiled.answers._tokenize([LABELS[k] for k in said])
        assert tokens == whole[: len(tokens)]


def test_a_label_without_tokens_of_its_own(models):
    """All answers begin with "sad": it is the label whose spelling ends there."""
    fitted = extractor(models["llama"], labels=["sad", "sadness"], demonstrations=[], none_label="sadly not")
    answers = prepared(fitted).compiled.answers
    assert answers.slot().trie.paths[0] == []
    tokens, spans = write_answer(answers, [0, 1])
    model = loaded(fitted)
    assert [model.token_text(tokens[a]) for a, _ in spans] == ["sad", "ness"]


def test_count_attention():
    row = np.array([0.1, 0.2, 0.3, 0.05, 0.15, 0.0, 0.2, 0, 0])
    tokens, weights = count_attention(row, 2, 1, [(3, 4), (5, 6)], 7)
    assert tokens.tolist() == [2, 1, 2, 2]
    assert_allclose(weights, [0.3, 0.3, 0.05, 0.35])


@pytest.mark.parametrize("row", [[0.5, 0.4, 0, 0], [0.5, 0.4, 0.1, 0.1], [0.9, 0.1, 0.2, 0]])
def test_weights_elsewhere_are_an_error(row):
    with pytest.raises(RuntimeError, match="does not keep this model's tokens in order"):
        count_attention(np.array(row), 1, 1, [], 2)


def test_answers_of_one_label_have_no_rows(models):
    fitted = extractor(models["llama"], max_labels=1)
    assert set(map(len, attention_to_labels(fitted, TEXTS).values())) == {0}
    pooled = attention_to_labels(fitted, TEXTS, by_label=False)
    assert pooled["labels"] == [0] * 4
    assert np.isnan(pooled["per_token"]).all()


def test_the_cache_answers_the_second_time(models, tmp_path):
    fitted = extractor(models["llama"], memory=str(tmp_path / "cache"))
    first = attention_to_labels(fitted, TEXTS, as_frame=True)
    steps = fitted.transform(TEXTS)
    model = loaded(models["llama"])
    decoded = model.decoded
    pd.testing.assert_frame_equal(attention_to_labels(fitted, TEXTS, as_frame=True), first, check_exact=True)
    np.testing.assert_array_equal(fitted.transform(TEXTS), steps)
    assert model.decoded == decoded
    attention_to_labels(fitted, TEXTS, layer=1)
    assert model.decoded > decoded, "another layer is another result"


def test_steps_stay_as_they_are(models):
    """Reading attention in between leaves no trace in what the extractor gives."""
    fitted = extractor(models["llama"])
    before = fitted.transform(TEXTS)
    attention_to_labels(fitted, TEXTS)
    np.testing.assert_array_equal(fitted.transform(TEXTS), before)


@pytest.mark.parametrize("labels", [LABELS[:4], ["boredom", "calm", "envy"]])
@pytest.mark.parametrize("max_labels", [2, 3])
def test_the_longest_answer_fits(models, labels, max_labels):
    """The last label is decoded here, which answering alone does not need: the check of lengths knows it."""
    fitted = extractor(models["llama"], labels=labels, demonstrations=[], max_labels=max_labels)
    ready = AttentionTask(fitted._task()).prepare(loaded(fitted))
    answers = permutations(range(len(labels)), max_labels)
    assert max(len(write_answer(ready.compiled.answers, said)[0]) for said in answers) <= ready.cells
    cut = extractor(models["llama"], truncation="end", n_ctx=512, max_labels=max_labels)
    with pytest.warns(UserWarning, match="documents were cut"):
        table = attention_to_labels(cut, [f"{text} " * 200 for text in TEXTS if text], as_frame=True)
    assert table["document"].nunique() > 1


def test_a_hidden_state_extractor_serves_as_well(models):
    other = HiddenStateExtractor(**extractor(models["llama"]).get_params()).fit()
    assert attention_to_labels(other, TEXTS[:1]) == attention_to_labels(extractor(models["llama"]), TEXTS[:1])


def test_a_recurrent_model_has_none(tmp_path):
    fitted = extractor(write_tiny_gguf(tmp_path / "mamba.gguf", arch="mamba"))
    with pytest.raises(RuntimeError, match="Use a model with plain attention"):
        attention_to_labels(fitted, TEXTS)
    assert fitted.transform(TEXTS[:1]).shape == (1, 6, 7), "the model still works"
    clear_models()
    gc.collect()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"extractor": "model.gguf"}, TypeError, "expected a fitted StepwiseExtractor"),
        ({"extractor": StepwiseExtractor(labels=LABELS)}, NotFittedError, "not fitted"),
        ({"layer": 1.5}, ValueError, "layer=1.5"),
        ({"layer": 9}, ValueError, "has 2 blocks"),
        ({"X": "one text"}, TypeError, "list"),
        ({"X": ["long " * 3000]}, ValueError, "Document 0 has"),
    ],
)
def test_bad_input(models, change, error, message):
    call = {"extractor": None, "X": TEXTS, **change}
    fitted, texts = call.pop("extractor") or extractor(models["llama"]), call.pop("X")
    with pytest.raises(error, match=message):
        attention_to_labels(fitted, texts, **call)
