"""The slow twin: one whole prompt a decode, whole answers in tokens, nothing shared. The oracle of every fast path.

It imports nothing of the package, and spells and tokenises answers itself, so that no mistake can be in both.
"""

import json
import os
from ctypes import CDLL, c_char_p, c_int64, c_size_t, c_void_p, create_string_buffer
from functools import cached_property, lru_cache
from pathlib import Path

import llama_cpp as C  # noqa: N812
import numpy as np
from scipy.special import log_softmax, logsumexp, softmax

GGML = CDLL(str(next((Path(C.__file__).parent / "lib").glob("*ggml-base.*"))))
GGML.ggml_get_name.restype, GGML.ggml_get_name.argtypes = c_char_p, [c_void_p]
GGML.ggml_backend_tensor_get.restype = None
GGML.ggml_backend_tensor_get.argtypes = [c_void_p, c_void_p, c_size_t, c_size_t]
SHAPE_AT = 16  # bytes from a ggml_tensor's start: its type, then a pointer to its buffer


def whole_tokens(vocab, text):
    """Tokens of a whole prompt, in which control tokens count, with the begin token where the model adds it."""
    raw = text.encode()
    buffer = (C.llama_token * (len(raw) + 64))()
    tokens = buffer[: C.llama_tokenize(vocab, raw, len(raw), buffer, len(buffer), True, True)]
    bos = C.llama_vocab_bos(vocab)
    if tokens[:2] == [bos, bos]:  # the template has written it too
        tokens = tokens[1:]
    if C.llama_vocab_get_add_eos(vocab) and tokens[-1] == C.llama_vocab_eos(vocab):
        tokens = tokens[:-1]
    return tokens


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

    def forget(self):
        """Forget the logits seen: two megabytes a prompt where the vocabulary is large."""
        self._seen.clear()

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

    def piece(self, token):
        """Bytes of a token; None for control tokens."""
        buffer = create_string_buffer(256)
        n = C.llama_token_to_piece(self._vocab, token, buffer, 256, 0, False)
        return buffer.raw[:n] if n > 0 else None

    @cached_property
    def texts(self):
        return Texts({token: self.piece(token) for token in range(self.n_vocab)})

    def special_texts(self):
        """Texts of the begin and end tokens, which chat templates refer to."""
        tokens = {"bos_token": C.llama_vocab_bos(self._vocab), "eos_token": C.llama_vocab_eos(self._vocab)}
        return {name: C.llama_vocab_get_text(self._vocab, token).decode() for name, token in tokens.items()}

    def speller(self, answer_format, after, lead=""):
        """``spell(words)``: tokens of a whole answer with what the prompt has `after` it, as one text."""
        whole = lambda text: self.tokenize(lead + text + after, special=True)  # noqa: E731
        return Speller(whole, self.tokenize, self.texts, answer_format, after.partition("<|")[0])

    def whole(self, text):
        """Tokens of a whole prompt, as `whole_tokens`."""
        return whole_tokens(self._vocab, text)

    def speller_in(self, answer_format, prompt, behind, plain):
        """``spell(words)``: tokens of all that is read and written, the `prompt` and what stands `behind` the answer.

        `plain` is that up to the first control token.
        """
        whole = lru_cache(None)(lambda text: self.whole(prompt + text + behind))
        return Speller(whole, self.tokenize, self.texts, answer_format, plain)


class Texts(dict):
    """Bytes of all tokens, None for control tokens; `tokens` have a text."""

    @cached_property
    def tokens(self):
        found = {}
        for token, raw in self.items():
            found.setdefault(raw, []).append(token)
        return found


