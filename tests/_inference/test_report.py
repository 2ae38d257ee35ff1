"""What a fitted estimator says of its model and prompt, and that it says what goes wrong once."""

import os
import warnings

import pytest
from inside import loaded
from tiny_gguf import CHATML, write_tiny_gguf

from skmlmc import GGUFClassifier, PairwiseExtractor, PromptTemplate, StepwiseExtractor, UnaryExtractor

LABELS = ["joy", "anger", "sadness"]
THINKS = CHATML + "{% if add_generation_prompt %}<think>\n{% endif %}"
OFF = "add_generation_prompt and enable_thinking is defined and enable_thinking is false"
SWITCH = CHATML + f"{{% if {OFF} %}}<think>\n\n</think>\n\n{{% endif %}}"
BROKEN = "{{ raise_exception('no') }}"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    templates = {"chat": CHATML, "thinks": THINKS, "switch": SWITCH, "broken": BROKEN, "plain": None}
    return {k: write_tiny_gguf(folder / f"{k}.gguf", chat_template=v) for k, v in templates.items()}


@pytest.mark.parametrize(
    ("which", "mode", "layout", "reason", "thinking"),
    [
        ("chat", "auto", "chat", "the model file has a chat template", "none"),
        ("chat", "chat", "chat", "as the prompt's mode says", "none"),
        ("chat", "plain", "plain", "as the prompt's mode says", "none"),
        ("plain", "auto", "plain", "the model file has no chat template", "none"),
        ("thinks", "auto", "chat", "the model file has a chat template", "closed"),
        ("switch", "auto", "chat", "the model file has a chat template", "switched off"),
    ],
)
@pytest.mark.parametrize("make", [StepwiseExtractor, UnaryExtractor, GGUFClassifier])
def test_report(models, make, which, mode, layout, reason, thinking):
    prompt = PromptTemplate(mode=mode)
    report = make(models[which], labels=LABELS, prompt=prompt, n_ctx=500).fit().model_report()
    assert (report.layout, report.reason, report.thinking) == (layout, reason, thinking)
    assert report.n_bytes == os.path.getsize(models[which])
    assert (report.n_ctx, report.n_ctx_train > 500) == (500, True)
    assert 20 < report.n_prompt < 500 and 5 < report.n_answer < 500
    assert report.n_cache_bytes == 500 * loaded(models[which]).cell_bytes(2)
    precise = make(models[which], labels=LABELS, prompt=prompt, n_ctx=500, kv_dtype="float32").fit()
    assert precise.model_report().n_cache_bytes == 2 * report.n_cache_bytes
    assert len(str(report).splitlines()) == 4
    for said in (report.model, layout, reason, thinking, str(report.n_prompt), "MB"):
        assert said in str(report)


@pytest.mark.parametrize("make", [StepwiseExtractor, UnaryExtractor, PairwiseExtractor])
def test_a_template_that_fails_is_told_once(models, make):
    fitted = make(models["broken"], labels=LABELS).fit()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        fitted.transform(["We won!!!"])
        report = fitted.model_report()
    plain = [str(w.message) for w in told if "laid out as plain text" in str(w.message)]
    assert len(plain) == 1
    assert "raise_exception" in plain[0] or "no" in plain[0]
    assert report.layout == "plain"
    assert report.reason in plain[0]
