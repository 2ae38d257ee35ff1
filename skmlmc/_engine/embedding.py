"""A loaded embedding model: whole texts in one call of llama.cpp, and the vector that it pools of each."""

from __future__ import annotations

import numpy as np

from .buffers import BatchArrays
from .context import POOLINGS, Pooled, Settings
from .forest import Plan, Reading
from .library import C
from .memory import available_memory
from .model import Model, _damaged, _decode_error

NOTHING = np.empty(0, np.float32)


class EmbeddingModel(Model):
    """A loaded encoder, or a causal model that was trained for embeddings.

    Documents come as to `Model`, one branch each, without a prefix. llama.cpp computes all tokens of a call at once,
    for an encoder looks at what follows too, and makes a row of logits for each, which nobody reads.
    """

    def _check_kind(self):
        """Accept what `skmlmc._models.soundness` takes for an embedding model."""

    def _context_params(self, settings):
        if not isinstance(settings.tap, Pooled):
            raise TypeError(f"Expected Settings with tap=Pooled(...) for an embedding model, got {settings.tap!r}.")
        params = super()._context_params(settings._replace(tap=None))
        params.n_batch = params.n_ubatch = max(settings.n_ctx, self.n_seq)
        params.n_outputs_max = 0  # no limit
        params.embeddings, params.pooling_type = True, POOLINGS[settings.tap.pooling]
        return params

    def _cells_that_fit(self, settings: Settings):
        """Tokens for which there is memory, with their rows of logits, and square tables: of each head, and masks."""
        free, n = available_memory(), settings.n_ctx
        square = 4 * (2 + max(self._numbers("{arch}.attention.head_count"), default=0))
        line = self.cell_bytes(4 if settings.kv_dtype == "float32" else 2) + 4 * self.n_vocab
        if free is None or n * line + square * n * n <= free:
            return n
        return int((np.sqrt(line**2 + 4.0 * square * free) - line) / (2 * square))

    def _decode(self, plan: Plan) -> list[Reading]:
        n = len(plan.tokens)
        if n == 0:
            return []
        C.llama_memory_clear(self._memory, False)  # of causal models; encoders have none
        buffers = BatchArrays(C.llama_batch(), n)
        buffers.set_owners(plan.spans)
        code = self._call(buffers.fill(plan.tokens, plan.positions, 0, n, np.arange(n)))
        if code:
            raise RuntimeError(_decode_error(code, self._settings))
        self.decoded += n
        self.calls += 1
        owners = (next(seqs[0] for start, stop, seqs in plan.spans if start <= at < stop) for at, _ in plan.outputs)
        return [Reading(NOTHING, None, self._pooled(seq)) for seq in owners]

    def _pooled(self, seq):
        width = C.llama_model_n_embd_out(self._model)
        vector = np.ctypeslib.as_array(C.llama_get_embeddings_seq(self._ctx, seq), (width,)).copy()
        if not np.isfinite(vector).all():
            raise ValueError(_damaged(self.path))
        return vector