class Speller:
    """Whole answers in tokens, and which tokens may follow a label there.

    `whole(text)` tokenises an answer's text with what stands around it, `alone(text)` any text; `texts` are those of
    all tokens, None for control tokens, and `after` is the text behind an answer up to the first control token.
    """

    def __init__(self, whole, alone, texts, answer_format, after):
        self._whole, self._alone, self._format, self._after = whole, alone, answer_format, after
        self._texts = Texts(texts) if type(texts) is dict else texts
        self._line = alone("\n")
        self.beginnings = lru_cache(None)(self._beginnings)

    def __call__(self, words):
        return self._whole(spelled(self._format, words))

    def text(self, tokens):
        return b"".join(self._texts[token] or b"" for token in tokens).decode(errors="replace")

    def ends(self, words):
        """Return the depth where the last of `words` ends, the tokens that begin another one there, and the end's.

        The prompt's own come first in each list; others have a text that begins the separator, or the end, not both.
        """
        other = next(word for word in ("none", "x") if word != words[-1])
        alone, followed = self(words), self([*words, other])
        cut = common([alone, followed])
        behind = spelled(self._format, [other]).removeprefix(OPENING[self._format]) + self._after
        separator = self._rest(followed, cut).removesuffix(behind)
        texts = separator, self._rest(alone, cut)
        own = {followed[cut], alone[cut]}
        another, end = (self.beginnings(rest) for rest in texts)
        return cut, [followed[cut], *(another - end - own)], [alone[cut], *(end - another - own)]

    def _beginnings(self, text):
        """Tokens whose text begins `text`, or is all of it, and becomes that token where it continues another one."""
        before = "\n" if len(self._line) > 1 else ""  # some put a space before every text
        at, found = len(self._line) if before else 0, set()
        for n in range(1, min(16, len(text)) + 1):
            tokens = self._alone(before + text[:n])[at:]
            found.update(t for t in self._texts.tokens.get(text[:n].encode(), ()) if tokens == [t])
        return found

    def _rest(self, tokens, cut):
        """Text of tokens from a depth on, up to the first control token."""
        texts = [self._texts[token] for token in tokens[cut:]]
        plain = texts[: texts.index(None)] if None in texts else texts
        return b"".join(plain).decode(errors="replace")


OPENING = {"json": '{"label": ["', "list": ""}


def spelled(answer_format, words):
    return json.dumps({"label": list(words)}, ensure_ascii=False) if answer_format == "json" else ", ".join(words)


def common(sequences):
    return len(os.path.commonprefix(sequences))


def other_spellings(word):
    cases = {word, word.lower(), word[:1].upper() + word[1:]}
    return (cases | {" " + case for case in cases}) - {word}


def ways(spell, words, before):
    """Whole answers as ``(label, tokens)``: every label alone, and every label with another one behind it."""
    found = []
    for k, word in enumerate(words):
        found.append((k, spell([*before, word])))
        found += [(k, spell([*before, word, other])) for other in words if other != word]
    return found


def slow_ends(spell, words, before):
    """For each label: the tokens up to its end, those that begin another label then, and those that end the answer.

    What stands there for something else does not count: how a longer label goes on, or another label of these tokens.
    """
    answers, found = ways(spell, words, before), []
    for word in words:
        cut, another, end = spell.ends([*before, word])
        found.append((spell([*before, word])[:cut], another, end))
    for k, (path, another, end) in enumerate(found):
        n = len(path)
        longer = {t[n] for j, t in answers if j != k and t[:n] == path and len(t) > n}
        rivals = [j for j, (theirs, *_) in enumerate(found) if j != k and theirs == path]
        taken = longer | {t for j in rivals for tokens in found[j][1:] for t in tokens}
        found[k] = (path, *([first, *(t for t in rest if t not in taken)] for first, *rest in (another, end)))
    return found


