"""Embeddings of tiny random models of each kind: against llama.cpp's own, reproducible, and of the right files."""

import os
import re

import joblib
import llama_cpp as C  # noqa: N812
import numpy as np
import pandas as pd
import pytest
from adapters import write_adapter
from ecosystem_data import H, Y
from encoders import POOLINGS, SPECS, WIDTH, write_encoder
from gguf_bytes import ARR, BOOL, F32, STR, U32, take_apart
from inside import kept, loaded
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline, make_union
from sklearn.utils import get_tags
from tiny_gguf import write_tiny_gguf

import skmlmc
from skmlmc import EmbeddingExtractor, GGUFClassifier, HiddenStateExtractor, LinearProbe, StepwiseExtractor
from skmlmc.streaming import predict_chunks

TEXTS = [
    "We won!!!",
    "",
    "I miss her so much, and the joyful one.",
    "Naïve 漢字 🙂 [SEP] <|end|> </s> [UNK]",
    "won " * 60,
    "\n\t",
]
DOCUMENTS = [f"{text} {i}" for i in range(5) for text in ("We won!!!", "I miss her", "it rained", "why me")]


class Twin:
    """One text at a time by llama.cpp, with nothing of the package."""

    def __init__(self, path, pooling, n=2048):
        params = C.llama_model_default_params()
        params.use_extra_bufts = b"AMX_INT8 = 1" not in C.llama_print_system_info()
        self.model = C.llama_model_load_from_file(os.fsencode(path), params)
        context = C.llama_context_default_params()
        context.n_ctx = context.n_batch = context.n_ubatch = n
        context.n_threads = context.n_threads_batch = 1
        context.flash_attn_type = 0  # which computes in half precision
        context.embeddings, context.pooling_type = True, POOLINGS[pooling]
        self.context = C.llama_init_from_model(self.model, context)

    def __call__(self, text):
        raw = text.encode()
        tokens = (C.llama_token * (len(raw) + 8))()
        vocabulary = C.llama_model_get_vocab(self.model)
        n = C.llama_tokenize(vocabulary, raw, len(raw), tokens, len(tokens), True, False)
        run = C.llama_encode if C.llama_model_has_encoder(self.model) else C.llama_decode
        C.llama_memory_clear(C.llama_get_memory(self.context), True)
        assert run(self.context, C.llama_batch_get_one(tokens, n)) == 0
        width = C.llama_model_n_embd(self.model)
        return np.ctypeslib.as_array(C.llama_get_embeddings_seq(self.context, 0), (width,)).copy()

    def __del__(self):
        C.llama_free(self.context)
        C.llama_model_free(self.model)


