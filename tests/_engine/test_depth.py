"""Hidden states are computed no deeper than they are read, and no bit of them depends on that."""

import re

import numpy as np
import pytest
from architecture_specs import write_architecture
from inside import loaded, prepared
from slow_twin import SlowTwin
from tiny_gguf import write_tiny_gguf

from skmlmc import GGUFClassifier, HiddenStateExtractor, PromptTemplate, StepwiseExtractor, clear_models
from skmlmc._engine import model as engine
from skmlmc._engine import tap
from skmlmc._engine.context import Hidden, Settings
from skmlmc._engine.forest import Ask, Branch, Read
from skmlmc.streaming import predict_chunks

LABELS = ["joy", "anger", "sadness"]
SHOTS = [("ha ha", ["joy"]), ("oh no", ["sadness", "anger"])]
TEXTS = ["We won!!!", "", "it rained on tuesday and nothing happened at all", "a surprise"]
MEAN = {"layer": 0.5, "pooling": "mean"}
SEVERAL = {"layer": [0.25, 2, None]}
PARAMS = [{}, {"layer": 1}, MEAN, SEVERAL]


def probed(path, **params):
    defaults = {"labels": LABELS, "demonstrations": SHOTS, "prompt": PromptTemplate(mode="plain"), "n_threads": 1}
    return HiddenStateExtractor(str(path), **{**defaults, **params}).fit()


def states(path, texts=TEXTS, **params):
    """Hidden states of a model that is loaded anew."""
    clear_models()
    return np.asarray(probed(path, **params).transform(texts))


@pytest.fixture(scope="module")
def deep_model(tmp_path_factory):
    return write_tiny_gguf(tmp_path_factory.mktemp("models") / "deep.gguf", n_layer=4)


@pytest.fixture
def to_the_end(monkeypatch):
    """Have all calls go on to the logits."""

    def decide():
        choose = tap.HiddenTap.choose

        def choose_and_go_on(self):
            choose(self)
            self._ends = False

        monkeypatch.setattr(tap.HiddenTap, "choose", choose_and_go_on)

    return decide


@pytest.fixture
def asked(monkeypatch):
    """Names of the tensors that llama.cpp is about to compute."""
    names, declare = [], tap._declare

    def listening(library):
        name, *others = declare(library)

        def remember(tensor):
            names.append(name(tensor).decode())
            return name(tensor)

        return remember, *others

    monkeypatch.setattr(tap, "_declare", listening)
    return names


def blocks_of(names):
    return {int(found[1]) for found in (re.fullmatch(r".+-(\d+)", name) for name in names) if found}


@pytest.mark.parametrize("params", PARAMS, ids=str)
@pytest.mark.parametrize("arch", ["llama", "gemma3", "mamba"])
def test_no_bit_depends_on_the_depth(arch, params, tmp_path, to_the_end):
    path = write_tiny_gguf(tmp_path / "model.gguf", arch=arch, n_layer=4)
    got = states(path, **params)
    fitted = probed(path, **params)
    np.testing.assert_array_equal(fitted.transform(TEXTS[::-1])[::-1], got)
    for i, text in enumerate(TEXTS):
        np.testing.assert_array_equal(fitted.transform([text])[0], got[i])
    np.testing.assert_array_equal(states(path, n_threads=2, **params), got)
    to_the_end()
    np.testing.assert_array_equal(states(path, **params), got)


@pytest.mark.parametrize("arch", ["gemma3n", "hy_v4", "nemotron_h", "plamo2", "plamo3", "qwen3next", "rwkv6"])
def test_nor_on_the_architecture(arch, tmp_path, to_the_end):
    path = write_architecture(tmp_path / "model.gguf", arch)
    got = [states(path, **params) for params in ({}, {"layer": 0}, MEAN, {"layer": [0, None]})]
    to_the_end()
    for params, expected in zip(({}, {"layer": 0}, MEAN, {"layer": [0, None]}), got, strict=True):
        np.testing.assert_array_equal(states(path, **params), expected)


