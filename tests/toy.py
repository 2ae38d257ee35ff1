"""A language model without a model: llama.cpp's unified cache, tokenizers and logits in pure Python, all exact."""

import zlib

import numpy as np
from scipy.special import logsumexp

from skmlmc._engine.forest import PREFIX, Forest, Reading, levels


class UnifiedCache:
    """Cells with a position, a token and the sequences that own it, as llama.cpp keeps them."""

    def __init__(self, capacity=10**6):
        self.capacity, self.cells, self.decoded, self.peak = capacity, [], 0, 0

    def remove(self, seq):
        for _, _, owners in self.cells:
            owners.discard(seq)
        self.cells = [cell for cell in self.cells if cell[2]]

    def copy(self, source, target):
        assert not self.visible(target), "llama.cpp would merge the two"
        for _, _, owners in self.cells:
            if source in owners:
                owners.add(target)

    def visible(self, seq):
        """Tokens that `seq` attends to, by position."""
        cells = sorted((position, token) for position, token, owners in self.cells if seq in owners)
        assert [position for position, _ in cells] == list(range(len(cells))), "positions are consecutive"
        return tuple(token for _, token in cells)

    def decode(self, plan):
        """Run a plan as the engine does; returns the context of every output."""
        for seq in plan.removes:
            self.remove(seq)
        for source, target in plan.forks:
            self.copy(source, target)
        self._check_coupled(plan)
        wanted, seen = {at for at, _ in plan.outputs}, {}
        owners = [seqs for start, stop, seqs in plan.spans for _ in range(start, stop)]
        assert len(owners) == len(plan.tokens) == len(plan.positions)
        for at, (token, position, seqs) in enumerate(zip(plan.tokens, plan.positions, owners, strict=True)):
            assert len(set(seqs)) == len(seqs)
            self.cells.append((int(position), int(token), set(seqs)))
            self.decoded += 1
            if at in wanted:
                context = {self.visible(seq) for seq in seqs}
                assert len(context) == 1, "all owners read the same"
                seen[at] = context.pop()
                assert seen[at][-1] == token
        self.peak = max(self.peak, len(self.cells))
        assert self.peak <= self.capacity, "the context is full"
        return [seen[at] for at, _ in plan.outputs]

    def _check_coupled(self, plan):
        # llama_decode refuses tokens of several sequences that had diverged before the batch.
        for _, _, seqs in plan.spans:
            assert len({len(self.visible(seq)) for seq in seqs}) == 1


class ToyEngine:
    """What `Model.run` does, on a `UnifiedCache`; `logits(context)` stands for the network."""

    def __init__(self, prefix, logits=None, *, n_seq=64, capacity=10**6, one_state=False):
        self.prefix, self.logits, self.n_seq, self.one_state = tuple(prefix), logits, n_seq, one_state
        self.cache = UnifiedCache(capacity)
        for position, token in enumerate(prefix):
            self.cache.cells.append((position, token, {PREFIX}))

    def run(self, jobs):
        """Answer the generators `jobs` together; returns what they return."""
        forest, results = Forest(len(self.prefix), self.n_seq), {}
        asks = {i: next(job) for i, job in jobs.items()}
        while asks:
            readings = self._answer(forest, asks)
            asks = {}
            for i, reading in readings.items():
                try:
                    asks[i] = jobs[i].send(reading)
                except StopIteration as done:
                    for seq in forest.close(i):
                        self.cache.remove(seq)
                    results[i] = done.value
        assert {frozenset(owners) for *_, owners in self.cache.cells} <= {frozenset({PREFIX})}
        return results

    def _answer(self, forest, asks):
        if not self.one_state:
            plan = forest.plan(asks)
            return plan.hand_back(self._read(plan))
        readings = {}
        for i, ask in asks.items():
            by_name = {}
            for level in levels(ask):
                plan = forest.plan({i: level})
                assert all(len(seqs) == 1 for *_, seqs in plan.spans)
                by_name.update(zip((b.name for b in level.branches), plan.hand_back(self._read(plan))[i], strict=True))
            readings[i] = [by_name[b.name] for b in ask.branches]
        return readings

    def _read(self, plan):
        rows = []
        for context, (_, read) in zip(self.cache.decode(plan), plan.outputs, strict=True):
            row = self.logits(context)
            tapped = np.array(context[-3:], np.float32) if read.tap else None
            rows.append(Reading(row[read.columns], float(logsumexp(row)) if read.total else None, tapped))
        return rows


