"""Warnings that point at the user's line, however deep the call is that found a reason to warn."""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
import warnings

_FILES = (contextlib.__file__, pickle.__file__)
# Pipelines, cross-validation, workers and progress bars may stand between the user's call and ours.
_PACKAGES = ("sklearn", "joblib", "tqdm")


def _between():
    """Beginnings of file names: this package, and what may call it for the user, as far as it is loaded."""
    loaded = [file for name in _PACKAGES if (file := getattr(sys.modules.get(name), "__file__", None))]
    folders = [os.path.dirname(file) for file in (os.path.dirname(__file__), *loaded)]
    return (*_FILES, *(os.path.join(folder, "") for folder in folders))


def warn(message: str | Warning, category: type[Warning] = UserWarning) -> None:
    """Warn as ``warnings.warn`` does, at the innermost line outside this package and what calls it for the user."""
    level, frame, between = 1, sys._getframe(), _between()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(between):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