@pytest.mark.parametrize(
    ("params", "deepest"), [({"layer": 0}, 0), (MEAN, 1), ({"layer": [2, 0.25]}, 2), ({}, 3)], ids=str
)
def test_nothing_behind_the_deepest_layer_is_computed(params, deepest, deep_model, asked):
    fitted = probed(deep_model, **params)
    clear_models()
    fitted.transform(TEXTS[:1])  # the trial decode sees all
    assert blocks_of(asked) == {0, 1, 2, 3} and "result_output" in asked
    for texts, shots in ((TEXTS, fitted), (TEXTS, fitted.set_params(labels=LABELS[::-1]).fit())):  # another prefix too
        asked.clear()
        shots.transform(texts)
        assert blocks_of(asked) == set(range(deepest + 1))
        assert "result_output" not in asked and ("result_norm" in asked) == (deepest == 3)


def test_several_layers_come_in_one_pass(deep_model):
    clear_models()
    fitted = probed(deep_model, kv_dtype="float32", **SEVERAL)
    got, model, ready = fitted.transform(TEXTS), loaded(fitted), prepared(fitted)
    documents = [[*ready.document(text), *ready.compiled.answers.slot().lead] for text in TEXTS]
    assert model.decoded == len(ready.prefix) + sum(map(len, documents)) and model.calls == 1 + len(TEXTS)
    assert got.shape == (len(TEXTS), 3 * 32) == (len(TEXTS), fitted.n_features_out_)
    for k, layer in enumerate(SEVERAL["layer"]):
        one = states(deep_model, kv_dtype="float32", layer=layer)
        np.testing.assert_array_equal(got[:, 32 * k : 32 * (k + 1)], one)
    twin = SlowTwin(deep_model)
    for row, document in zip(got, documents, strict=True):
        prompt = [*ready.prefix, *document]
        expected = [twin.states(prompt, 0)[-1], twin.states(prompt, 2)[-1], twin.hidden(prompt)]
        np.testing.assert_allclose(row, np.concatenate(expected), atol=1e-5)
    twin.close()


def test_columns_of_several_layers_are_named_by_their_blocks(deep_model):
    names = probed(deep_model, **SEVERAL).get_feature_names_out()
    assert [*names[[0, 31, 32, 64, 95]]] == [
        "layer0_hidden0",
        "layer0_hidden31",
        "layer2_hidden0",
        "layer3_hidden0",
        "layer3_hidden31",
    ]
    assert probed(deep_model, layer=[1]).get_feature_names_out()[0] == "layer1_hidden0"
    assert probed(deep_model, layer=1).get_feature_names_out()[0] == "hidden0"


def test_a_probe_on_several_layers(deep_model):
    y = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]] * 2)
    texts = [*TEXTS, *(text + " again" for text in TEXTS)]
    params = {"labels": LABELS, "method": "linear_probe", "layer": [0, 0.5], "pooling": "mean", "n_threads": 1}
    fitted = GGUFClassifier(str(deep_model), **params, method_params={"C": 0.5}).fit(texts, y)
    proba, found = fitted.predict_proba(TEXTS), fitted.diagnose(TEXTS)
    assert proba.shape == (4, 3) and fitted.readouts_[0].C == 0.5
    assert fitted.readouts_[0].n_features_in_ == 2 * 32
    np.testing.assert_array_equal(found.proba, proba)
    (extractor,) = fitted.extractors_
    np.testing.assert_array_equal(found.hidden, extractor.transform(TEXTS))
    chunks = predict_chunks(extractor, [TEXTS[:3], TEXTS[3:]], method="transform")
    np.testing.assert_array_equal(np.concatenate([*chunks]), found.hidden)


def test_kept_results_know_the_depth(deep_model, tmp_path):
    """Each set of layers is kept for itself, and serves other bounds on the answer, on which no state depends."""
    expected = [states(deep_model, **params) for params in PARAMS]
    for _ in range(2):
        for params, each in zip(PARAMS, expected, strict=True):
            np.testing.assert_array_equal(states(deep_model, memory=tmp_path, **params), each)
    clear_models()
    again = probed(deep_model, memory=tmp_path, max_labels=1, label_tokens="whole", **MEAN)
    np.testing.assert_array_equal(again.transform(TEXTS), expected[2])
    assert loaded(again).decoded == 0


