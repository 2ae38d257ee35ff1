"""Saved estimators know the version that saved them, as scikit-learn's own do."""

from __future__ import annotations

import warnings

from sklearn.exceptions import InconsistentVersionWarning


class VersionedMixin:
    """Save the package's version with the state, and warn where another version loads it.

    Default prompts belong to the code, not to the state: another version may ask the model something else.
    """

    def __getstate__(self):
        from .._version import __version__

        return dict(super().__getstate__(), _skmlmc_version=__version__)  # type: ignore[misc]

    def __setstate__(self, state):
        from .._version import __version__

        state = dict(state)
        saved = state.pop("_skmlmc_version", "unknown")
        if saved != __version__:
            warnings.warn(
                InconsistentVersionWarning(
                    estimator_name=f"skmlmc.{type(self).__name__}",
                    current_sklearn_version=__version__,
                    original_sklearn_version=saved,
                ),
                stacklevel=2,
            )
        super().__setstate__(state)  # type: ignore[misc]
