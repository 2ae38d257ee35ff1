"""Extractor of text embeddings: vectors of encoders, and of causal models that were trained for embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from .._engine.context import POOLINGS, Pooled
from .._inference.chunks import in_pieces
from .._inference.report import EmbeddingReport, embedding_report
from .._inference.run import run
from .._inference.tasks import EmbeddingTask
from .._models.files import embedder
from .._models.identity import find_files, fitted_with
from .._utils.checks import check_choice, check_texts
from .._utils.labelled import labelled
from .._utils.typing import FilePath, Lora, Self
from ..base import fits_or_forgets
from ..prompts._chunks import Truncation
from ._base import TextMixin, documented_extractor, keep_parameters


@documented_extractor
class EmbeddingExtractor(TextMixin, TransformerMixin, BaseEstimator, auto_wrap_output_keys=("transform",)):  # type: ignore[call-arg]
    """Vector of each text from an embedding model: an encoder (BERT and its kin), or a causal one.

    Features for `LinearProbe`, or for any estimator of vectors. An encoder of 25 MB reads a text in some ten
    milliseconds, without prompt, labels or demonstrations, and was trained for what texts have in common: where some
    hundreds of documents are annotated, it is the baseline that larger models have to beat.

    Parameters
    ----------
    model : str, path-like or None, default=None
        Path of an embedding model's GGUF file, ``"hf:owner/repo/file.gguf"``, or None for the environment variable
        ``SKMLMC_MODEL``. A model that generates text is refused: `HiddenStateExtractor` reads those.
    pooling : {"mean", "cls", "last"} or None, default=None
        What becomes of the tokens' states: their mean, or the first one or the last one alone. None: what the file says
        that the model was trained with.
    normalize : bool, default=True
        Whether vectors are divided by their length, so that their products are cosines.
    batch_size : int, default=1
        Texts a call, at most: fewer where they are long. 1: a text's numbers depend on that text alone, bit for bit.
        More is hardly faster on processors, and moves a vector, on quantised models by up to two hundredths.
    truncation : {None, "end", "start", "chunk"} or Chunks, default=None
        What to cut of texts that do not fit the context; None: an error that names the first. "chunk", or a `Chunks`
        that says how: the mean of the chunks' vectors, weighted with their tokens.
    n_ctx : int, default=4096
        Tokens that a text may have. At most what the model was trained for is used, 512 for most encoders, and memory
        is taken for no more than the texts need: it grows with the square of the longest one.
    n_threads : int or None, default=None
        Threads of a process; None: ``OMP_NUM_THREADS``, else the physical cores, divided among the processes of
        `n_jobs`.
    n_jobs : int or None, default=None
        Processes that read texts, as for the other extractors.
    kv_dtype : {"float16", "float32"}, default="float16"
        Type of the attention cache of causal models; encoders have none.
    lora : str, path-like, list of them or of (path, scale), or None, default=None
        LoRA adapters in GGUF form to apply to the model, each with its scale (1 where none is given).
    memory : str, path-like, joblib.Memory or None, default=None
        Folder of the result cache: a text already read is never read again.
    verbose : int, default=0
        1: a progress bar. 2: llama.cpp's own log too.

    Attributes
    ----------
    n_features_out_ : int
        d, the length of a vector as the model's file says.
    pooling_ : str
        The pooling that is used.
    model_fingerprint_ : str
        Fingerprint of the model file's content, hexadecimal; another file is refused until the next ``fit``.
    lora_fingerprints_ : list of (str, float)
        The same for each adapter, with its scale.

    See Also
    --------
    LinearProbe : The estimator that belongs behind it.
    HiddenStateExtractor : Features from a model that generates text.

    Notes
    -----
    Texts are read as they are. Some models want words before them, such as "query: " of E5: put them there.

    Examples
    --------
    >>> import numpy as np
    >>> from skmlmc import EmbeddingExtractor
    >>> vectors = EmbeddingExtractor("all-MiniLM-L6-v2.gguf").fit_transform(["We won!!!", "it rained"])
    >>> vectors.dtype, bool(np.allclose((vectors**2).sum(axis=1), 1))
    (dtype('float32'), True)
    """

    def __init__(
        self,
        model: FilePath | None = None,
        *,
        pooling: str | None = None,
        normalize: bool = True,
        batch_size: int = 1,
        truncation: Truncation = None,
        n_ctx: int = 4096,
        n_threads: int | None = None,
        n_jobs: int | None = None,
        kv_dtype: str = "float16",
        lora: Lora | None = None,
        memory: Any = None,
        verbose: int = 0,
    ) -> None:
        keep_parameters(self, locals())

    @fits_or_forgets
    def fit(self, X: Any = None, y: Any = None) -> Self:
        """Check everything, the model's file too; no text is read.

        Parameters
        ----------
        X : sequence of str of length n, default=None
            Texts, which are checked where they are given.
        y : ignored
            Present for scikit-learn's convention.

        {returns_itself}

        Raises
        ------
        ValueError, TypeError
            A parameter is not as expected, the model is no embedding model, or its file names no pooling and `pooling`
            does not either.
        FileNotFoundError
            There is no such model file, or no model at all.
        """
        check_choice(self.pooling, "pooling", (None, *POOLINGS))
        check_choice(self.normalize, "normalize", (True, False))
        options = self._options()
        found = find_files(options.model, options.lora, embeds=True)
        if X is not None:
            check_texts(X)
        said: Any = embedder(found.path)
        pooling = self.pooling or said.pooling
        if pooling is None:
            raise ValueError(
                f"Got pooling=None, and {str(found.path)!r} names none: expected what the model was trained with, most "
                'often pooling="mean" or pooling="cls" for encoders and pooling="last" for causal models.'
            )
        self.pooling_, self.n_features_out_ = str(pooling), said.width
        self.model_fingerprint_, self.lora_fingerprints_ = found.content.model, list(found.content.lora)
        return self

    def learns_from_documents(self) -> bool:
        """Whether what becomes of a text may depend on those in ``fit``.

        Returns
        -------
        bool
            False: tools such as `SoftStackingClassifier` may transform all texts at once.
        """
        return False

    def transform(self, X: Any) -> np.ndarray:
        """Read the texts.

        {documents}

        Returns
        -------
        ndarray of shape (n, d), float32
            A vector each.

        {document_errors}
        """
        check_is_fitted(self)
        how = self._options(), fitted_with(self)
        task = self._task()
        pieces = in_pieces(task, check_texts(X), *how)
        found = run(task, pieces.texts, *how)
        vectors = pieces.pool(np.array(found), "mean")
        if self.normalize:  # one by one: no other text changes a bit
            vectors = [vector / max(float(np.linalg.norm(vector)), 1e-12) for vector in vectors]
        return labelled(np.array(vectors), "hidden", None, X)

    def model_report(self) -> EmbeddingReport:
        """Say which model this reads and how: its name and size, pooling, width and context.

        Returns
        -------
        EmbeddingReport
            Attributes ``model``, ``architecture``, ``n_bytes``, ``pooling``, ``n_features``, ``n_ctx`` and
            ``n_ctx_train``; printed, three lines. No text is read.

        Raises
        ------
        ValueError
            The model file is another one than in ``fit``.
        """
        check_is_fitted(self)
        return embedding_report(self._task(), self._options(), fitted_with(self))

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the output columns.

        {ignored_names}

        Returns
        -------
        ndarray of shape (d,), object
            "embedding0", "embedding1", ...
        """
        check_is_fitted(self)
        return np.array([f"embedding{k}" for k in range(self.n_features_out_)], dtype=object)

    def _task(self):
        return EmbeddingTask(Pooled(self.pooling_), self.n_features_out_)

    def __sklearn_is_fitted__(self):
        return hasattr(self, "n_features_out_")
