"""Fine-tuning a tiny random model: what is learned, kept, found again and refused."""

import importlib.util
import pickle
import re
from pathlib import Path
from types import SimpleNamespace

import llama_cpp as C  # noqa: N812
import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn import config_context
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import GridSearchCV, KFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from slow_twin import SlowTwin
from tiny_gguf import CHATML, WORDS, write_tiny_gguf

from skmlmc import GGUFClassifier, LinearProbe, PromptTemplate, SoftStackingClassifier
from skmlmc.datasets import annotator_distribution
from skmlmc.finetune import FinetunedClassifier, _costs, _estimator, _training, answer_log_probability
from skmlmc.metrics import nll, scorers

MISSING = [name for name in ("torch", "transformers", "accelerate", "gguf") if importlib.util.find_spec(name) is None]
trains = pytest.mark.skipif(bool(MISSING), reason=f"fine-tuning needs {', '.join(MISSING)} (skmlmc[finetune])")

PAGE = Path(__file__).parents[2] / "docs/finetune.md"
CODE = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)

LABELS = ["anger", "joy", "love"]
FEELINGS = {
    "glad": {"ann": ["joy"], "bob": ["love", "joy"]},
    "cross": {"ann": ["anger"], "bob": []},
    "well": {"ann": [], "bob": [], "eve": ["joy"]},
    "torn": {"bob": ["love", "anger"]},
}
TEXTS = [f"{feeling} {i}" for i in range(8) for feeling in FEELINGS]
ANNOTATIONS = [answers for _ in range(8) for answers in FEELINGS.values()]
SHARES = annotator_distribution(ANNOTATIONS, LABELS).soft


@pytest.fixture(scope="module")
def soft_model(tmp_path_factory):
    """Path of a random Llama that is unsure enough to learn, and has a token for each feeling and label."""
    words = (*WORDS, *FEELINGS, *LABELS)
    path = tmp_path_factory.mktemp("models") / "soft.gguf"
    return write_tiny_gguf(path, scale=0.2, n_embd=64, n_ff=128, words=words, chat_template=CHATML)


@pytest.fixture
def make(soft_model, tmp_path):
    """Make an estimator that learns the few feelings in a second."""

    def make(model=soft_model, *, classifier=None, **params):
        given = {"prompt": "{labels}", "labels": LABELS, "kv_dtype": "float32", **(classifier or {})}
        defaults = {"folder": tmp_path / "adapters", "epochs": 3, "rank": 8, "learning_rate": 1e-2}
        return FinetunedClassifier(GGUFClassifier(model, **given), **{**defaults, **params})

    return make


def held_out_loss(tuned, answers):
    """Mean negative log-likelihood of held-out answers, as llama.cpp computes it, one answer at a time."""
    total = 0.0
    for i in tuned.held_out_:
        for labels in answers[i].values():
            (log_probability,) = answer_log_probability(tuned, [TEXTS[i]], [labels])
            total -= log_probability / len(answers[i])
    return total / len(tuned.held_out_)


@trains
@pytest.mark.parametrize(
    ("arch", "prompt"), [("llama", "plain"), ("llama", "chat"), ("llama", "list"), ("gemma3", "plain")]
)
def test_llama_cpp_finds_answers_as_probable_as_torch_does(make, tmp_path, arch, prompt):
    # A Gemma's head is taken to be 256 wide: its file does not say what the queries are divided by.
    sizes = {"n_embd": 512, "n_head": 2} if arch == "gemma3" else {}
    path = tmp_path / "model.gguf"
    model = write_tiny_gguf(path, arch=arch, scale=0.1, chat_template=CHATML, add_bos=True, **sizes)
    form = {"answer_format": "list", "mode": "plain"} if prompt == "list" else {"mode": prompt}
    template = PromptTemplate(instruction="Say which of {labels}.", **form)
    tuned = make(model, classifier={"prompt": template}, epochs=2).fit(TEXTS, annotations=ANNOTATIONS)
    first, kept = tuned.history_[0][1], dict(tuned.history_)[tuned.step_]
    assert kept < first - 1, tuned.history_
    assert held_out_loss(tuned, ANNOTATIONS) == pytest.approx(kept, abs=1e-4)


