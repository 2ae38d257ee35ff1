"""What a classifier gains by leaving documents to somebody else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .._utils.arrays import majority, str_names
from .._utils.checks import check_choice, check_threshold
from .._utils.classes import as_targets
from .._utils.typing import Names, Self, Threshold
from ..align._selective import OF_DIAGNOSES, OF_PROBABILITIES, check_criterion, thresholds_of, uncertainty_of
from ..base import diagnose
from ..metrics import document_losses, output_labels
from . import _canvas as canvas
from ._inputs import check_both, predict_labels

RISKS = {"nll": "NLL", "l1": "L1 distance", "example_f1": "1 - example-F1"}
STYLES = [("#0072B2", "-"), ("#D55E00", "--"), ("#009E73", "-."), ("#CC79A7", ":"), ("#56B4E9", "-"), ("#E69F00", "--")]


class RiskCoverage(NamedTuple):
    """Mean loss of the k documents that are answered first, for each k."""

    coverage: np.ndarray  # (n,), k / n
    risk: np.ndarray  # (n,)

    @property
    def area(self) -> float:
        """Area under the curve: mean risk over all coverages."""
        return float(self.risk.mean())


def risk_coverage(losses: np.ndarray, uncertainty: np.ndarray) -> RiskCoverage:
    """Return the mean loss of the documents that are surest, for each number of them; of ties the mean over orders."""
    order = np.argsort(uncertainty, kind="stable")
    values, ties = np.unique(uncertainty, return_inverse=True)
    means = np.bincount(ties, weights=losses) / np.bincount(ties)
    k = np.arange(1, len(losses) + 1)
    return RiskCoverage(k / len(losses), np.cumsum(means[ties[order]]) / k)


@canvas.documented_display
class RiskCoverageDisplay(canvas.Display):
    """Mean loss of the documents that are answered, by their share: what leaving out the least sure ones gains.

    Draw it to choose a criterion for `SelectiveClassifier`, or a coverage. A curve near the dashed line says no more
    than chance about which documents the classifier gets wrong; above it, those that are right are left out. The oracle
    knows every loss: no criterion can be better. Areas under the curves are in the legend, less is better.

    Parameters
    ----------
    curves : dict of str to RiskCoverage
        Name -> ``coverage``, ``risk`` and ``area``; "random" and "oracle" among them.
    risk : {"nll", "l1", "example_f1"}
        What is lost.

    {attributes}

    See Also
    --------
    skmlmc.calibrate.SelectiveClassifier : Abstains on the documents that it is least sure of.

    Examples
    --------
    >>> from skmlmc.plots import RiskCoverageDisplay
    >>> y, proba = [[1, 0], [0, 1], [1, 0]], [[0.9, 0.1], [0.1, 0.8], [0.4, 0.6]]
    >>> display = RiskCoverageDisplay.from_predictions(y, proba)
    >>> {name: round(curve.area, 2) for name, curve in display.curves.items()}
    {'entropy': 0.11, 'threshold_distance': 0.11, 'random': 0.33, 'oracle': 0.11}
    """

    def __init__(self, curves: Mapping[str, Any], *, risk: str = "example_f1") -> None:
        self.curves = curves
        self.risk = risk

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        criteria: Sequence[str] = OF_PROBABILITIES,
        risk: str = "example_f1",
        labels: Names | None = None,
        ax: Any = None,
    ) -> Self:
        """Let a fitted classifier predict documents once, and draw how well criteria find its losses.

        Parameters
        ----------
        {estimator}
        X : array-like of length n
            Documents.
        {y}
        criteria : sequence of str
            Of those of `SelectiveClassifier`.
        risk : {"nll", "l1", "example_f1"}, default="example_f1"
            See `from_predictions`.
        {labels}
        {ax_drawn}
        """
        canvas.import_matplotlib(cls.__name__)
        _check(criteria, risk)
        for criterion in criteria:
            check_criterion(criterion, estimator, "criteria")
        names = output_labels(estimator, str_names(y)) if labels is None else labels
        y = as_targets(estimator, y, "y_true")
        asked = set(criteria) & set(OF_DIAGNOSES)
        found: dict[str, Any] = diagnose(estimator, X) if asked else {"proba": predict_labels(estimator, X)}
        thresholds = thresholds_of(estimator, names or [f"label{k}" for k in range(np.shape(found["proba"])[1])])
        told = {name: uncertainty_of(name, np.asarray(found["proba"]), thresholds, found) for name in criteria}
        return cls.from_predictions(y, found["proba"], told, thresholds=thresholds, risk=risk, labels=names, ax=ax)

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_pred: Any,
        uncertainties: Mapping[str, Any] | None = None,
        *,
        thresholds: Threshold = 0.5,
        risk: str = "example_f1",
        labels: Names | None = None,
        ax: Any = None,
    ) -> Self:
        """Draw how well uncertainties find the losses of label probabilities.

        Parameters
        ----------
        {y_true}
        {y_pred}
        uncertainties : mapping of str to array-like of shape (n,), default=None
            Name -> how unsure each document is; None: entropy and distance to thresholds.
        thresholds : float, array-like of shape (L,) or mapping of label to float, default=0.5
            From where on labels are given.
        risk : {"nll", "l1", "example_f1"}, default="example_f1"
            What is lost on a document; of example-F1 what is missing to 1.
        {labels}
        {ax_drawn}
        """
        canvas.import_matplotlib(cls.__name__)
        _check((), risk)
        target, proba, names = check_both(y_true, y_pred, labels)
        at = check_threshold(thresholds, names)
        given = {name: uncertainty_of(name, proba, at) for name in OF_PROBABILITIES}
        uncertainties = given if uncertainties is None else uncertainties
        said = (proba >= at).astype(float) if risk == "example_f1" else proba
        losses = document_losses(risk, majority(target) if risk == "example_f1" else target, said)
        curves = {}
        for name, values in {**uncertainties, "random": np.zeros(len(losses)), "oracle": losses}.items():
            values = np.asarray(values, dtype=float)
            if values.shape != losses.shape or np.isnan(values).any():
                raise ValueError(
                    f"Expected uncertainties to have a number for each of the {len(losses)} documents, but {name!r} "
                    f"has shape {values.shape}{' and NaN' if np.isnan(values).any() else ''}."
                )
            curves[name] = risk_coverage(losses, values)
        return cls(curves, risk=risk).plot(ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw.

        Parameters
        ----------
        {ax}

        {itself}
        """
        (panel,) = self._open(ax, ["risk"], 1, (5.2, 4.2))
        known = {"random": (canvas.GREY, "--"), "oracle": (canvas.GREY, ":")}
        for at, (name, curve) in enumerate(self.curves.items()):
            color, line = known.get(name, STYLES[at % len(STYLES)])
            text = f"{canvas.wrap(name)} (area {curve.area:.3f})"
            panel.plot(100 * curve.coverage, curve.risk, color=color, ls=line, lw=1.6, label=text)
        panel.set_xlim(0, 100)
        panel.set_ylim(0, None)
        panel.set_xlabel("documents answered (%)")
        panel.set_ylabel(f"mean {RISKS[self.risk]} of these")
        canvas.tidy(panel, "both", "top", "right")
        if ax is None:
            canvas.finish(self.figure_, "Risk by coverage", panel, 2)
        return self


def _check(criteria, risk):
    check_choice(risk, "risk", tuple(RISKS))
    if isinstance(criteria, str):
        raise TypeError(f"Got criteria={criteria!r} but expected a list of them, such as [{criteria!r}].")
