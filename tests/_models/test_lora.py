"""LoRA adapters: exact at scale 0, noticed by the cache, refused where they do not fit."""

import numpy as np
import pytest
from adapters import write_adapter
from tiny_gguf import write_tiny_gguf

from skmlmc import StepwiseExtractor, UnaryExtractor, clear_models

LABELS = ["joy", "anger", "sadness"]
TEXTS = ["I miss her so much.", "We won!!!", "it rained"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    yield write_tiny_gguf(tmp_path_factory.mktemp("models") / "base.gguf")
    clear_models()


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    return write_adapter(tmp_path_factory.mktemp("adapters") / "adapter.gguf")


def proba(model, cls=StepwiseExtractor, **params):
    return cls(str(model), labels=LABELS, **params).fit().transform(TEXTS)


@pytest.mark.parametrize("cls", [StepwiseExtractor, UnaryExtractor])
def test_an_adapter_changes_answers_and_leaves_no_trace(cls, model, adapter):
    base = proba(model, cls)
    with_adapter = proba(model, cls, lora=adapter)
    assert not np.allclose(with_adapter, base, equal_nan=True)
    np.testing.assert_array_equal(proba(model, cls), base)
    np.testing.assert_array_equal(proba(model, cls, lora=adapter), with_adapter)
    np.testing.assert_array_equal(proba(model, cls, lora=[(adapter, 1.0)]), with_adapter)


def test_scale_0_is_the_base_model_exactly(model, adapter):
    np.testing.assert_array_equal(proba(model, lora=[(adapter, 0)]), proba(model))


def test_scales_and_several_adapters(model, adapter, tmp_path):
    other = write_adapter(tmp_path / "other.gguf", seed=1)
    one, half = proba(model, UnaryExtractor, lora=adapter), proba(model, UnaryExtractor, lora=[(adapter, 0.5)])
    both = proba(model, UnaryExtractor, lora=[adapter, (other, 0.3)])
    assert not np.array_equal(one, half)
    assert not np.array_equal(one, both)
    split = proba(model, UnaryExtractor, lora=[(adapter, 0.25), (adapter, 0.25)])
    assert split.shape == half.shape


def test_the_cache_tells_adapters_apart(model, adapter, tmp_path):
    base = proba(model, memory=tmp_path)
    adapted = proba(model, memory=tmp_path, lora=adapter)
    assert not np.array_equal(adapted, base, equal_nan=True)
    clear_models()
    np.testing.assert_array_equal(proba(model, memory=tmp_path, lora=adapter), adapted)
    np.testing.assert_array_equal(proba(model, memory=tmp_path, lora=[(adapter, 0.0)]), base)


def test_an_adapter_for_another_model_is_refused(model, tmp_path):
    for name, params in {"arch": {"arch": "gemma3"}, "width": {"n_embd": 48}}.items():
        wrong = write_adapter(tmp_path / f"{name}.gguf", **params)
        with pytest.raises(ValueError, match="could not apply the adapter"):
            proba(model, lora=wrong)
    assert proba(model).shape == (3, 3, 4), "the model is still usable"


@pytest.mark.parametrize(
    ("lora", "error"),
    [
        ("missing.gguf", FileNotFoundError),
        ([("missing.gguf", "much")], TypeError),
        ([("missing.gguf", float("nan"))], TypeError),
        ([3], TypeError),
        (3, TypeError),
        ("hf:owner", ValueError),
    ],
)
def test_bad_lora(lora, error, model):
    with pytest.raises(error, match="lora"):
        StepwiseExtractor(str(model), labels=LABELS, lora=lora).fit()


def test_messages_speak_of_the_adapter(model, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no adapter file 'missing\.gguf'\. Give lora= the path"):
        proba(model, lora="missing.gguf")
    with pytest.raises(ValueError, match="Got lora=.*, a folder, but .* Give lora="):
        proba(model, lora=tmp_path)
    with pytest.raises(ValueError, match="Got lora='hf:adapter' but expected 'hf:owner/repo/file.gguf'"):
        proba(model, lora="hf:adapter")


def test_a_model_is_no_adapter(model):
    with pytest.raises(ValueError, match="is a model, but lora= expected a LoRA adapter"):
        proba(model, lora=str(model))
