"""Numbers on vocabularies of real models: those of the slow twin, which tokenises every whole text by itself."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from chat_templates import REAL_TEMPLATES, SWITCHES, jinja_text
from real_vocabularies import DOCUMENTS, FORMS, LABEL_SETS, TEMPLATE_OF, VOCABULARIES, write_model
from slow_twin import SlowTwin, slow_beginning, slow_steps, spelled

from skmlmc import StepwiseExtractor, clear_models
from skmlmc._inference.report import SAMPLE

MARKS = "skmlmcAnswer", "skmlmcNext"
CASES = [(path, mode) for path in VOCABULARIES for mode in ("plain", "chat")[: 1 + (path.stem in TEMPLATE_OF)]]


def instruction(template, labels):
    return template.instruction.format(labels=", ".join(labels), wording=template.wording, none="none") + "\n\n"


def plain_texts(template, labels, shots, text):
    """Text of a prompt, what stands behind an answer, and how much of that is before the first control token: all."""
    line, opening = template.demonstration, instruction(template, labels)
    shown = [line.format(text=shot, answer=spelled(template.answer_format, words)) for shot, words in shots]
    before, behind = line.format(text=text, answer=MARKS[0]).split(MARKS[0])
    behind += line.partition("{text}")[0]
    return opening + "".join(shown) + before, behind, behind


def chat_texts(source, special, template, labels, shots, text):
    """As `plain_texts`, by plain Jinja."""
    begin, _, rest = template.demonstration.partition("{text}")
    lead = rest.partition("{answer}")[0].rpartition("\n")[2]
    turns = [*shots, (text, [])]
    messages = []
    for k, (shown, words) in enumerate(turns):
        opening = instruction(template, labels) if k == 0 else ""
        answer = lead + spelled(template.answer_format, words)
        messages += [{"role": "user", "content": opening + begin + shown}, {"role": "assistant", "content": answer}]
    prompt = jinja_text(source, messages[:-1], **SWITCHES, **special) + lead
    more = [{"role": "assistant", "content": lead + MARKS[0]}, {"role": "user", "content": begin + MARKS[1]}]
    behind = jinja_text(source, [*messages[:-1], *more], **SWITCHES, **special).partition(MARKS[0])[2]
    return prompt, behind.partition(MARKS[1])[0], ""


class Seen:
    """What was compared: documents, those with a second label, and the largest difference."""

    def __init__(self):
        self.documents = self.longer = self.largest = 0

    def same(self, got, expected, case):
        got, expected = np.asarray(got), np.asarray(expected)
        assert got.shape == expected.shape, case
        largest = np.abs(got - expected).max()
        assert largest < 1e-4, case
        self.largest = max(self.largest, largest)


def compare(twin, fitted, labels, texts, documents, seen):
    """Compare what is read of documents with the twin's; masses by their logarithms, for they are small."""
    found, template, whole = fitted.diagnose(documents), fitted.prompt, fitted.label_tokens == "whole"
    for document, got, mass in zip(documents, found.steps, found.label_mass, strict=True):
        prompt, *behind = texts(template, labels, fitted.demonstrations, document)
        look = twin.logits, [], twin.speller_in(template.answer_format, prompt, *behind), [*labels, "none"]
        rows, _, slow_mass = slow_steps(*look, len(labels), whole)
        case = f"{template.mode} {template.answer_format} {fitted.label_tokens} {labels} {document!r}"
        seen.same(got[~np.isnan(got[:, 0])], rows, case)
        seen.same(np.log(mass), np.log(slow_mass), case)
        seen.documents += 1
        seen.longer += len(rows) > 1
        twin.forget()
    if template.answer_format == "json":
        prompt, *behind = texts(template, labels, fitted.demonstrations, SAMPLE)
        spell = twin.speller_in(template.answer_format, prompt, *behind)
        begun = slow_beginning(twin.logits, [], spell, [*labels, "none"], spell.text(twin.whole(prompt)))
        seen.same(np.log(found.beginning_mass), np.log(begun), f"{template.mode} {labels}, the beginning")


def compare_all(tmp_path, path, mode, sets, documents):
    """Compare label sets, each in another form: answer format, label tokens, with or without demonstrations."""
    source = REAL_TEMPLATES[TEMPLATE_OF[path.stem]]() if mode == "chat" else None
    model = write_model(path, tmp_path / "model.gguf", source)
    twin, seen, v = SlowTwin(model), Seen(), VOCABULARIES.index(path)
    texts = partial(chat_texts, source, twin.special_texts()) if source else plain_texts
    for i, labels in enumerate(map(LABEL_SETS.get, sets)):
        bits = [(v + i // n) % 2 for n in (1, 2, 4)]
        params = {
            "prompt": replace(FORMS[("json", "list")[bits[0]]], mode=mode),
            "demonstrations": [(DOCUMENTS[1], [labels[0], labels[-1]]), ("", [labels[1]])][: 2 * bits[1]],
            "label_tokens": ("first", "whole")[bits[2] ^ (mode == "chat")],
        }
        fitted = StepwiseExtractor(model, labels=labels, kv_dtype="float32", n_threads=1, **params).fit()
        compare(twin, fitted, labels, texts, documents, seen)
    twin.close()
    clear_models()
    assert seen.longer, "no answer had a second label, so later slots went untested"
    print(f"{path.stem} {mode}: {seen.documents} documents, {seen.longer} longer, off by {seen.largest:.1e} at most")


needs_vocabularies = pytest.mark.skipif(not VOCABULARIES, reason="needs the vocabularies of real models in shared/data")


@needs_vocabularies
@pytest.mark.campaign
@pytest.mark.parametrize(("path", "mode"), CASES, ids=lambda case: getattr(case, "stem", case))
def test_numbers_of_real_vocabularies(tmp_path, path, mode):
    compare_all(tmp_path, path, mode, LABEL_SETS, DOCUMENTS)


@needs_vocabularies
@pytest.mark.parametrize(("name", "mode"), [("gpt-neox", "plain"), ("phi-3", "chat")])
def test_some_numbers_of_real_vocabularies(tmp_path, name, mode):
    (path,) = (path for path in VOCABULARIES if path.stem == name)
    compare_all(tmp_path, path, mode, ["several words", "quotes"], [DOCUMENTS[4], DOCUMENTS[-1]])
