"""Types that public signatures share; array-likes of numbers or documents are ``Any``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from sklearn.base import BaseEstimator

if TYPE_CHECKING:  # typing has it from Python 3.11 on
    from typing_extensions import Self as Self
else:
    Self = Any

FilePath: TypeAlias = str | os.PathLike[str]
Names: TypeAlias = Sequence[str] | np.ndarray
Labels: TypeAlias = Names | Mapping[str, str]
Demonstrations: TypeAlias = str | Sequence[tuple[str, Sequence[str]]] | BaseEstimator
Lora: TypeAlias = FilePath | Sequence[FilePath | tuple[FilePath, float]]
Layers: TypeAlias = float | Sequence[float | None] | np.ndarray
Threshold: TypeAlias = float | Sequence[float] | np.ndarray | Mapping[str, float]
RandomState: TypeAlias = int | np.random.RandomState
