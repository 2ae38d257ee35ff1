"""Table of the attention that later labels of an answer pay to the input and to earlier labels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from .._inference.attention import TARGETS, AttentionTask
from .._inference.run import run
from .._models.identity import fitted_with
from .._utils.checks import check_texts
from ..extract._steps import HiddenStateExtractor, StepwiseExtractor, check_layer
from ._tables import documented_table, make_table, mean_of


@documented_table
def attention_to_labels(
    extractor: StepwiseExtractor, X: Any, *, layer: Any = None, by_label: bool = True, as_frame: bool = False
) -> Any:
    """Measure the attention from the later labels of each answer to the input and to its earlier labels.

    An earlier label's token gets an order of magnitude more than an average token of the input: later labels depend
    on how the answer began. Compare ``per_token``, since the targets differ in length. {paper}, Table 6.

    Parameters
    ----------
    extractor : StepwiseExtractor
        Fitted. The answers are those of its ``transform``.
    X : sequence of str of length n
        Documents.
    layer : int, float or None, default=None
        Which attention: None averages over all blocks; else one block, by number or, a float in (0, 1), by part of the
        depth. Heads are averaged.
    by_label : bool, default=True
        A row a later label and target; False: a row a target, averaged over later labels, as in the paper's table.
    {table}
        With ``by_label``: ``document`` (row in `X`), ``step`` (of the label that looks; 2 is the first later one),
        ``label`` (its name), ``target``, ``tokens`` (of the target), ``attention`` (to all of them; the four targets
        sum to 1) and ``per_token`` (``attention / tokens``, NaN without tokens). Otherwise ``target``, ``labels`` (how
        many later labels see tokens of it), and their means of the last three. Targets are "prompt" (instruction and
        demonstrations), "input" (the document's own tokens), "earlier labels" (without quotes and separators) and
        "other" (everything else, the label itself included).

    Raises
    ------
    TypeError
        If `extractor` is no StepwiseExtractor.
    ValueError
        If a document does not fit the context, or there is no such layer.
    RuntimeError
        If llama.cpp shows no attention weights of this model, such as a recurrent one.

    Notes
    -----
    Attention of a label is the mean over its tokens. Weights are read through llama.cpp's evaluation callback without
    flash attention, one document at a time. The very first token of a prompt takes much of the attention of most
    models, whatever it is; it counts for "prompt".

    Examples
    --------
    >>> from skmlmc import StepwiseExtractor
    >>> from skmlmc.analysis import attention_to_labels
    >>> extractor = StepwiseExtractor(labels=["anger", "joy", "sadness"]).fit()
    >>> table = attention_to_labels(extractor, ["We won!!!"], by_label=False)
    >>> table["target"]
    ['prompt', 'input', 'earlier labels', 'other']
    """
    if not isinstance(extractor, (StepwiseExtractor, HiddenStateExtractor)):
        raise TypeError(f"Got extractor={extractor!r:.60} but expected a fitted StepwiseExtractor.")
    check_layer(layer)
    if getattr(extractor, "retriever_", None) is not None:
        raise ValueError(
            "Got an extractor whose demonstrations are nearest to each document, which would count as tokens of the "
            'document: expected demonstrations that are the same for all, such as "multilabel".'
        )
    texts = check_texts(X)
    # Cells stand in the order of one document's tokens only where documents do not mix.
    alone = replace(extractor._options(), batch_size=1)
    results = run(AttentionTask(extractor._task(), layer), texts, alone, fitted_with(extractor))
    if by_label:
        names = ("document", "step", "label", "target", "tokens", "attention", "per_token")
        return make_table(names, _label_rows(results, extractor.labels_), as_frame)
    return make_table(("target", "labels", "tokens", "attention", "per_token"), _target_rows(results), as_frame)


def _label_rows(results, names):
    return [
        (i, step, names[label], target, int(n), float(weight), float(weight / n) if n else float("nan"))
        for i, result in enumerate(results)
        for step, (label, tokens, weights) in enumerate(zip(*result, strict=True), 2)
        for target, n, weight in zip(TARGETS, tokens, weights, strict=True)
    ]


def _target_rows(results):
    tokens, weights = (np.concatenate([getattr(r, name) for r in results]) for name in ("tokens", "weights"))
    rows = []
    for target, n, weight in zip(TARGETS, tokens.T, weights.T, strict=True):
        n, weight = n[n > 0], weight[n > 0]
        rows.append((target, len(n), mean_of(n), mean_of(weight), mean_of(weight / n)))
    return rows
