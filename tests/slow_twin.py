"""The slow twin: one whole prompt a decode, whole answers in tokens, nothing shared. The oracle of every fast path.

It imports nothing of the package, and spells and tokenises answers itself, so that no mistake can be in both.
"""

import json
import os
from ctypes import CDLL, c_char_p, c_int64, c_size_t, c_void_p
from pathlib import Path

import llama_cpp as C  # noqa: N812
import numpy as np
from scipy.special import logsumexp, softmax

GGML = CDLL(str(next((Path(C.__file__).parent / "lib").glob("*ggml-base.*"))))
GGML.ggml_get_name.restype, GGML.ggml_get_name.argtypes = c_char_p, [c_void_p]
GGML.ggml_backend_tensor_get.restype = None
GGML.ggml_backend_tensor_get.argtypes = [c_void_p, c_void_p, c_size_t, c_size_t]
SHAPE_AT = 16  # bytes from a ggml_tensor's start: its type, then a pointer to its buffer


class SlowTwin:
    """A model that decodes every prompt from its first token, in one call, with an empty cache.

    Logits and states are read in one mode: llama.cpp's embeddings mode computes other logits for some models.
    """

    def __init__(self, path, *, n_ctx=2048, kv="float32"):
        params = C.llama_model_default_params()
        params.use_extra_bufts = b"AMX_INT8 = 1" not in C.llama_print_system_info()
        self._model = C.llama_model_load_from_file(os.fsencode(path), params)
        self._vocab = C.llama_model_get_vocab(self._model)
        self.n_vocab = C.llama_vocab_n_tokens(self._vocab)
        context = C.llama_context_default_params()
        context.n_ctx = context.n_batch = context.n_ubatch = n_ctx
        context.n_seq_max = context.n_outputs_max = 1
        context.n_threads = context.n_threads_batch = 1
        context.flash_attn_type, context.pooling_type = 0, 0
        context.type_k = context.type_v = C.GGML_TYPE_F32 if kv == "float32" else C.GGML_TYPE_F16
        self._wanted, self._tensors, self._seen = "", {}, {}
        self._callback = context.cb_eval = C.ggml_backend_sched_eval_callback(self._on_tensor)
        self._ctx = C.llama_init_from_model(self._model, context)

    def close(self):
        C.llama_free(self._ctx)
        C.llama_model_free(self._model)

    def _on_tensor(self, tensor, ask, _):
        name = GGML.ggml_get_name(tensor).decode()
        if not self._wanted or not name.startswith(self._wanted):
            return not ask
        if not ask:
            columns, rows, layers, _ = (c_int64 * 4).from_address(tensor + SHAPE_AT)
            values = np.empty((layers, rows, columns), np.float32)
            GGML.ggml_backend_tensor_get(tensor, values.ctypes.data, 0, values.nbytes)
            self._tensors[name] = values
        return True

    def _decode(self, tokens, wanted=""):
        """Decode a prompt; returns the tensors whose names begin with `wanted`."""
        self._wanted, self._tensors = wanted, {}
        C.llama_memory_clear(C.llama_get_memory(self._ctx), True)
        array = (C.llama_token * len(tokens))(*tokens)
        assert C.llama_decode(self._ctx, C.llama_batch_get_one(array, len(tokens))) == 0
        return self._tensors

    def logits(self, tokens):
        # The same look twice is not decoded twice: a different prompt is still decoded whole.
        if tuple(tokens) not in self._seen:
            self._decode(tokens)
            row = np.ctypeslib.as_array(C.llama_get_logits_ith(self._ctx, -1), (self.n_vocab,))
            self._seen[tuple(tokens)] = row.astype(float)
        return self._seen[tuple(tokens)]

    def hidden(self, tokens):
        """Hidden state of the last token, normalised."""
        return self._decode(tokens, "result_norm")["result_norm"][0, -1]

    def states(self, tokens, block):
        """Hidden state of every token after an inner block."""
        return self._decode(tokens, f"l_out-{block}")[f"l_out-{block}"][0]

    def attention(self, tokens, block=None):
        """Weights (tokens, cells), averaged over heads, and over all blocks where none is named."""
        found = self._decode(tokens, "kq_soft_max-")
        blocks = found.values() if block is None else [found[f"kq_soft_max-{block}"]]
        return np.mean([weights.mean(axis=0)[:, : len(tokens)] for weights in blocks], axis=0)

    def tokenize(self, text, special=False):
        raw = text.encode()
        buffer = (C.llama_token * (len(raw) + 8))()
        return buffer[: C.llama_tokenize(self._vocab, raw, len(raw), buffer, len(buffer), False, special)]

    def speller(self, answer_format, after, lead=""):
        """``spell(words)``: tokens of a whole answer with what the prompt has `after` it, as one text."""
        return lambda words: self.tokenize(lead + spelled(answer_format, words) + after, special=True)


