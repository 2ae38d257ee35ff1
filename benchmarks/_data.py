"""Data that the benchmarks read: one schema of annotated documents."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

STACKOVERFLOW_LABELS = ["anger", "fear", "joy", "love", "sadness", "surprise"]


def read_annotations(path, labels):
    """Read ``{"text", "annotations": {annotator: [labels]}}`` lines: texts and annotator proportions ``(n, L)``."""
    texts, proportions = [], []
    with open(Path(path), encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            answers = list(row["annotations"].values())
            texts.append(row["text"])
            proportions.append([np.mean([label in answer for answer in answers]) for label in labels])
    return texts, np.array(proportions)


def balanced_split(H, *, n_test=300, n_fit=2000, seed=0):
    """Draw test documents in thirds of none, one and several labels (by majority), and others for fitting."""
    rng = np.random.default_rng(seed)
    sizes = np.minimum((H > 0.5).sum(axis=1), 2)
    test = np.concatenate([rng.permutation(np.flatnonzero(sizes == k))[: n_test // 3] for k in range(3)])
    rest = np.setdiff1d(np.arange(len(H)), test)
    return rng.permutation(test), rng.permutation(rest)[:n_fit]