@pytest.mark.parametrize("first", [HiddenStateExtractor, StepwiseExtractor])
def test_a_diagnosis_adds_the_answer(first, deep_model, tmp_path):
    """It is that of `StepwiseExtractor`, in the same entries of the cache."""
    hidden = probed(deep_model, layer=0, memory=tmp_path)
    shared = {k: v for k, v in hidden.get_params().items() if k not in ("layer", "pooling", "read")}
    steps = StepwiseExtractor(**shared).fit()
    one, other = (hidden, steps) if first is HiddenStateExtractor else (steps, hidden)
    found = {type(each): each.diagnose(TEXTS) for each in (one, other)}
    found = [found[cls] for cls in (HiddenStateExtractor, StepwiseExtractor)]
    for name in ("steps", "written", "label_mass", "beginning_mass"):
        np.testing.assert_array_equal(found[0][name], found[1][name])
    np.testing.assert_array_equal(found[0].hidden, states(deep_model, layer=0))
    clear_models()
    assert other.diagnose(TEXTS) and loaded(other).decoded == 0


def test_a_diagnosis_gives_arrays_and_says_beforehand_what_does_not_fit(deep_model):
    """Of documents there is less room beside an answer."""
    fitted = probed(deep_model, layer=[0, 2]).set_output(transform="pandas")
    assert [*fitted.transform(TEXTS).columns] == [*fitted.get_feature_names_out()]
    found = fitted.diagnose(TEXTS)
    assert type(found.hidden) is type(found.steps)
    ready = prepared(fitted)
    most = len(ready.prefix) + len(ready.document("a" * 50)) + len(ready.compiled.answers.slot().lead)
    tight = probed(deep_model, layer=0, n_ctx=most)
    assert tight.transform(["a" * 50]).shape == (1, 32)
    decoded = loaded(tight).decoded
    with pytest.raises(ValueError, match="Document 0 has"):
        tight.diagnose(["a" * 50])
    assert loaded(tight).decoded == decoded


def test_a_report_counts_what_is_written(deep_model):
    """Of an answer that is only what leads to its first label."""
    fitted = probed(deep_model)
    probe = GGUFClassifier(str(deep_model), labels=LABELS, method="linear_probe", n_threads=1, prompt=fitted.prompt)
    lead = len(prepared(fitted).compiled.answers.slot().lead)
    trained = probe.fit(list("abcdefgh"), np.eye(3)[[0, 1, 2, 0, 1, 2, 0, 1]])
    assert fitted.model_report().n_answer == trained.model_report().n_answer == lead
    steps = StepwiseExtractor(str(deep_model), labels=LABELS, prompt=fitted.prompt).fit()
    assert steps.model_report().n_answer > lead
    assert trained.prompt_text("a") == steps.prompt_text("a")


def test_an_interruptible_call_ends_there_too(deep_model, monkeypatch, asked):
    expected = states(deep_model, **MEAN)
    monkeypatch.setattr(engine, "SLOW_BYTES", 0)
    np.testing.assert_array_equal(states(deep_model, **MEAN), expected)
    assert loaded(probed(deep_model))._slow
    assert asked[-1] == "l_out-1"


def test_a_graph_of_several_parts_is_ended_in_each(deep_model, asked, monkeypatch):
    """As where a BLAS backend computes large products: what is asked after the end is computed, and ended at once."""
    taps = []
    make = engine.make_tap
    monkeypatch.setattr(engine, "make_tap", lambda *given: taps.append(make(*given)) or taps[-1])
    states(deep_model, **MEAN)
    (read,) = taps
    assert read._over
    assert read.callback(None, True, None) is True, "then the part is no longer than one operation"
    assert read.callback(None, False, None) is False


@pytest.mark.parametrize("parted", [False, True])
def test_computed_indices_are_never_looked_up_unread(parted, tmp_path, asked, monkeypatch):
    """Experts are chosen by computed numbers: where a part of the graph could lack them, it runs to its end."""
    path = write_architecture(tmp_path / "model.gguf", "qwen3moe")
    expected = states(path, layer=0)
    monkeypatch.setattr(engine, "_other_backends", lambda: parted)
    np.testing.assert_array_equal(states(path, layer=0), expected)
    assert (asked[-1] == "result_output") == parted


def test_there_are_no_logits_behind_an_end(deep_model):
    clear_models()
    fitted = probed(deep_model, **MEAN)
    model, ready = loaded(fitted), prepared(fitted)
    tokens = ready.document("a")

    def job(_):
        yield Ask((Branch("answer", tokens, None, (Read(len(tokens) - 1, np.arange(1), tap=True),)),))

    settings = Settings(512, tap=Hidden((0.5,), ("mean",)))
    with pytest.raises(ValueError, match="end before the logits"):
        list(model.run(ready.prefix, job, [[0]], settings))
