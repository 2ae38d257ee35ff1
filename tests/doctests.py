"""A plugin for docstring examples, wherever they stand: a tiny model, a folder with an encoder, no window opens."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from encoders import write_encoder
from tiny_gguf import CHATML, write_tiny_gguf

# Examples that need more than the tests do.
NEEDS = {"skmlmc.finetune.FinetunedClassifier": ("torch", "transformers", "accelerate")}


@pytest.fixture(scope="session")
def doctest_model(tmp_path_factory):
    """Path of the model that examples get."""
    return write_tiny_gguf(tmp_path_factory.mktemp("doctests") / "tiny.gguf", chat_template=CHATML)


@pytest.fixture(scope="session")
def doctest_encoder(tmp_path_factory):
    """Path of the embedding model that lies beside examples."""
    return write_encoder(tmp_path_factory.mktemp("doctests") / "encoder.gguf")


@pytest.fixture(autouse=True)
def stage(request):
    """What an example finds: the model, and a few documents to shorten it (their names are README's)."""
    if not isinstance(request.node, pytest.DoctestItem):
        yield
        return
    missing = [name for name in NEEDS.get(request.node.name, ()) if importlib.util.find_spec(name) is None]
    if missing:
        request.node.dtest.lineno = 0  # which is not known of a text that was filled in, and pytest reports it
        pytest.skip(f"the example needs {', '.join(missing)}")
    monkeypatch = request.getfixturevalue("monkeypatch")
    monkeypatch.setenv("SKMLMC_MODEL", request.getfixturevalue("doctest_model"))
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.chdir(request.getfixturevalue("tmp_path"))
    Path("all-MiniLM-L6-v2.gguf").symlink_to(request.getfixturevalue("doctest_encoder"))
    H = np.tile([[1, 0, 0], [0, 2 / 3, 0], [1 / 3, 0, 2 / 3], [0, 0, 0]], (5, 1))
    request.getfixturevalue("doctest_namespace").update(
        texts=[f"{feeling} about number {i}" for i, feeling in enumerate(["angry", "glad", "sad", "unsure"] * 5)],
        labels=["anger", "joy", "sadness"],
        H=H,
        Y=(H > 0.5).astype(int),
    )
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