@trains
@pytest.mark.campaign
@pytest.mark.model
def test_of_a_quantised_model_too_within_what_quantising_does(make, embedded_model):
    prompt = PromptTemplate(instruction="{labels}", mode="plain")
    tuned = make(embedded_model, classifier={"prompt": prompt}, learning_rate=1e-3, epochs=2, batch_size=4)
    tuned.fit(TEXTS, annotations=ANNOTATIONS)
    first, kept = tuned.history_[0][1], dict(tuned.history_)[tuned.step_]
    assert kept < 0.5 * first
    assert held_out_loss(tuned, ANNOTATIONS) == pytest.approx(kept, rel=0.03)


@trains
def test_it_learns_what_annotators_say(make):
    before = make().classifier.fit().predict_proba(TEXTS)
    tuned = make(epochs=12, classifier={"method": "marginal_over_generations", "max_labels": 3})
    tuned.fit(TEXTS, annotations=ANNOTATIONS)
    after = tuned.predict_proba(TEXTS)
    assert nll(SHARES, after) < 0.5 * nll(SHARES, before)
    assert nll(SHARES, after) < 0.5 * nll(SHARES, np.tile(SHARES.mean(axis=0), (len(SHARES), 1)))
    assert tuned.score(TEXTS, SHARES) > 0.5 and tuned.predict(TEXTS).shape == SHARES.shape


@trains
def test_the_majority_alone_makes_it_surer(make):
    made = {
        kind: make(targets=kind, epochs=8).fit(TEXTS, annotations=ANNOTATIONS) for kind in ("annotators", "majority")
    }
    sure = {kind: abs(tuned.predict_proba(TEXTS) - 0.5).mean() for kind, tuned in made.items()}
    assert sure["majority"] > sure["annotators"]


@trains
def test_preferences_make_right_answers_more_probable_than_wrong_ones(make, tmp_path):
    made = {kind: make(targets=kind, epochs=6) for kind in ("majority", "preference")}
    for tuned in made.values():
        tuned.fit(TEXTS, SHARES)
    assert len(list((tmp_path / "adapters").glob("*.gguf"))) == 2, "the first training is shared"
    losses = [loss for _, loss in made["preference"].history_]
    assert losses[0] == pytest.approx(np.log(2), abs=1e-5) and min(losses) < losses[0]
    right = [[LABELS[k] for k in np.flatnonzero(row > 0.5)] for row in SHARES]
    wrong = [right[(i + 1) % 4] for i in range(len(TEXTS))]
    apart = {
        kind: (answer_log_probability(tuned, TEXTS, right) - answer_log_probability(tuned, TEXTS, wrong)).mean()
        for kind, tuned in made.items()
    }
    assert apart["preference"] > apart["majority"] + 0.1


@trains
def test_the_same_again_is_found_not_trained(make, monkeypatch):
    tuned = make().fit(TEXTS, annotations=ANNOTATIONS)
    proba = tuned.predict_proba(TEXTS)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)  # as if nothing that trains were installed
    again = make(classifier={"n_threads": 1}, verbose=1).fit(TEXTS, annotations=ANNOTATIONS)
    assert again.adapter_ == tuned.adapter_ and again.history_ == tuned.history_
    np.testing.assert_array_equal(again.predict_proba(TEXTS), proba)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(tuned)).predict_proba(TEXTS), proba)
    as_lora = clone(tuned.classifier).set_params(lora=tuned.adapter_).fit()
    np.testing.assert_array_equal(as_lora.predict_proba(TEXTS), proba)


