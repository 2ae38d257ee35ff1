"""Classifiers without a language model: words, and a sentence encoder, before the package's own logistic regression."""

from __future__ import annotations

import os

import numpy as np
from sklearn.dummy import DummyRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skmlmc import EmbeddingExtractor, LinearProbe


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


def encoder(path, memory=None):
    """Sentence embeddings; of long documents the beginning, of which small encoders are trained on no more."""
    return EmbeddingExtractor(os.fspath(path), n_ctx=256, truncation="end", memory=memory)
