"""Fitted alignment: from arrays to label probabilities, learned from what annotators said.

Scaling aligners start from label probabilities, the linear probe from hidden states. Both minimise the cross-entropy
with soft targets, which is the negative log-likelihood of an annotator's answer.
"""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.decomposition import TruncatedSVD
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted
from threadpoolctl import threadpool_limits

from .._utils.arrays import (
    check_kind,
    check_proba,
    check_sample_weight,
    check_targets,
    default_names,
    labels_of_columns,
    lay_out,
    name_targets,
    str_names,
)
from .._utils.checks import check_choice, check_positive, check_positive_int, check_seed, check_threshold
from .._utils.docs import documented
from .._utils.typing import RandomState, Self, Threshold
from ..base import AlignerMixin, documented_aligner, fits_or_forgets
from ._arithmetic import (
    PARAMETERS,
    apply_isotonic,
    apply_scaling,
    fit_isotonic,
    fit_logistic,
    fit_scaling,
    to_logits,
    to_proba,
)
from ._columns import learn_classes, learn_columns, match_columns
from ._functions import max_over_generations

KINDS = ("platt", "temperature", "beta", "isotonic", "matrix")

documented_fit = documented(
    cv="""cv : int, splitter or iterable of splits, default=5
        How to choose `C`. An int cuts the documents, in their order, into so many parts: pass
        ``KFold(5, shuffle=True, random_state=0)`` where they are sorted.""",
    input_attributes="""cv_results_ : dict of str to ndarray, or None
        With ``C=None``: the values of "C" that were tried, and their "nll", the mean of a held-out document.
    n_features_in_ : int
        Number of columns of `X`.
    feature_names_in_ : ndarray of shape (`n_features_in_`,), object
        Column names of `X`, where it is a table. Later ones are matched with them, in any order.""",
    returns="""Returns
    -------
    ndarray of shape (n, L)
        Probability of each label, strictly between 0 and 1.""",
)


def check_fit_targets(
    y: Any, distribution: Any, n_samples: int, multi_label: bool, known: list[str] | None = None
) -> tuple[np.ndarray, list[str] | None]:
    """Return the soft targets and the label names, None where neither `distribution` nor `y` names them.

    `known` are names of which columns of several levels may have one.
    """
    name = "y" if distribution is None else "distribution"
    H, names = check_targets(name_targets(y, distribution, known), n_samples=n_samples, name=name, known=known)
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