def embed(path, X=TEXTS, **params):
    return EmbeddingExtractor(path, **{"n_threads": 1, "normalize": False, **params}).fit().transform(X)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Path of a model of each kind."""
    folder = tmp_path_factory.mktemp("encoders")
    return {arch: write_encoder(folder / f"{arch}.gguf", arch) for arch in SPECS}


@pytest.mark.parametrize("arch", SPECS)
@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_vectors_are_llama_cpps_own(arch, pooling, paths):
    twin = Twin(paths[arch], pooling)
    found = embed(paths[arch], pooling=pooling)
    assert found.dtype == np.float32 and found.shape == (len(TEXTS), WIDTH)
    np.testing.assert_allclose(found, [twin(text) for text in TEXTS], rtol=0, atol=1e-6)
    if (arch, pooling) != ("qwen3", "cls"):  # whose first token sees no text
        assert len(np.unique(found.round(4), axis=0)) >= len(TEXTS) - 1  # white space may be nothing


@pytest.mark.parametrize("arch", ["neo-bert", "jina-bert-v3", "modern-bert", "qwen3"])
def test_long_texts_are_read_in_one_piece(arch, tmp_path):
    """More tokens than a call of another model takes, and a word longer than what its tokenizer is given at once."""
    path = write_encoder(tmp_path / "m.gguf", arch, context_length=2048)
    texts = ["the joyful one " * 60, "ab" * 600 if arch != "modern-bert" else "a b " * 300]
    np.testing.assert_allclose(embed(path, texts), [Twin(path, "mean")(text) for text in texts], rtol=0, atol=2e-6)


@pytest.mark.parametrize("arch", SPECS)
def test_no_bit_depends_on_other_texts(arch, paths):
    found = embed(paths[arch])
    for rows in (slice(None, None, -1), [2], [4, 0, 4, 1]):
        np.testing.assert_array_equal(embed(paths[arch], list(np.array(TEXTS, dtype=object)[rows])), found[rows])
    np.testing.assert_array_equal(embed(paths[arch], n_threads=2), found)
    np.testing.assert_array_equal(embed(paths[arch], n_ctx=250), found)
    np.testing.assert_allclose(embed(paths[arch], batch_size=4), found, rtol=0, atol=1e-3)


def test_processes_change_no_bit(paths):
    expected = embed(paths["bert"], DOCUMENTS)
    np.testing.assert_array_equal(embed(paths["bert"], DOCUMENTS, n_jobs=2), expected)


def test_normalised_vectors_have_length_1(paths):
    found, raw = embed(paths["bert"], normalize=True), embed(paths["bert"])
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(found * np.linalg.norm(raw, axis=1, keepdims=True), raw, atol=1e-6)
    np.testing.assert_array_equal(embed(paths["bert"], TEXTS[2:3], normalize=True), found[2:3])


def test_an_empty_text_without_tokens_around_it(tmp_path):
    path = write_encoder(tmp_path / "m.gguf", "qwen3", around=False)
    for batch_size in (1, 4):
        found = embed(path, ["", "joy", ""], normalize=True, batch_size=batch_size)
        assert not found[[0, 2]].any() and np.linalg.norm(found[1]) == pytest.approx(1)


# -------------------------------------------------------------- parameters


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_the_file_names_the_pooling(pooling, tmp_path):
    path = write_encoder(tmp_path / "m.gguf", pooling=pooling)
    fitted = EmbeddingExtractor(path).fit()
    assert fitted.pooling_ == pooling and f"pooling {pooling}" in str(fitted.model_report())
    np.testing.assert_array_equal(embed(path), embed(path, pooling=pooling))
    other = "cls" if pooling == "last" else "last"
    assert EmbeddingExtractor(path, pooling=other).fit().pooling_ == other
    assert abs(embed(path, pooling=other) - embed(path)).max() > 0.01


def test_a_file_that_names_none(tmp_path):
    path = write_encoder(tmp_path / "m.gguf", pooling=None)
    with pytest.raises(ValueError, match='Got pooling=None, and .*names none: expected .*pooling="mean"'):
        EmbeddingExtractor(path).fit()
    assert embed(path, pooling="cls").shape == (len(TEXTS), WIDTH)


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"pooling": "max"}, "Got pooling='max' but expected one of None, 'mean', 'cls', 'last'"),
        ({"normalize": "yes"}, "Got normalize='yes' but expected one of True, False"),
        ({"n_ctx": 0}, "Got n_ctx=0"),
        ({"truncation": "middle"}, "Got truncation='middle'"),
        ({"lora": 3}, "Got lora=3"),
    ],
)
def test_wrong_parameters(params, match, paths):
    fitted = EmbeddingExtractor(paths["bert"]).fit()
    with pytest.raises((ValueError, TypeError), match=match):
        fitted.set_params(**params).fit()
    with pytest.raises(NotFittedError):
        fitted.transform(TEXTS)


@pytest.mark.parametrize("X", ["a text", [1, 2], [], [["a"]], [None]])
def test_what_is_no_list_of_texts(X, paths):
    fitted = EmbeddingExtractor(paths["bert"]).fit()
    for call in (fitted.transform, clone(fitted).fit):
        with pytest.raises((ValueError, TypeError), match="X"):
            call(X)


def test_long_texts(paths):
    texts = ["joy", "won " * 200, "x", "a b " * 200]
    with pytest.raises(ValueError, match=r"Document 1 has \d+ tokens but only 256 fit \(n_ctx=256\); 2 doc.*or cut"):
        embed(paths["bert"], texts)
    with pytest.warns(UserWarning, match="2 of 4 documents were cut to 256 tokens"):
        end = embed(paths["bert"], texts, truncation="end")
    with pytest.warns(UserWarning, match="cut to 20 tokens"):
        start = embed(paths["bert"], ["a b c " * 20 + "d e"], truncation="start", n_ctx=20)
    np.testing.assert_array_equal(end[[0, 2]], embed(paths["bert"], ["joy", "x"]))
    np.testing.assert_array_equal(end[3:], embed(paths["bert"], ["a b " * 127]))
    np.testing.assert_array_equal(start, embed(paths["bert"], ["c " + "a b c " * 5 + "d e"]))
    with pytest.raises(ValueError, match="Got n_ctx=2, which leaves no room for a text between the 2 tokens"):
        embed(paths["bert"], n_ctx=2)


@pytest.mark.parametrize("arch", ["nomic-bert", "qwen3"])
def test_memory_that_is_not_there(arch, paths, monkeypatch):
    """Of a long text it grows with the square: what is said to fit does, and hardly more."""
    path, free = write_encoder(f"{paths[arch]}.long", arch, context_length=8192), 12_000_000
    monkeypatch.setattr("skmlmc._engine.embedding.available_memory", lambda: free)
    with pytest.raises(MemoryError, match=r"not enough memory .* about n_ctx=\d+ would fit") as caught:
        embed(path, ["joy " * 2000])
    fits = int(re.search(r"about n_ctx=(\d+)", str(caught.value))[1])
    assert 512 <= fits < 1200
    with pytest.warns(UserWarning, match=f"cut to {fits} tokens"):
        assert embed(path, ["joy " * 2000], truncation="end", n_ctx=fits).shape == (1, WIDTH)


# ------------------------------------------------------------------- files


@pytest.mark.parametrize("arch", SPECS)
def test_an_embedding_model_is_no_generator(arch, paths):
    for estimator in (StepwiseExtractor, GGUFClassifier, HiddenStateExtractor):
        with pytest.raises(ValueError, match="it gives no next word.* EmbeddingExtractor makes features of texts"):
            estimator(paths[arch], labels=["joy", "anger"]).fit(["a", "b"], np.eye(2))


@pytest.mark.parametrize("pooling", [None, "mean"])
def test_a_generator_is_no_embedding_model(pooling, tiny_model):
    with pytest.raises(ValueError, match="is a text generation model: .*HiddenStateExtractor makes features of texts"):
        EmbeddingExtractor(tiny_model, pooling=pooling).fit()


def test_a_causal_model_that_was_trained_for_embeddings(tmp_path):
    path = take_apart(write_tiny_gguf(tmp_path / "m.gguf")).set("llama.pooling_type", U32, 3).write(tmp_path / "e.gguf")
    found, twin = embed(str(path)), Twin(path, "last")
    assert EmbeddingExtractor(path).fit().pooling_ == "last"
    np.testing.assert_allclose(found[2], twin(TEXTS[2]), atol=1e-6)
    adapter = write_adapter(str(tmp_path / "a.gguf"))
    adapted = EmbeddingExtractor(path, lora=[(adapter, 0.5)], normalize=False).fit()
    assert abs(adapted.transform(TEXTS) - found).max() > 0.01
    with pytest.raises(ValueError, match="adapters are others than in fit"):
        adapted.set_params(lora=None).transform(TEXTS)


def test_a_ranking_model(tmp_path):
    path = write_encoder(tmp_path / "m.gguf", pooling="rank")
    for estimator in (EmbeddingExtractor(path), EmbeddingExtractor(path, pooling="cls"), StepwiseExtractor(path)):
        with pytest.raises(ValueError, match="is a ranking model .bert.pooling_type is 4, rank.: it compares texts"):
            estimator.fit()


def test_another_file_than_in_fit(tmp_path):
    path = write_encoder(tmp_path / "m.gguf")
    fitted = EmbeddingExtractor(path).fit()
    moved = (tmp_path / "m.gguf").rename(tmp_path / "moved.gguf")
    with pytest.raises(FileNotFoundError, match="expected what fit found"):
        fitted.transform(TEXTS)
    skmlmc.locate_model(fitted, moved)
    np.testing.assert_array_equal(fitted.transform(TEXTS), embed(moved, normalize=True))
    write_encoder(moved, "nomic-bert")
    with pytest.raises(ValueError, match="is another one than in fit"):
        fitted.transform(TEXTS)


@pytest.mark.parametrize("arch", SPECS)
def test_sound_files_pass_their_trial(arch, paths, trials):
    embed(paths[arch], TEXTS[:1])
    assert len(list(trials.iterdir())) == 1
    skmlmc.clear_models()


def test_a_file_that_ends_the_process(tmp_path, trials):
    path = write_encoder(tmp_path / "m.gguf", "gemma-embedding", **{"dense_2_feat_in": 3, "dense_2_feat_out": 4})
    with pytest.raises(ValueError, match=r"trial run of .*m.gguf.* ended its process: .*GGML_ASSERT.*dense_2_feat_in"):
        embed(path)


@pytest.mark.parametrize(("kind", "value"), [(STR, "64"), (U32, 0), ((ARR, U32), [64, 64]), (F32, 64.0), (BOOL, True)])
@pytest.mark.parametrize("key", ["embedding_length", "embedding_length_out"])
def test_a_header_without_a_width(key, kind, value, paths, tmp_path):
    path = take_apart(paths["bert"]).set(f"bert.{key}", kind, value).write(tmp_path / "bad.gguf")
    with pytest.raises(ValueError, match=f"is no sound GGUF file: its key 'bert.{key}' is .*, expected 1 to"):
        EmbeddingExtractor(path).fit()


def test_damaged_weights(paths, tmp_path):
    parts = take_apart(paths["bert"])
    parts.tensors["blk.1.layer_output_norm.weight"][2] = bytes([255]) * 4 * WIDTH
    with pytest.raises(ValueError, match="computes infinite numbers or none at all"):
        embed(str(parts.write(tmp_path / "bad.gguf")))


# --------------------------------------------------------------- ecosystem


def test_what_is_known_of_the_columns(paths):
    extractor = EmbeddingExtractor(paths["bert"], n_threads=1)
    with pytest.raises(NotFittedError):
        extractor.get_feature_names_out()
    assert extractor.fit().n_features_out_ == WIDTH
    assert list(extractor.get_feature_names_out()) == [f"embedding{k}" for k in range(WIDTH)]
    frame = extractor.set_output(transform="pandas").transform(pd.Series(TEXTS, index=list("abcdef")))
    assert list(frame.index) == list("abcdef") and list(frame.columns) == list(extractor.get_feature_names_out())
    tags = get_tags(extractor)
    assert tags.input_tags.string and not tags.target_tags.required and tags.requires_fit


def test_clones_and_pickles(paths, tmp_path):
    extractor = EmbeddingExtractor(paths["bert"], pooling="cls", normalize=False, n_threads=1)
    copy = clone(extractor)
    assert copy.get_params() == extractor.get_params() and not hasattr(copy, "pooling_")
    joblib.dump(extractor.fit(), tmp_path / "e.joblib")
    assert os.path.getsize(tmp_path / "e.joblib") < 2000
    np.testing.assert_array_equal(joblib.load(tmp_path / "e.joblib").transform(TEXTS), extractor.transform(TEXTS))


def test_nothing_is_read_twice(paths, tmp_path):
    """Whether vectors are normalised does not matter to the cache; their pooling does."""
    model = loaded(paths["bert"])
    expected = embed(paths["bert"], [*TEXTS, *TEXTS], memory=tmp_path)
    assert kept(tmp_path) == len(set(TEXTS))
    before = model.decoded
    np.testing.assert_array_equal(embed(paths["bert"], memory=tmp_path), expected[: len(TEXTS)])
    embed(paths["bert"], memory=tmp_path, normalize=True)
    assert model.decoded == before
    embed(paths["bert"], memory=tmp_path, pooling="cls")
    assert model.decoded > before and kept(tmp_path) == 2 * len(set(TEXTS))


def test_in_front_of_a_probe(paths):
    """In a pipeline, beside other features, behind a column of a table, and in cross-validation."""
    extractor, probe = EmbeddingExtractor(paths["bert"], n_threads=1), LinearProbe(C=1.0, n_components=None)
    pipe = make_pipeline(extractor, probe).fit(DOCUMENTS, H)
    assert pipe.predict_proba(DOCUMENTS).shape == H.shape
    union = make_pipeline(make_union(extractor, TfidfVectorizer()), LogisticRegression()).fit(DOCUMENTS, Y[:, 0])
    assert union[0].transform(DOCUMENTS).shape[1] > WIDTH
    table = pd.DataFrame({"text": DOCUMENTS, "length": range(len(DOCUMENTS))})
    columns = ColumnTransformer([("text", extractor, "text"), ("length", "passthrough", ["length"])])
    assert columns.fit_transform(table).shape == (len(DOCUMENTS), WIDTH + 1)
    assert columns.get_feature_names_out()[0] == "text__embedding0"
    assert cross_val_predict(pipe, DOCUMENTS, Y, cv=2, method="predict_proba").shape == Y.shape
    search = GridSearchCV(make_pipeline(extractor, probe), {"embeddingextractor__pooling": ["mean", "cls"]}, cv=2)
    assert np.isfinite(search.fit(DOCUMENTS, Y).cv_results_["mean_test_score"]).all()


def test_aligners_of_other_arrays_say_whose_these_are(paths):
    with pytest.raises(ValueError, match="got hidden .of HiddenStateExtractor or EmbeddingExtractor.. Use LinearProbe"):
        skmlmc.MaxOverGenerations().fit(embed(paths["bert"]))


def test_corpora_in_chunks(paths, tmp_path):
    extractor = EmbeddingExtractor(paths["bert"], n_threads=1).fit()
    chunks = [DOCUMENTS[:7], DOCUMENTS[7:]]
    for _ in range(2):
        found = np.concatenate(list(predict_chunks(extractor, chunks, tmp_path, method="transform")))
        np.testing.assert_array_equal(found, extractor.transform(DOCUMENTS))


def test_report(paths):
    report = EmbeddingExtractor(paths["neo-bert"], n_ctx=100).fit().model_report()
    assert (report.architecture, report.pooling, report.n_features) == ("neo-bert", "mean", WIDTH)
    assert (report.n_ctx, report.n_ctx_train) == (100, 256) and report.n_bytes == os.path.getsize(paths["neo-bert"])
    assert str(report).splitlines()[1:] == [
        f"vectors   {WIDTH} numbers, pooling mean",
        "context   100 of the 256 tokens trained for",
    ]
