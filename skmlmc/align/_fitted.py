"""Fitted alignment: from arrays to label probabilities, learned from what annotators said.

Scaling aligners start from label probabilities, the linear probe from hidden states. Both minimise the cross-entropy
with soft targets, which is the negative log-likelihood of an annotator's answer.
"""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.validation import check_is_fitted, validate_data

from .._utils.arrays import check_proba
from .._utils.checks import check_choice, check_positive, check_positive_int
from .._utils.typing import RandomState, Threshold
from ._arithmetic import apply_isotonic, apply_scaling, fit_isotonic, fit_scaling, to_logits, to_proba
from ._base import FittedAligner
from ._zero_shot import max_over_generations

KINDS = ("platt", "temperature", "beta", "isotonic", "matrix")


class ScalingAligner(FittedAligner):
    """Align label probabilities with annotators by a function fitted on soft targets.

    The read-outs of a language model rank documents better than they state how sure annotators would be. A few hundred
    documents with annotators teach a function from the model's probabilities to theirs, by maximum likelihood. Paper
    section 5 fits the first of these to the compare-to-none baseline:

    ============= ==================================================================================================
    kind          probability of label l, with ``d = logit(p)``
    ============= ==================================================================================================
    "platt"       ``sigmoid(slope * d_l + offset)``; a negative slope turns a label round
    "temperature" ``sigmoid(d_l / T)``, ``T > 0``: keeps the order of documents and what lies above 0.5
    "beta"        ``sigmoid(a * ln p_l - b * ln(1 - p_l) + offset)``, ``a, b >= 0``: never reverses the order
    "isotonic"    any rising function of ``p_l``; wants many documents
    "matrix"      ``sigmoid(sum_k W[l, k] * d_k + offset_l)``: a logistic regression a label on *all* columns
    ============= ==================================================================================================

    Start with "platt" and try "matrix": it also learns which labels the model confuses, and takes any number of
    columns, such as several read-outs side by side.

    Parameters
    ----------
    kind : {"platt", "temperature", "beta", "isotonic", "matrix"}, default="platt"
        The function.
    shared : bool, default=False
        Fit one function for all labels instead of one a label, as the paper does. Not for "matrix"; in single-label
        tasks the offset of "platt" and "beta" then cancels out.
    C : float, default=None
        Inverse regularisation strength of "matrix", as in ``LogisticRegression``, on standardised logits. None chooses
        it by cross-validated negative log-likelihood; the other kinds do not use it.
    cv : int, splitter or iterable of splits, default=5
        How to choose `C`. An int cuts the documents, in their order, into so many parts: pass
        ``KFold(5, shuffle=True, random_state=0)`` where they are sorted.
    threshold : float, array-like of shape (L,) or mapping of label to float, default=0.5
        ``predict`` gives a label from this probability on.
    multi_label : bool, default=True
        False for single-label tasks: targets and results are distributions over the labels. Logits are then ``ln p``
        and sigmoid is softmax; "isotonic" divides by the sum.

    Attributes
    ----------
    labels_ : list of str
        Label names: those of the columns of `X`, a table or an array from a read-out, unless the columns of `y` are
        wholly others; where `X` has no names, and always for "matrix", those of `y`; else "label0", "label1", ...
    params_ : dict of str to ndarray of shape (L,)
        Parameters of "platt" ("slope", "offset"), "temperature" ("temperature") and "beta" ("a", "b", "offset").
    curves_ : list of IsotonicRegression, length L
        Functions of "isotonic".
    coef_ : ndarray of shape (L, n_features)
        ``W`` of "matrix".
    intercept_ : ndarray of shape (L,)
        Offsets of "matrix".
    C_ : float
        The `C` that "matrix" used.
    cv_results_ : dict of str to ndarray, or None
        With ``C=None``: the values of "C" that were tried, and their "nll", the mean of a held-out document.
    n_features_in_ : int
        Number of columns of `X`.
    feature_names_in_ : ndarray of shape (n_features_in_,), object
        Column names of `X`, where it has them.

    See Also
    --------
    LinearProbe : The same from hidden states instead of probabilities.
    sklearn.calibration.CalibratedClassifierCV : Calibration of hard, single-label targets.

    Notes
    -----
    Probabilities are clipped to [1e-8, 1 - 1e-8], as the metrics do. Every fit includes one undecided document (0.5 for
    every label, or 1 / L), so that labels that are never or always given, or perfectly separated, get finite
    probabilities strictly between 0 and 1. Weights are therefore documents: do not scale them to sum to 1.

    Fit on probabilities of documents that the model has not seen as demonstrations. To predict every document from a
    fit without it, hand soft targets on as metadata: ``cross_val_predict`` turns the columns of a soft `y` into ranks.

    References
    ----------
    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017 (temperature and matrix scaling); Kull et al.,
    "Beta calibration", AISTATS 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from skmlmc.calibrate import ScalingAligner
    >>> proba = np.array([[0.99, 0.90], [0.95, 0.20], [0.60, 0.80], [0.30, 0.10]])
    >>> annotators = np.array([[0.7, 0.3], [0.6, 0.0], [0.3, 0.3], [0.2, 0.0]])
    >>> ScalingAligner().fit(proba, annotators).predict_proba(proba).round(2)
    array([[0.68, 0.37],
           [0.55, 0.12],
           [0.35, 0.3 ],
           [0.26, 0.09]])

    Out-of-fold probabilities:

    >>> import sklearn
    >>> from sklearn.model_selection import cross_val_predict
    >>> with sklearn.config_context(enable_metadata_routing=True):
    ...     aligner = ScalingAligner(shared=True).set_fit_request(distribution=True)
    ...     cross_val_predict(
    ...         aligner, proba, annotators > 0.5, cv=2, method="predict_proba", params={"distribution": annotators}
    ...     ).shape
    (4, 2)
    """

    def __init__(
        self,
        kind: str = "platt",
        *,
        shared: bool = False,
        C: float | None = None,
        cv: Any = 5,
        threshold: Threshold = 0.5,
        multi_label: bool = True,
    ) -> None:
        self.kind = kind
        self.shared = shared
        self.C = C
        self.cv = cv
        self.threshold = threshold
        self.multi_label = multi_label

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the aligned label probabilities.

        Parameters
        ----------
        X : array-like of shape (n, L) or (n, R, L + 1)
            Label probabilities in [0, 1], one column a label ("matrix": any columns). Three-dimensional input is step
            distributions, of which ``max_over_generations`` is taken. Pairs have the same number of dimensions: put
            ``BradleyTerry`` before this aligner in a pipeline.

        Returns
        -------
        ndarray of shape (n, L)
            Probability of each label, strictly between 0 and 1.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If ``fit`` was not called.
        TypeError, ValueError
            If `X` is not as expected, or was made for other labels than those of ``fit``.
        """
        check_is_fitted(self)
        X = self._check_input(X, reset=False)
        if self.kind == "isotonic":
            return apply_isotonic(X, self.curves_, self.multi_label)
        if self.kind == "matrix":
            return to_proba(to_logits(X, self.multi_label) @ self.coef_.T + self.intercept_, self.multi_label)
        return to_proba(apply_scaling(X, self.params_, self.kind, self.multi_label), self.multi_label)

    def _check_input(self, X, reset):
        if len(_shape(X)) == 3:
            X = max_over_generations(X)
        shape = _shape(X)
        if not reset and len(shape) == 2 and shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {shape[1]} features, but {type(self).__name__} is expecting {self.n_features_in_} features as "
                f"input: it was fitted for other labels than these, for {self.labels_}. Use the same labels, or fit it "
                "again."
            )
        return check_proba(validate_data(self, X, reset=reset, dtype=np.float64), name="X")[0]

    def _match_labels(self, H, names, known):
        check_choice(self.kind, "kind", KINDS)
        columns = list(getattr(self, "feature_names_in_", [])) or known
        if self.kind == "matrix":
            return super()._match_labels(H, names, known)
        if H.shape[1] != self.n_features_in_:
            raise ValueError(
                f"Expected X and y to have a column a label, but got {self.n_features_in_} and {H.shape[1]} columns. "
                'Use the labels of y in the model, or kind="matrix", which takes any columns.'
            )
        if columns is None or names is None or not set(columns) & set(names):
            return super()._match_labels(H, names or columns, known)
        if set(columns) != set(names):
            raise ValueError(f"Expected X and y to have the same labels as columns, but got {columns} and {names}.")
        return H[:, [names.index(column) for column in columns]], columns

    def _fit(self, X, H, w):
        if self.kind == "matrix":
            if self.shared:
                raise ValueError('Got shared=True with kind="matrix", which is a function a label. Use shared=False.')
            scaler = self._set_logistic(to_logits(X, self.multi_label), H, w, _fit_scaler)
            self.coef_ = self.coef_ / scaler.scale_
            self.intercept_ = self.intercept_ - self.coef_ @ scaler.mean_
        elif self.kind == "isotonic":
            self.curves_ = fit_isotonic(X, H, w, self.shared, self.multi_label)
        else:
            self.params_ = fit_scaling(X, H, w, self.kind, self.shared, self.multi_label)


def _shape(X):
    return getattr(X, "shape", None) or np.asarray(X).shape


def _fit_scaler(X, w):
    return StandardScaler().fit(X, sample_weight=w)


class LinearProbe(FittedAligner):
    """Read label probabilities off hidden states: scale, truncated SVD, one logistic regression a label.

    The supervised "linear probe" of paper section 5, fitted on soft targets.

    Parameters
    ----------
    n_components : float, int or None, default=0.25
        Width after the singular value decomposition: a share of the width of `X` if a float below 1, a number if an
        int; never more than the data allow, the smaller side of `X` minus one. None leaves the decomposition out.
    C : float, default=None
        Inverse regularisation strength, as in ``LogisticRegression``, the same for all labels. None chooses it by
        cross-validated negative log-likelihood; wide hidden states want a small one, about 0.01.
    cv : int, splitter or iterable of splits, default=5
        How to choose `C`. An int cuts the documents, in their order, into so many parts: pass
        ``KFold(5, shuffle=True, random_state=0)`` where they are sorted. Scaling and decomposition are fitted anew in
        every part.
    scale : bool, default=True
        Standardise the columns of `X` first.
    threshold : float, array-like of shape (L,) or mapping of label to float, default=0.5
        ``predict`` gives a label from this probability on.
    multi_label : bool, default=True
        False for single-label tasks: one multinomial logistic regression, rows of probabilities sum to 1.
    random_state : int, RandomState instance or None, default=None
        Start of the decomposition's iterations, which are exact: it changes results by rounding errors alone.

    Attributes
    ----------
    labels_ : list of str
        Label names: columns of `y`, or "label0", "label1", ...
    features_ : Pipeline
        Scaler and decomposition.
    coef_ : ndarray of shape (L, n_components_)
        Weights of the logistic regressions.
    intercept_ : ndarray of shape (L,)
        Their intercepts.
    n_components_ : int
        Width after the decomposition.
    C_ : float
        The `C` that was used.
    cv_results_ : dict of str to ndarray, or None
        With ``C=None``: the values of "C" that were tried, and their "nll", the mean of a held-out document.
    n_features_in_ : int
        Width of `X`.
    feature_names_in_ : ndarray of shape (n_features_in_,), object
        Column names of `X`, where it has them.

    See Also
    --------
    ScalingAligner : The same from label probabilities.

    Notes
    -----
    A soft target p is exactly a document of class 1 with weight p and one of class 0 with weight 1 - p. Every fit
    includes one undecided document with average features, so that labels with a single class get finite probabilities,
    and weights are documents: do not scale them to sum to 1.

    Examples
    --------
    >>> import numpy as np
    >>> from skmlmc.calibrate import LinearProbe
    >>> rng = np.random.default_rng(0)
    >>> hidden = rng.normal(size=(100, 8))
    >>> annotators = rng.binomial(3, 1 / (1 + np.exp(-2 * hidden[:, :2]))) / 3
    >>> probe = LinearProbe(n_components=None).fit(hidden, annotators)
    >>> probe.predict_proba(hidden[:2]).shape
    (2, 2)
    """

    def __init__(
        self,
        n_components: float | None = 0.25,
        *,
        C: float | None = None,
        cv: Any = 5,
        scale: bool = True,
        threshold: Threshold = 0.5,
        multi_label: bool = True,
        random_state: RandomState | None = None,
    ) -> None:
        self.n_components = n_components
        self.C = C
        self.cv = cv
        self.scale = scale
        self.threshold = threshold
        self.multi_label = multi_label
        self.random_state = random_state

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the label probabilities.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Hidden states, or any other features.

        Returns
        -------
        ndarray of shape (n, L)
            Probability of each label, strictly between 0 and 1.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If ``fit`` was not called.
        ValueError
            If `X` is not as expected, or has another width than in ``fit``.
        """
        check_is_fitted(self)
        X = self._check_input(X, reset=False)
        return to_proba(self.features_.transform(X) @ self.coef_.T + self.intercept_, self.multi_label)

    def _check_input(self, X, reset):
        return validate_data(self, X, reset=reset, dtype=np.float64)

    def _fit(self, X, H, w):
        self._width(X)
        self.features_ = self._set_logistic(X, H, w, self._fit_features)
        self.n_components_ = self.coef_.shape[1]

    def _width(self, X):
        """Return the number of components that the parameter and the data ask for, 0 for no decomposition."""
        share = self.n_components
        if share is None:
            return 0
        if isinstance(share, numbers.Real) and not isinstance(share, numbers.Integral):
            wanted = max(1, round(check_positive(share, "n_components", upper=1) * X.shape[1]))
        else:
            wanted = check_positive_int(share, "n_components")
        return min(wanted, min(X.shape) - 1)

    def _fit_features(self, X, w):
        # Arrays inside, whatever scikit-learn is told to make outside.
        scaler = (StandardScaler() if self.scale else FunctionTransformer()).set_output(transform="default")
        scaler = scaler.fit(X, sample_weight=w) if self.scale else scaler.fit(X)
        Z = np.sqrt(w)[:, None] * scaler.transform(X)
        width = self._width(X)
        if width == 0 or not Z.any():  # nothing to decompose
            return make_pipeline(scaler).set_output(transform="default")
        svd = TruncatedSVD(width, algorithm="arpack", random_state=self.random_state)
        with np.errstate(divide="ignore", invalid="ignore"):  # its share of explained variance, where there is none
            svd.fit(Z)
        # Some versions leave a reversed view, which a pickle straightens: other strides, other last bits.
        svd.components_ = np.ascontiguousarray(svd.components_)
        return make_pipeline(scaler, svd).set_output(transform="default")