@trains
def test_what_decides_is_in_the_name(make):
    tuned = make().fit(TEXTS, annotations=ANNOTATIONS)
    names = {Path(tuned.adapter_).name}
    others = [
        make(random_state=1).fit(TEXTS, annotations=ANNOTATIONS),
        make(rank=2).fit(TEXTS, annotations=ANNOTATIONS),
        make(targets="majority").fit(TEXTS, annotations=ANNOTATIONS),
        make().fit(TEXTS, SHARES),
        make().fit([text + "!" for text in TEXTS], annotations=ANNOTATIONS),
        make(classifier={"prompt": "{labels}?"}).fit(TEXTS, annotations=ANNOTATIONS),
    ]
    names |= {Path(other.adapter_).name for other in others}
    assert len(names) == 1 + len(others)


@trains
def test_a_seed_gives_the_same_adapter(make, tmp_path):
    files = [Path(make(folder=tmp_path / name).fit(TEXTS, SHARES).adapter_) for name in "ab"]
    assert files[0].name == files[1].name and files[0].read_bytes() == files[1].read_bytes()


@trains
def test_an_interrupted_training_goes_on_and_ends_the_same(make, tmp_path, monkeypatch):
    whole = make(folder=tmp_path / "whole").fit(TEXTS, SHARES)
    steps, look = [], _training._Progress.look

    def stop(self, losses):
        look(self, losses)
        steps.append(self.step)
        if len(steps) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(_training, "SAVE_SECONDS", -1)
    monkeypatch.setattr(_training._Progress, "look", stop)
    with pytest.raises(KeyboardInterrupt):
        make().fit(TEXTS, SHARES)
    assert [path.suffix for path in (tmp_path / "adapters").iterdir()] == [".checkpoint"]
    resumed = make().fit(TEXTS, SHARES)
    assert 0 < steps[4] - steps[2] <= 2 * (steps[3] - steps[2]), "it went on where it was"
    assert resumed.history_ == whole.history_
    assert Path(resumed.adapter_).read_bytes() == Path(whole.adapter_).read_bytes()
    assert len(list((tmp_path / "adapters").iterdir())) == 1, "the checkpoint is gone"


@trains
@pytest.mark.parametrize("kind", ["checkpoint", "gguf"])
def test_damaged_files_are_made_anew(make, kind):
    tuned = make().fit(TEXTS, SHARES)
    path = Path(tuned.adapter_)
    whole = path.read_bytes()
    path.unlink()
    path.with_suffix(f".{kind}").write_bytes(whole[:1000] if kind == "gguf" else b"no checkpoint")
    assert Path(make().fit(TEXTS, SHARES).adapter_).read_bytes() == whole


@trains
def test_it_stops_where_it_becomes_worse_and_keeps_what_was_not(make):
    tuned = make(learning_rate=3.0, epochs=50, patience=2).fit(TEXTS, annotations=ANNOTATIONS)
    losses = dict(tuned.history_)
    assert len([step for step in losses if step > tuned.step_]) == 2, losses
    assert held_out_loss(tuned, ANNOTATIONS) == pytest.approx(losses[tuned.step_], abs=1e-3)


@trains
@pytest.mark.parametrize(
    ("looks", "kept", "waited"),
    [
        ([[9, 9, 9], [1, 2, 3], [1.2, 1.9, 3.2]], 2, 0),  # 0.1 more, with a standard error of 0.1
        ([[9, 9, 9], [1, 2, 3], [1.2, 2.2, 3.2]], 1, 1),  # all of them are worse
        ([[9, 9, 9], [1, 2, 3], [2, 3, 4], [0.9, 1.9, 2.9], [1.9, 1.9, 2.2]], 4, 0),
        ([[9.0], [2.0], [2.0], [2.1]], 2, 1),  # of one document there is no standard error
    ],
)
def test_the_last_look_that_is_no_worse_than_the_best_is_kept(looks, kept, waited):
    import torch

    model = SimpleNamespace(state=lambda: None, parameters=lambda: [torch.zeros(1, requires_grad=True)])
    progress = _training._Progress(model, SimpleNamespace(learning_rate=1.0))
    for step, losses in enumerate(looks):
        progress.step = step
        progress.look(np.array(losses, float))
    assert (progress.kept[0], progress.waited) == (kept, waited)