def toy_logits(n_vocab, scale=3.0, seed=0):
    """Random logits that depend on the whole context and nothing else."""
    known = {}

    def logits(context):
        context = tuple(context)
        if context not in known:
            rng = np.random.default_rng([seed, zlib.crc32(np.array(context, np.int64).tobytes())])
            known[context] = rng.normal(size=n_vocab) * scale
        return known[context]

    return logits


class Tokenizer:
    """Greedy longest match over `pieces`, else one token a byte.

    Parameters
    ----------
    pieces : iterable of str
        Texts that are one token wherever they stand.
    controls : iterable of str
        Control tokens, recognised where `special` says so.
    space_prefix : bool
        Put a space before every text, as llama.cpp does for SentencePiece vocabularies.
    """

    def __init__(self, pieces=(), controls=("<|im_start|>", "<|im_end|>", "<bos>", "<eos>"), space_prefix=False):
        self.controls = {text: 256 + i for i, text in enumerate(controls)}
        first = 256 + len(self.controls)
        self.pieces = {text.encode(): first + i for i, text in enumerate(dict.fromkeys(pieces))}
        self.n_vocab = first + len(self.pieces)
        self._longest = max(map(len, self.pieces), default=1)
        self.adds_space = space_prefix
        self._texts = {token: text for text, token in self.pieces.items()}
        self._texts |= {token: text.encode() for text, token in self.controls.items()}
        self._texts |= {byte: bytes([byte]) for byte in range(256)}

    def tokenize(self, text, fresh=True):
        """Tokens of a text, as `Vocabulary.tokenize` gives them."""
        return self(text) if fresh else self._plain(text.encode())

    def split_at_controls(self, text):
        parts = [text]
        for name, token in self.controls.items():
            divided = [part.split(name) if isinstance(part, str) else [part] for part in parts]
            parts = [x for pieces in divided for k, piece in enumerate(pieces) for x in ([token] * (k > 0) + [piece])]
        return [part for part in parts if part != ""]

    def swallows(self, token):
        return False, False

    def token_text(self, token):
        return self.text([token])

    def text_of(self, tokens):
        return self.text(tokens)

    def __call__(self, text, special=False):
        tokens = []
        if self.adds_space and text:
            text = " " + text
        while text:
            at, control = min(((text.find(c), c) for c in self.controls if special and c in text), default=(-1, ""))
            if at < 0:
                return tokens + self._plain(text.encode())
            tokens += [*self._plain(text[:at].encode()), self.controls[control]]
            text = text[at + len(control) :]
        return tokens

    def _plain(self, raw):
        tokens, at = [], 0
        while at < len(raw):
            for n in range(min(self._longest, len(raw) - at), 0, -1):
                if raw[at : at + n] in self.pieces:
                    tokens.append(self.pieces[raw[at : at + n]])
                    at += n
                    break
            else:
                tokens.append(raw[at])
                at += 1
        return tokens

    def piece(self, token):
        """Bytes of a token; None for control tokens."""
        return None if token in self.controls.values() else self._texts[token]

    def text(self, tokens):
        """Text of tokens, control tokens included."""
        return b"".join(self._texts[token] for token in tokens).decode("utf-8", "replace")


# Each joins other things across the borders of labels.
TOKENIZERS = {
    "bytes": Tokenizer(),
    "words": Tokenizer(["joy", "ful", " joy", "Joy", "sad", "ness", "none", "anger", " anger", '",', '"]', ' "', ", "]),
    "quotes": Tokenizer(['"j', '"s', "oy", "ad", '"]}', '["', "er", "none", '"none']),
    "ends": Tokenizer(['y"', 'l"', 's"]', 's",', "jo", "sa", '"]}', "r,", "y,", '"n']),
    "spaces": Tokenizer(
        [" joy", " joyful", " anger", " none", "joy", "sad", " sad", '"]', '",', " ["], space_prefix=True
    ),
}
