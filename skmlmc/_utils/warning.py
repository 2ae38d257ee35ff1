"""Warnings that point at the user's line, however deep the call is that found a reason to warn."""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
import warnings

import joblib
import sklearn
import tqdm

# Pipelines, cross-validation, workers and progress bars may stand between the user's call and ours.
_FILES = (contextlib.__file__, pickle.__file__)
_FOLDERS = tuple(
    os.path.join(os.path.dirname(file), "")
    for file in (os.path.dirname(__file__), sklearn.__file__, joblib.__file__, tqdm.__file__)
)


def warn(message: str | Warning, category: type[Warning] = UserWarning) -> None:
    """Warn as ``warnings.warn`` does, at the innermost line outside this package and what calls it for the user."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith((*_FOLDERS, *_FILES)):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
