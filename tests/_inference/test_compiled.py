"""Prompts in tokens: those of the whole text tokenised at once, whatever the vocabulary joins."""

from types import SimpleNamespace

import llama_cpp as C  # noqa: N812
import pytest
from chat_templates import REAL_TEMPLATES, SPECIAL_TEXTS
from hypothesis import given
from hypothesis import strategies as st
from real_vocabularies import DOCUMENTS, FORMS, LABEL_SETS, TEMPLATE_OF, VOCABULARIES
from slow_twin import whole_tokens
from toy import TOKENIZERS, Tokenizer

from skmlmc._inference.compiled import CompiledPrompt, Encoder, compile_prefix, fragments, longest_that_fits
from skmlmc._models.loaded import load_vocabulary
from skmlmc.prompts import render_answer
from skmlmc.prompts._layouts import Segment, make_layout


def prompt_of(model, template, labels, shots=0, chat=None, bos=()):
    """Compile a prompt as tasks do; also give all segments around a document and an answer."""
    layout = make_layout(template, labels, "none", chat, SPECIAL_TEXTS, n_demonstrations=shots)
    encoder = Encoder(model)
    turns = [
        (DOCUMENTS[3 * k + 1], layout.bridge, render_answer(template.answer_format, [labels[k]])) for k in range(shots)
    ]
    prefix = compile_prefix(encoder, layout, turns, bos)
    prompt = CompiledPrompt(encoder, prefix, layout, template.answer_format, [*labels, "none"])

    def segments(text, answer):
        said = Segment(render_answer(template.answer_format, answer), False)
        return [*layout.conversation(turns, text), *layout.opening, said, *layout.after]

    return prompt, segments


def tokens_of(prompt, text, answer):
    """Tokens of a prompt and an answer, by way of the slots that are read: labels, separators and the end."""
    words, answers = prompt.answers.words, prompt.answers
    tokens, previous = [*prompt.prefix, *prompt.document(text), *prompt.bridge], None
    for word in answer:
        slot, label = answers.slot(previous), words.index(word)
        tokens += [*slot.lead, *slot.trie.paths[label]]
        previous = label
    return [*tokens, answers.slot(None if len(answer) == 1 else words.index(answer[-2])).trie.ends[previous].end[0]]


class Whole:
    """llama.cpp's own tokenizer on a whole text; no code of the product."""

    def __init__(self, path):
        params = C.llama_model_default_params()
        params.vocab_only = True
        self.model = C.llama_model_load_from_file(str(path).encode(), params)
        self.vocab = C.llama_model_get_vocab(self.model)

    def __call__(self, text):
        return whole_tokens(self.vocab, text)


@pytest.mark.skipif(not VOCABULARIES, reason="needs the vocabularies of real models in shared/data")
@pytest.mark.parametrize("mode", ["plain", "chat"])
@pytest.mark.parametrize("path", VOCABULARIES, ids=lambda path: path.stem)
def test_tokens_of_real_vocabularies(path, mode):
    chat = None
    if mode == "chat":
        if path.stem not in TEMPLATE_OF:
            pytest.skip("no chat template at hand that goes with this vocabulary")
        chat = REAL_TEMPLATES[TEMPLATE_OF[path.stem]]()
    model, whole = load_vocabulary(path), Whole(path)
    chat = chat and chat.replace("bos_token", repr(model.special_texts["bos_token"]))
    for template in FORMS.values():
        for labels in LABEL_SETS.values():
            for shots in (0, 2):
                prompt, segments = prompt_of(model, template, labels, shots, chat, model.bos)
                for text in DOCUMENTS:
                    for answer in ([labels[0]], [labels[1], labels[0]], ["none"]):
                        expected = whole("".join(s.text for s in segments(text, answer)))
                        got = tokens_of(prompt, text, answer)
                        assert got == expected[: len(got)]
    C.llama_model_free(whole.model)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", TOKENIZERS)
@given(text=st.text(max_size=12))
def test_toy_vocabularies_that_join_across_borders(name, form, text):
    tokenizer = TOKENIZERS[name]
    prompt, segments = prompt_of(tokenizer, FORMS[form], ["joy", "sadness", "anger"], 2)
    expected = tokenizer("".join(s.text for s in segments(text, ["sadness"])))
    got = [*prompt.prefix, *prompt.document(text), *prompt.bridge]
    assert got == expected[: len(got)]


def test_fragments():
    tokenizer = Tokenizer(controls=("<|a|>", "<|b|>"))
    a, b = tokenizer.controls.values()
    segments = [("<|a|>user\n", True), ("Hi <|b|>", False), ("<|b|>\n", True), ("x", False), ("<|a|><|b|>", True)]
    got = fragments(tokenizer, [Segment(*segment) for segment in segments])
    assert got == ["", a, "user\nHi <|b|>", b, "\nx", a, "", b, ""]


def test_control_tokens_that_swallow_spaces():
    tokenizer = SimpleNamespace(split_at_controls=lambda text: [1], swallows=lambda token: (False, True))
    assert fragments(tokenizer, [Segment("x ", False), Segment("<|user|>", True), Segment("\n hi", False)]) == [
        "x ",
        1,
        "hi",
    ]


@given(st.text(max_size=30), st.integers(0, 30), st.booleans())
def test_as_much_of_a_text_as_fits(text, n, end):
    kept = longest_that_fits(text, lambda part: len(part) <= n, end)
    assert kept == (text[:n] if end else text[max(0, len(text) - n) :])
