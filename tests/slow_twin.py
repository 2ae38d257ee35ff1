"""The slow twin: one whole prompt a decode, nothing shared. The oracle of every fast path."""

import os

import llama_cpp as C  # noqa: N812
import numpy as np
from scipy.special import logsumexp

from skmlmc._engine.model import _ggml
from skmlmc._engine.tap import HiddenTap


class SlowTwin:
    """A model that decodes every prompt from its first token, in one call, with an empty cache."""

    def __init__(self, path, *, n_ctx=2048, kv="float32", block=None):
        params = C.llama_model_default_params()
        params.use_extra_bufts = b"AMX_INT8 = 1" not in C.llama_print_system_info()
        self._model = C.llama_model_load_from_file(os.fsencode(path), params)
        self._vocab = C.llama_model_get_vocab(self._model)
        self.n_vocab, self.n_embd = C.llama_vocab_n_tokens(self._vocab), C.llama_model_n_embd(self._model)
        context = C.llama_context_default_params()
        context.n_ctx = context.n_batch = n_ctx
        context.n_ubatch, context.n_seq_max = 512 if block is None else n_ctx, 1
        context.n_threads = context.n_threads_batch = 2
        context.flash_attn_type, context.embeddings, context.pooling_type = 0, True, 0
        context.type_k = context.type_v = C.GGML_TYPE_F32 if kv == "float32" else C.GGML_TYPE_F16
        self._tap = None
        if block is not None:
            self._tap = HiddenTap(_ggml(), C.ggml_backend_sched_eval_callback, self.n_embd, block)
            context.cb_eval = self._tap.callback
        self._ctx = C.llama_init_from_model(self._model, context)
        self._seen = {}

    def close(self):
        C.llama_free(self._ctx)
        C.llama_model_free(self._model)

    def _decode(self, tokens):
        C.llama_memory_clear(C.llama_get_memory(self._ctx), True)
        array = (C.llama_token * len(tokens))(*tokens)
        assert C.llama_decode(self._ctx, C.llama_batch_get_one(array, len(tokens))) == 0

    def logits(self, tokens):
        # The same look twice is not decoded twice: a different prompt is still decoded whole.
        if tuple(tokens) not in self._seen:
            self._decode(tokens)
            row = np.ctypeslib.as_array(C.llama_get_logits_ith(self._ctx, -1), (self.n_vocab,))
            self._seen[tuple(tokens)] = row.astype(float)
        return self._seen[tuple(tokens)]

    def states(self, tokens):
        """Return the hidden state of every token after the block."""
        self._decode(tokens)
        return self._tap.take(len(tokens))

    def hidden(self, tokens):
        self._decode(tokens)
        return np.ctypeslib.as_array(C.llama_get_embeddings_ith(self._ctx, -1), (self.n_embd,)).copy()


def slow_distribution(logits_after, context, spellings, ends, other_first):
    """Label probabilities by walking down the spellings: `logits_after(tokens)` at every branching, no trie.

    spellings: tokens of each label; ends: the two tokens that may follow each; other_first: first tokens of other
    spellings, which count where they belong to no other label.
    """
    scores = np.zeros(len(spellings))

    def walk(members, done):
        groups = {}
        for k in members:
            at_end = len(spellings[k]) == len(done)
            groups.setdefault("end" if at_end else spellings[k][len(done)], []).append(k)
        if len(groups) > 1 or not done:
            row = logits_after([*context, *done])
            value = {
                token: logsumexp(row[sorted(set(ends[ks[0]]))]) if token == "end" else row[token]
                for token, ks in groups.items()
            }
            norm = logsumexp(list(value.values())) if done else 0.0
            for token, ks in groups.items():
                scores[ks] += value[token] - norm
        for token, ks in groups.items():
            if token != "end":
                walk(ks, [*done, token])

    walk(list(range(len(spellings))), [])
    row = logits_after(list(context))
    for k, tokens in enumerate(other_first):
        for token in tokens:
            scores[k] = max(scores[k], row[token])
    return np.exp(scores - logsumexp(scores))


def slow_steps(logits_after, prompt, answers, max_labels):
    """Step distributions of one document: the whole prompt and answer so far, again for every look."""
    context, said, rows, mass = [*prompt, *answers.slot().lead], [], [], None
    trie = answers.slot().trie
    while True:
        rows.append(slow_distribution(logits_after, context, trie.paths, trie.ends, trie.variants))
        if mass is None:
            row = logits_after(context)
            first = {p[0] for p in trie.paths if p} | {t for v in trie.variants for t in v}
            mass = float(np.exp(logsumexp(row[sorted(first)]) - logsumexp(row)))
        best = max((k for k in range(len(answers.words)) if k not in said), key=lambda k: rows[-1][k])
        said.append(best)
        if best == len(answers.words) - 1 or len(said) == max_labels:
            break
        context = [*context, *trie.paths[best]]
        another, end = trie.ends[best]
        row = logits_after(context)
        if row[another] <= row[end]:
            break
        context += answers.slot(best).lead
        trie = answers.slot(best).trie
    return np.array(rows), mass
