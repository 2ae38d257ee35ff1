"""Documents, targets and estimators that tests share."""

import numpy as np
from sklearn.pipeline import make_pipeline

from skmlmc import GGUFClassifier, MaxOverGenerations, StepwiseExtractor

LABELS = ["joy", "anger", "sadness"]
TEXTS = [f"{text} {i}" for i in range(5) for text in ("We won!!!", "I miss her", "it rained", "why me")]
N = len(TEXTS)
H = np.random.default_rng(0).integers(0, 6, (N, 3)) / 5  # share of five annotators
Y = (H > 0.5).astype(int)


def classifier(model, **params):
    """A classifier on one thread."""
    return GGUFClassifier(**{"model": model, "labels": LABELS, "n_threads": 1, **params})


def extractor(model, cls=StepwiseExtractor, /, **params):
    """An extractor on one thread."""
    return cls(**{"model": model, "labels": LABELS, "n_threads": 1, **params})


def label_pipeline(model, aligner=None, **params):
    """Texts to label probabilities, as a transformer and as a classifier."""
    return make_pipeline(extractor(model, **params), aligner or MaxOverGenerations())


def same(a, b):
    """Equal bit for bit, NaN included: the same documents, in the same order, go through the same products of BLAS."""
    return np.array_equal(a, b, equal_nan=True)