@trains
def test_a_device_that_torch_does_not_have(make, monkeypatch):
    for device in ("quark", "meta:nothing", 3.5):
        with pytest.raises(
            ValueError, match=f"Got device='{device}', on which torch cannot compute: .* Expected 'cpu'"
        ):
            make(device=device).fit(TEXTS, SHARES)
    made = make().fit(TEXTS, SHARES)
    assert make(device="cpu:0").fit(TEXTS, SHARES).adapter_ == made.adapter_, "the same data, found again"


@trains
def test_cross_validation_trains_an_adapter_a_fold(make, tmp_path):
    params = {"annotations": np.array(ANNOTATIONS, dtype=object)}
    for _ in range(2):
        found = cross_validate(
            make(epochs=1), TEXTS, SHARES, cv=KFold(2), params=params, scoring=scorers()["nll"], error_score="raise"
        )
        assert np.isfinite(found["test_score"]).all()
        assert len(list((tmp_path / "adapters").glob("*.gguf"))) == 2


@trains
def test_a_search_over_readouts_trains_once_a_fold(make, tmp_path):
    grid = {"classifier__method": ["max_over_generations", "marginal_over_generations"]}
    search = GridSearchCV(make(epochs=1), grid, cv=KFold(2), error_score="raise").fit(TEXTS, (SHARES > 0.5).astype(int))
    assert search.best_params_ and search.predict(TEXTS).shape == SHARES.shape
    assert len(list((tmp_path / "adapters").glob("*.gguf"))) == 3


@trains
def test_it_is_a_member_of_a_stack(make, tmp_path):
    words = make_pipeline(TfidfVectorizer(), LinearProbe(None, scale=False))
    stack = SoftStackingClassifier(
        [("tuned", make(epochs=4)), ("words", words)], cv=KFold(2, shuffle=True, random_state=0)
    )
    proba = stack.fit(TEXTS, SHARES).predict_proba(TEXTS)
    assert stack.labels_.tolist() == LABELS and proba.shape == SHARES.shape and stack.weights_.shape == (2,)
    assert len(list((tmp_path / "adapters").glob("*.gguf"))) == 3
    assert nll(SHARES, proba) < nll(SHARES, np.tile(SHARES.mean(axis=0), (len(SHARES), 1)))


@trains
def test_annotations_are_routed_to_it(make):
    with config_context(enable_metadata_routing=True):
        pipe = make_pipeline(FunctionTransformer(list), make(epochs=1))
        pipe.fit(TEXTS, SHARES, annotations=ANNOTATIONS)
    assert pipe[-1].adapter_ == make(epochs=1).fit(TEXTS, annotations=ANNOTATIONS).adapter_


@trains
def test_single_label_tasks_with_classes(make):
    classes = np.array(["joy", "anger", "love", "anger"] * 8)
    tuned = make(classifier={"labels": None, "multi_label": False}, epochs=16).fit(TEXTS, classes)
    assert tuned.classes_.tolist() == sorted(set(classes))
    proba = tuned.predict_proba(TEXTS)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    assert (tuned.predict(TEXTS) == classes).mean() == tuned.score(TEXTS, classes) > 0.9
    same = make(classifier={"labels": None, "multi_label": False}, epochs=16)
    same.fit(TEXTS, classes, annotations=[{"ann": name} for name in classes])
    assert same.adapter_ == tuned.adapter_


@trains
def test_groups_are_held_out_together_and_demonstrations_not_trained_on(make):
    groups = np.repeat(np.arange(8), 4)
    tuned = make(epochs=1, validation_fraction=0.3, classifier={"shots": 4, "random_state": 0})
    tuned.fit(TEXTS, SHARES, groups=groups)
    held_out = {*groups[tuned.held_out_]}
    shown = {*tuned.classifier_.demonstration_indices_.tolist()} or {
        TEXTS.index(text) for text, _ in tuned.classifier_.demonstrations_
    }
    assert len(shown) == 4 and len(held_out) == 3 and not shown & {*tuned.held_out_}
    for group in held_out:
        assert {*np.flatnonzero(groups == group)} - shown == {i for i in tuned.held_out_ if groups[i] == group}