def slow_row(logits, prompt, spell, words, said=(), whole=False):
    """Label probabilities after the labels `said`, from whole answers: no trie, no slots.

    `logits(tokens)` looks at a whole prompt, `spell` is a `Speller`. Returns the probabilities, the tokens behind which
    the first of them is read, and the mass of all labels there.
    """
    before = [words[k] for k in said]
    answers, ends = ways(spell, words, before), slow_ends(spell, words, before)
    at = common([tokens for _, tokens in answers])
    context = [*prompt, *answers[0][1][:at]]
    first = {tokens[at] for _, tokens in answers}
    first |= {token for path, *both in ends if len(path) == at for tokens in both for token in tokens}
    starts = []
    for word in words:
        canonical = spell([*before, word])
        others = [spell([*before, other]) for other in other_spellings(word)]
        starts.append({t[at] for t in others if t[:at] == canonical[:at] and at < len(t) <= len(canonical)} - first)
    starts = [{t for t in own if sum(t in start for start in starts) == 1} for own in starts]
    if whole:
        return whole_row(logits, prompt, ends, at, starts)
    scores = np.zeros(len(words))

    def walk(members, depth):
        if len({k for k, _ in members}) == 1:
            return
        groups = {}
        for k, tokens in members:
            groups.setdefault(tokens[depth], []).append((k, tokens))
        ways_of = {token: {k for k, _ in group} for token, group in groups.items()}
        for k in {k for k, _ in members}:
            path, another, end = ends[k]
            if len(path) == depth:
                ways_of.update({token: {k} for token in (*another, *end) if token not in ways_of})
        # Ways that belong to one label alone are one choice: that label, another one to follow or not.
        row = logits([*context, *members[0][1][at:depth]])
        norm = logsumexp([row[token] for token in ways_of]) if depth > at else 0.0
        total = {}
        for token, labels in ways_of.items():
            for k in labels:
                total.setdefault(k, []).append(row[token] - norm)
        for k, values in total.items():
            scores[k] += logsumexp(values)
        for group in groups.values():
            walk(group, depth + 1)

    walk(answers, at)
    row, mass = logits(context), first.union(*starts)
    for k, own in enumerate(starts):
        scores[k] = max([scores[k], *(row[token] for token in own)])
    return softmax(scores), context, float(np.exp(logsumexp(row[sorted(mass)]) - logsumexp(row)))


def whole_row(logits, prompt, ends, at, starts):
    """As `slow_row`: the probability that a label is written whole, and that what follows it may follow a label.

    Another spelling, of the first tokens `starts`, goes on as the prompt's own does.
    """
    scores = []
    for (path, another, end), others in zip(ends, starts, strict=True):
        parts = [log_softmax(logits([*prompt, *path[:n]])) for n in range(at, len(path) + 1)]
        written = [row[token] for row, token in zip(parts, path[at:], strict=False)]
        written.append(logsumexp(parts[-1][sorted({*another, *end})]))
        scores.append(max([written[0], *(parts[0][token] for token in others)]) + sum(written[1:]))
    return softmax(scores), [*prompt, *ends[0][0][:at]], float(np.exp(logsumexp(scores)))


def slow_choice(logits, prompt, spell, words, said):
    """Logits of another label coming after the labels `said`, and of the answer's end."""
    path, another, end = slow_ends(spell, words, [words[k] for k in said[:-1]])[said[-1]]
    row = logits([*prompt, *path])
    return logsumexp(row[another]), logsumexp(row[end])


def slow_beginning(logits, prompt, spell, words, begun=""):
    """Probability of what all answers begin with; `begun` stands before, in the prompt."""
    answers = [tokens for _, tokens in ways(spell, words, [])]
    shared = answers[0][: common(answers)]
    own = [n for n in range(len(shared)) if len(spell.text(shared[: n + 1])) > len(begun)]
    return float(np.exp(sum(log_softmax(logits([*prompt, *shared[:n]]))[shared[n]] for n in own)))


def slow_steps(logits, prompt, spell, words, max_labels, whole=False):
    """Greedy answer: step distributions, the tokens behind which the first is read, and the label mass there."""
    said, rows, first = [], [], None
    while True:
        row, *seen = slow_row(logits, prompt, spell, words, said, whole)
        first = first or seen
        rows.append(row)
        said.append(max((k for k in range(len(words)) if k not in said), key=lambda k: row[k]))
        if said[-1] == len(words) - 1 or len(said) == max_labels:
            break
        another, end = slow_choice(logits, prompt, spell, words, said)
        if another <= end:
            break
    return np.array(rows), *first