def spelled(answer_format, words):
    return json.dumps({"label": list(words)}, ensure_ascii=False) if answer_format == "json" else ", ".join(words)


def common(sequences):
    return len(os.path.commonprefix(sequences))


def other_spellings(word):
    cases = {word, word.lower(), word[:1].upper() + word[1:]}
    return (cases | {" " + case for case in cases}) - {word}


def slow_row(logits, prompt, spell, words, said=()):
    """Label probabilities after the labels `said`, from whole answers: no trie, no slots.

    `logits(tokens)` looks at a whole prompt, `spell(words)` gives the tokens of a whole answer. Returns the
    probabilities, the tokens behind which the first of them is read, and the mass of all labels there.
    """
    before = [words[k] for k in said]
    answers = []
    for k, word in enumerate(words):
        answers.append((k, spell([*before, word])))
        answers += [(k, spell([*before, word, other])) for other in words if other != word]
    at = common([tokens for _, tokens in answers])
    context = [*prompt, *answers[0][1][:at]]
    scores = np.zeros(len(words))

    def walk(members, depth):
        if len({k for k, _ in members}) == 1:
            return
        groups = {}
        for k, tokens in members:
            groups.setdefault(tokens[depth], []).append((k, tokens))
        # Ways that belong to one label alone are one choice: that label, another one to follow or not.
        row = logits([*context, *members[0][1][at:depth]])
        norm = logsumexp([row[token] for token in groups]) if depth > at else 0.0
        total = {}
        for token, group in groups.items():
            for k in {k for k, _ in group}:
                total.setdefault(k, []).append(row[token] - norm)
        for k, values in total.items():
            scores[k] += logsumexp(values)
        for group in groups.values():
            walk(group, depth + 1)

    walk(answers, at)
    first = {tokens[at] for _, tokens in answers}
    starts = []
    for word in words:
        canonical = spell([*before, word])
        others = [spell([*before, other]) for other in other_spellings(word)]
        starts.append({t[at] for t in others if t[:at] == canonical[:at] and at < len(t) <= len(canonical)} - first)
    row, mass = logits(context), set(first)
    for k, own in enumerate(starts):
        for token in own:
            if sum(token in start for start in starts) == 1:
                scores[k] = max(scores[k], row[token])
                mass.add(token)
    return softmax(scores), context, float(np.exp(logsumexp(row[sorted(mass)]) - logsumexp(row)))


def slow_choice(logits, prompt, spell, words, said):
    """Logits of another label coming after the labels `said`, and of the answer's end."""
    alone = spell([words[k] for k in said])
    followed = spell([*(words[k] for k in said), words[-1]])
    cut = common([alone, followed])
    row = logits([*prompt, *alone[:cut]])
    return row[followed[cut]], row[alone[cut]]


def slow_steps(logits, prompt, spell, words, max_labels):
    """Greedy answer: step distributions, the tokens behind which the first is read, and the label mass there."""
    said, rows, first = [], [], None
    while True:
        row, *seen = slow_row(logits, prompt, spell, words, said)
        first = first or seen
        rows.append(row)
        said.append(max((k for k in range(len(words)) if k not in said), key=lambda k: row[k]))
        if said[-1] == len(words) - 1 or len(said) == max_labels:
            break
        another, end = slow_choice(logits, prompt, spell, words, said)
        if another <= end:
            break
    return np.array(rows), *first