@trains
def test_it_tells_what_it_takes(make, capsys):
    make(verbose=1, epochs=1).fit(TEXTS, SHARES)
    said = capsys.readouterr().err
    assert "Fine-tune soft.gguf on 28 documents, 4 held out: at most 4 steps" in said and "GB of memory" in said
    assert "minute" in said and "Fine-tune: 100%" in said
    make(epochs=1, random_state=1).fit(TEXTS, SHARES)
    assert capsys.readouterr().err == ""


@trains
def test_the_page_runs_as_written(soft_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SKMLMC_MODEL", soft_model)
    names = {}
    for code in CODE:
        exec(compile(code, "finetune.md", "exec"), names)
    assert len(CODE) == 4 and names["proba"].shape == (1, 3)
    assert len(list((tmp_path / "adapters").glob("*.gguf"))) == 4, "one, and three of the search"


@trains
def test_a_model_that_transformers_reads_otherwise_is_refused(make, monkeypatch, tmp_path):
    monkeypatch.setattr(_estimator, "log_probabilities", lambda task, texts, *more: np.full(len(texts), -1.0))
    with pytest.raises(ValueError, match="reads 'soft.gguf' otherwise than llama.cpp does"):
        make().fit(TEXTS, SHARES)
    assert list((tmp_path / "adapters").iterdir()) == []


@trains
def test_architectures_come_from_transformers(make, tmp_path):
    known = _costs.readable_architectures()
    assert {"llama", "qwen2", "gemma3"} <= {*known} and "mamba" not in known
    model = write_tiny_gguf(tmp_path / "mamba.gguf", arch="mamba")
    with pytest.raises(ValueError, match="reads from GGUF files and trains: .*llama"):
        make(model).fit(TEXTS, SHARES)


def test_missing_packages_are_named_with_what_to_install(make, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ImportError, match=r"torch, transformers, accelerate, gguf cannot be imported.*pip install 'skmlmc\[finetune"
    ):
        make().fit(TEXTS, SHARES)


def test_too_little_memory_is_said_before_anything_is_read(make, monkeypatch):
    monkeypatch.setattr(_costs, "check_packages", lambda: None)
    monkeypatch.setattr(_costs, "available_memory", lambda: 1000)
    with pytest.raises(MemoryError, match="Fine-tuning needs about"):
        make().fit(TEXTS, SHARES)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"targets": "people"}, "Got targets='people' but expected one of 'annotators', 'majority', 'preference'"),
        ({"rank": 0}, "Got rank=0 but expected a positive integer"),
        ({"epochs": 0}, "Got epochs=0 but expected a positive integer"),
        ({"learning_rate": -1}, "Got learning_rate=-1 but expected a finite number above 0"),
        ({"validation_fraction": 1.0}, "Got validation_fraction=1.0 but expected a number between 0 and 1"),
        ({"classifier": {"lora": "some.gguf"}}, "with lora='some.gguf' but expected one without"),
        ({"classifier": {"aligner": "platt"}}, "with aligner='platt' but expected one without"),
        (
            {"classifier": {"method": "linear_probe"}},
            "method='linear_probe' but expected one that reads a written answer",
        ),
        ({"classifier": {"method": "unary_breakdown"}}, "method='unary_breakdown' but expected one that reads"),
    ],
)
def test_parameters_are_checked_first(make, params, message):
    with pytest.raises(ValueError, match=message):
        make(**params).fit(["one document"], None)