@documented_aligner
class FittedAligner(AlignerMixin, BaseEstimator):
    """The part that fitted aligners share: targets, weights and label names; a subclass fits ``_fit(X, H, w)``."""

    __metadata_request__fit = {"distribution": True}  # unless refused, as splitters request groups

    @fits_or_forgets
    def fit(self, X: Any, y: Any, sample_weight: Any = None, distribution: Any = None, *, groups: Any = None) -> Self:
        """Fit to annotator proportions.

        {parameters}
        y : array-like of shape (n, L) or (n,)
            Indicators or soft targets in [0, 1]: the share of the annotators who chose each label. With
            ``multi_label=False`` every row sums to 1, or `y` is the class of each document, and ``predict`` gives
            classes. The column names of a DataFrame name the labels.
        sample_weight : array-like of shape (n,), default=None
            Weights, in documents: a weight of 2 counts as the document twice, and the number of annotators as one
            document an annotator.
        distribution : array-like of shape (n, L), default=None
            Soft targets that take the place of the numbers in `y`, for tools that only pass indicators on as `y`.
            scikit-learn's metadata routing hands it through; ``set_fit_request(distribution=False)`` refuses it.
        groups : array-like of shape (n,), default=None
            For a `cv` such as ``GroupKFold``, where there is one: documents of one group are held out together.

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
        self._check_parameters()
        targets = distribution if str_names(distribution) else y
        X, known = learn_columns(self, X, targets, self._takes_labels())
        y, X, known = learn_classes(self, y, X, known, self._takes_labels())
        X = self._check_input(X)
        self.n_features_in_ = X.shape[1]
        H, names = check_fit_targets(y, distribution, len(X), self.multi_label, known)
        H, labels = self._match_labels(H, names, known)
        self.labels_ = np.array(labels, dtype=object)
        check_threshold(self.threshold, self.labels_)
        w = check_sample_weight(sample_weight, len(X))
        used = w > 0
        if groups is not None:
            check_consistent_length(X, groups)
        # The products are too small to share: waiting for a second thread costs far more than it saves.
        with threadpool_limits(limits=1, user_api="blas"):
            self._fit(X[used], H[used], w[used], None if groups is None else np.asarray(groups)[used])
        return self

    def _check_parameters(self):
        """Check what only a subclass has."""

    def _match_labels(self, H, names, known):
        """Return targets and label names in the order of the columns of X, where these are labels that it knows."""
        return H, names or default_names(H.shape[1])

    def _takes_labels(self):
        """Return whether the columns of X are the labels."""
        return False

    def _check_width(self, X):
        if X.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {X.shape[1]} features, but {type(self).__name__} is expecting {self.n_features_in_} features "
                f"as input: it was fitted for other columns than these, for the labels {self.labels_}. Use the same "
                "ones, or fit it again."
            )
        return X

    def _set_logistic(self, X, H, w, fit_features, groups):
        """Fit logistic regressions on features and keep what is public of them; return the features."""
        C = self.C if self.C is None else check_positive(self.C, "C")
        found = fit_logistic(X, H, w, fit_features, C, self.cv, self.multi_label, groups)
        features, coef, self.intercept_, self.C_, self.cv_results_ = found
        self.coef_ = coef.T
        return features


@documented_fit
@documented_aligner
class ScalingAligner(FittedAligner):
    """Align label probabilities with annotators by a function fitted on soft targets.

    The read-outs of a language model rank documents better than they state how sure annotators would be. A few hundred
    documents with annotators teach a function from the model's probabilities to theirs, by maximum likelihood. The
    first of these is what {section5}, fits to the compare-to-none baseline:

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
    columns, such as several read-outs side by side. With few documents a label, "isotonic" and "matrix" fit the noise;
    ``shared=True`` needs the fewest.

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
    {cv}
    {threshold}
    multi_label : bool, default=True
        False for single-label tasks: targets and results are distributions over the labels. Logits are then ``ln p``
        and sigmoid is softmax; "isotonic" divides by the sum.

    Attributes
    ----------
    labels_ : ndarray of shape (L,), object
        Label names: those of the columns of `X`, a table or an array from a read-out, which are those of `y` in any
        order, perhaps with a prefix of `ColumnTransformer`; where `X` has no names, and always for "matrix", those of
        `y`; else "label0", "label1", ...
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
    {input_attributes}

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
    Platt, "Probabilistic Outputs for Support Vector Machines and Comparisons to Regularized Likelihood Methods", in
    Advances in Large Margin Classifiers, 1999; Guo et al., "On Calibration of Modern Neural Networks", ICML 2017
    (temperature and matrix scaling); Kull et al., "Beta calibration: a well-founded and easily implemented improvement
    on logistic calibration for binary classifiers", AISTATS 2017; Zadrozny and Elkan, "Transforming Classifier Scores
    into Accurate Multiclass Probability Estimates", KDD 2002 (isotonic).

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
            distributions, of which ``max_over_generations`` is taken. For pairs put ``BradleyTerry`` before this
            aligner in a pipeline.

        {returns}

        {not_fitted}
        """
        check_is_fitted(self)
        X = self._check_input(match_columns(self, X, None if hasattr(self, "coef_") else self.labels_))
        X = self._check_width(X)
        # What was fitted, whatever `kind` has been set to since.
        if hasattr(self, "curves_"):
            return apply_isotonic(X, self.curves_, self.multi_label)
        if hasattr(self, "coef_"):
            return to_proba(to_logits(X, self.multi_label) @ self.coef_.T + self.intercept_, self.multi_label)
        kind = next(name for name, params in PARAMETERS.items() if set(params) == set(self.params_))
        return to_proba(apply_scaling(X, self.params_, kind, self.multi_label), self.multi_label)

    def _check_input(self, X):
        # An ordinary array does not know what it holds.
        if check_kind(X, "unary", "steps") == "steps" or np.ndim(X) == 3:
            X = max_over_generations(X)
        return check_proba(check_array(X, dtype=np.float64, input_name="X", estimator=self), name="X")[0]

    def _takes_labels(self):
        return self.kind != "matrix"

    def _check_parameters(self):
        check_choice(self.kind, "kind", KINDS)
        check_choice(self.shared, "shared", (True, False))

    def _match_labels(self, H, names, known):
        if self.kind == "matrix":
            return super()._match_labels(H, names, known)
        if H.shape[1] != self.n_features_in_:
            raise ValueError(
                f"Expected X and y to have a column a label, but got {self.n_features_in_} and {H.shape[1]} columns. "
                'Use the labels of y in the model, or kind="matrix", which takes any columns.'
            )
        if known is None or names is None:
            return super()._match_labels(H, names or known, known)
        labels = labels_of_columns(known, names)
        return lay_out(H[:, [names.index(label) for label in labels]]), labels

    def _fit(self, X, H, w, groups):
        for name in ("params_", "curves_", "coef_", "intercept_", "C_", "cv_results_"):  # of another kind, perhaps
            self.__dict__.pop(name, None)
        if self.kind == "matrix":
            if self.shared:
                raise ValueError('Got shared=True with kind="matrix", which is a function a label. Use shared=False.')
            logits = to_logits(X, self.multi_label)
            scaler = self._set_logistic(logits, H, w, lambda X, w: StandardScaler().fit(X, sample_weight=w), groups)
            self.coef_ = self.coef_ / scaler.scale_
            self.intercept_ = self.intercept_ - self.coef_ @ scaler.mean_
        elif self.kind == "isotonic":
            self.curves_ = fit_isotonic(X, H, w, self.shared, self.multi_label)
        else:
            self.params_ = fit_scaling(X, H, w, self.kind, self.shared, self.multi_label)


@documented_fit
@documented_aligner
class LinearProbe(FittedAligner):
    """Read label probabilities off hidden states: scale, truncated SVD, one logistic regression a label.

    For where some hundreds of documents have annotators: it learns from all that the model holds of a text, not only
    from its answer, and needs no step behind the first. It holds for one model, layer and prompt, and documents of
    another kind than those of ``fit`` may be far off: compare it with a `ScalingAligner` on held-out documents.
    The supervised "linear probe" of {section5}, fitted on soft targets; Alain and Bengio,
    "Understanding intermediate layers using linear classifier probes", ICLR workshop 2017.

    Parameters
    ----------
    n_components : float, int or None, default=0.25
        Width after the singular value decomposition: a share of the width of `X` if a float below 1, a number if an
        int; never more than the data allow, the smaller side of `X` minus one. None leaves the decomposition out.
    C : float, default=None
        Inverse regularisation strength, as in ``LogisticRegression``, the same for all labels. None chooses it by
        cross-validated negative log-likelihood; wide hidden states want a small one, about 0.01.
    {cv}
        Scaling and decomposition are fitted anew in every part.
    scale : bool, default=True
        Standardise the columns of `X` first.
    {threshold}
    multi_label : bool, default=True
        False for single-label tasks: one multinomial logistic regression, rows of probabilities sum to 1.
    random_state : int, RandomState instance or None, default=None
        Start of the decomposition's iterations, which are exact: it changes results by rounding errors alone.

    Attributes
    ----------
    labels_ : ndarray of shape (L,), object
        Label names: columns of `y`, or "label0", "label1", ...
    features_ : Pipeline
        Scaler and decomposition.
    coef_ : ndarray of shape (L, `n_components_`)
        Weights of the logistic regressions.
    intercept_ : ndarray of shape (L,)
        Their intercepts.
    n_components_ : int
        Width after the decomposition.
    C_ : float
        The `C` that was used.
    {input_attributes}

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

        {returns}

        {not_fitted}
        """
        check_is_fitted(self)
        X = self._check_width(self._check_input(match_columns(self, X, None)))
        return to_proba(self.features_.transform(X) @ self.coef_.T + self.intercept_, self.multi_label)

    def _check_input(self, X):
        check_kind(X, "hidden", "unary")
        return lay_out(check_array(X, dtype=np.float64, input_name="X", estimator=self))

    def _check_parameters(self):
        check_choice(self.scale, "scale", (True, False))
        check_seed(self.random_state)

    def _fit(self, X, H, w, groups):
        self._width(X)
        self.features_ = self._set_logistic(X, H, w, self._fit_features, groups)
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
        # Some versions leave a reversed view, which a pickle would lay out anew.
        svd.components_ = lay_out(svd.components_)
        return make_pipeline(scaler, svd).set_output(transform="default")
