"""What aligners fitted on soft targets share: targets, weights, label names, and the choice of C."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from threadpoolctl import threadpool_limits

from .._utils.arrays import check_label_names, check_sample_weight, check_targets, default_names
from .._utils.checks import check_positive, check_threshold
from .._utils.labelled import labels_of
from .._utils.typing import Self
from ..base import AlignerMixin
from ._arithmetic import fit_logistic


def check_fit_targets(
    y: Any, distribution: Any, n_samples: int, multi_label: bool
) -> tuple[np.ndarray, list[str] | None]:
    """Return the soft targets and the label names, None where neither `distribution` nor `y` names them."""
    name = "y" if distribution is None else "distribution"
    H, names = check_targets(y if distribution is None else distribution, n_samples=n_samples, name=name)
    if distribution is not None and names is None and hasattr(y, "columns"):
        names = check_label_names(y, H.shape[1], n_samples)
    if multi_label:
        return H, names
    total = H.sum(axis=1, keepdims=True)
    wrong = np.flatnonzero(abs(total[:, 0] - 1) > 1e-6)
    if H.shape[1] < 2 or len(wrong):
        got = f"row {wrong[0]} sums to {total[wrong[0], 0]:g}" if len(wrong) else "there is one column"
        raise ValueError(
            f"With multi_label=False expected {name} to have two columns or more, and rows that sum to 1, but {got}. "
            "Divide by the number of annotators, give 'none of them' a column of its own, or use multi_label=True."
        )
    return H / total, names


class FittedAligner(AlignerMixin, BaseEstimator):
    """The part that fitted aligners share: targets, weights and label names; a subclass fits ``_fit(X, H, w)``."""

    __metadata_request__fit = {"distribution": True}  # unless refused, as splitters request groups

    def fit(self, X: Any, y: Any, sample_weight: Any = None, distribution: Any = None) -> Self:
        """Fit to annotator proportions.

        Parameters
        ----------
        X : array-like
            What ``predict_proba`` takes.
        y : array-like of shape (n, L)
            Indicators or soft targets in [0, 1]: the share of the annotators who chose each label. With
            ``multi_label=False`` every row sums to 1. The column names of a DataFrame name the labels.
        sample_weight : array-like of shape (n,), default=None
            Weights, in documents: a weight of 2 counts as the document twice, and the number of annotators as one
            document an annotator.
        distribution : array-like of shape (n, L), default=None
            Soft targets that take the place of the numbers in `y`, for tools that only pass indicators on as `y`.
            scikit-learn's metadata routing hands it through; ``set_fit_request(distribution=False)`` refuses it.

        Returns
        -------
        self : object
            The fitted aligner.

        Raises
        ------
        TypeError, ValueError
            If an input or a parameter is not as expected.
        """
        if y is None and distribution is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None. Give indicators or soft "
                "targets of shape (n, L)."
            )
        known = labels_of(X)
        X = self._check_input(X, reset=True)
        H, names = check_fit_targets(y, distribution, len(X), self.multi_label)
        H, self.labels_ = self._match_labels(H, names, known)
        check_threshold(self.threshold, self.labels_)
        w = check_sample_weight(sample_weight, len(X))
        used = w > 0
        # The products are too small to share: waiting for a second thread costs far more than it saves.
        with threadpool_limits(limits=1, user_api="blas"):
            self._fit(X[used], H[used], w[used])
        return self

    def _match_labels(self, H, names, known):
        """Return targets and label names in the order of the columns of X, where these are labels that it knows."""
        return H, names or default_names(H.shape[1])

    def _set_logistic(self, X, H, w, fit_features):
        """Fit logistic regressions on features and keep what is public of them; return the features."""
        C = self.C if self.C is None else check_positive(self.C, "C")
        found = fit_logistic(X, H, w, fit_features, C, self.cv, self.multi_label)
        self.coef_, self.intercept_ = found.coef.T, found.intercept
        self.C_, self.cv_results_ = found.C, found.cv_results
        return found.features