def test_data_are_checked_before_anything_is_trained(make, monkeypatch):
    monkeypatch.setattr(_estimator.FinetunedClassifier, "_train", lambda *args: pytest.fail("it began to train"))
    with pytest.raises(ValueError, match="Expected y, distribution or annotations"):
        make().fit(TEXTS)
    with pytest.raises(ValueError, match="expected at least 10 to fine-tune on"):
        make().fit(TEXTS[:9], SHARES[:9])
    with pytest.raises(ValueError, match="annotations of 31 documents, but expected those of the 32 in X"):
        make().fit(TEXTS, annotations=ANNOTATIONS[1:])
    with pytest.raises(ValueError, match="unknown label 'hate'"):
        make().fit(TEXTS, annotations=[{"ann": ["hate"]}] * len(TEXTS))
    with pytest.raises(ValueError, match="answer to document 0 has 2 labels"):
        make(classifier={"multi_label": False}).fit(TEXTS, annotations=ANNOTATIONS)
    with pytest.raises(ValueError, match="groups that are all the same"):
        make().fit(TEXTS, SHARES, groups=[0] * len(TEXTS))
    with pytest.raises(ValueError, match="documents are too long"):
        make(classifier={"n_ctx": 160}).fit([TEXTS[0] * 40, *TEXTS[1:]], SHARES)
    with pytest.raises(TypeError, match="expected a GGUFClassifier, or None"):
        FinetunedClassifier("model.gguf").fit(TEXTS, SHARES)


def test_a_folder_that_cannot_be_written_is_said_first(make, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="where no adapter can be written .*expected a folder that is yours"):
        make(folder=tmp_path / "file" / "adapters").fit(TEXTS, SHARES)


def slow_log_probability(twin, before, answer, behind):
    """Log-probability of an answer's tokens and of the first behind it, of the whole text and each place by itself."""
    tokens = twin.whole(before + answer + behind)
    ends = np.cumsum([len(twin.piece(token) or C.llama_vocab_get_text(twin._vocab, token)) for token in tokens])
    start = int(np.argmax(ends > len(before)))
    last = int(np.argmax(ends >= len(before) + len(answer)))
    stop = last + 1 + (ends[last] == len(before) + len(answer))
    return sum(log_softmax(twin.logits(tokens[:k]))[tokens[k]] for k in range(start, stop))


@pytest.mark.parametrize(
    ("prompt", "written", "begun", "behind"),
    [
        ({"mode": "plain"}, '{"label": ["%s"]}', '{"label": ["', "\n\nInput: "),
        ({"mode": "plain", "answer_format": "list"}, "%s", "", "\n\nInput: "),
        ({"mode": "chat"}, '{"label": ["%s"]}', '{"label": ["', "<|im_end|>\n"),
    ],
    ids=["plain", "list", "chat"],
)
def test_log_probabilities_are_those_of_the_whole_text(tiny_chat_model, prompt, written, begun, behind):
    template = PromptTemplate(instruction="{labels}", **prompt)
    clf = GGUFClassifier(tiny_chat_model, labels=["joy", "fear"], kv_dtype="float32", prompt=template).fit()
    texts, answers = ["so glad", "hm", ""], [["joy"], ["fear", "joy"], []]
    words = ["joy", "joy, fear" if prompt.get("answer_format") else 'joy", "fear', "none"]
    twin = SlowTwin(tiny_chat_model)
    before = [clf.prompt_text(text).removesuffix(begun) for text in texts]
    assert all(text.endswith("\n") for text in before)
    slow = [slow_log_probability(twin, text, written % word, behind) for text, word in zip(before, words, strict=True)]
    twin.close()
    np.testing.assert_allclose(answer_log_probability(clf, texts, answers), slow, atol=1e-4)


def test_log_probabilities_refuse_what_is_no_answer(tiny_model):
    clf = GGUFClassifier(tiny_model, labels=["joy", "fear"]).fit()
    with pytest.raises(ValueError, match=r"answers\[0\] is 'joy', expected a collection"):
        answer_log_probability(clf, ["so glad"], ["joy"])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        answer_log_probability(clf, ["so glad"], [])
    asks = GGUFClassifier(tiny_model, labels=["joy", "fear"], method="unary_breakdown").fit()
    with pytest.raises(ValueError, match="which read a written answer"):
        answer_log_probability(asks, ["so glad"], [["joy"]])
