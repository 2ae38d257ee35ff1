"""What the speed benchmarks run: texts, demonstrations, extractors, and the tokens that their work needs."""

from __future__ import annotations

import numpy as np

from skmlmc import HiddenStateExtractor, PairwiseExtractor, PromptTemplate, StepwiseExtractor, UnaryExtractor
from skmlmc._inference.compiled import prepared_prompt
from skmlmc._models.files import resolve_model
from skmlmc._models.loaded import load_model

WORDS = "the dog ran home and I was very happy to see that nobody cared about what happened yesterday".split()
LABELS = [
    *("anger", "fear", "joy", "love", "sadness", "surprise", "hope"),
    *("admiration", "amusement", "annoyance", "approval", "boredom", "confusion", "contempt", "curiosity", "desire"),
    *("disgust", "doubt", "envy", "gratitude", "grief", "guilt", "nervousness", "pride", "relief", "remorse"),
    *("shame", "trust"),
]


def sentences(n, low, high, seed=0):
    """Texts of `low` to `high` words, all different."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(low, high + 1))) + f" {k}" for k in range(n)]


def demonstrations(n):
    """Texts with their labels, half of them with two."""
    return [(text, ["joy", "anger"] if k % 2 else ["fear"]) for k, text in enumerate(sentences(n, 15, 25, seed=1))]


def extractors(model, args, n_labels=None):
    """Make one extractor for each method, fitted: nothing is decoded yet."""
    shared = {
        "labels": LABELS[: n_labels or args.labels],
        "demonstrations": demonstrations(args.demonstrations),
        "n_threads": args.threads,
        "random_state": 0,
    }
    prompt = PromptTemplate(mode="plain")
    questions = {k: v for k, v in shared.items() if k != "demonstrations"} | {"prompt": prompt}
    # Questions take their demonstrations from data.
    shown, Y = zip(*shared["demonstrations"], strict=True) if args.demonstrations else ((), ())
    Y = np.array([[label in labels for label in shared["labels"]] for labels in Y], int)
    questions["shots"] = args.demonstrations
    given = (list(shown), Y) if args.demonstrations else ()
    return {
        "steps": StepwiseExtractor(model, prompt=prompt, **shared).fit(),
        "states": HiddenStateExtractor(model, prompt=prompt, layer=0.5, pooling="mean", **shared).fit(),
        "unary": UnaryExtractor(model, **questions).fit(*given),
        "pairs": PairwiseExtractor(model, both_orders=False, **questions).fit(*given),
    }


def prepared(extractor):
    """Prompt of an extractor, in tokens."""
    return prepared_prompt(extractor._task(), load_model(resolve_model(extractor.model)))


def question_contexts(ready, text, inner=True):
    """Contexts behind the prompt whose next token matters: a document's questions, with `inner` also their answers'."""
    compiled, asked = ready.compiled, ready.questionnaire
    paths = {}
    for name, node in enumerate(asked._nodes):
        before = paths[node.parent] if node.parent != -1 else [*compiled.document(text), *asked.common]
        paths[name] = [*before, *node.tokens]
        if node.leaf is not None:
            trie = asked._tries[node.leaf]
            yield from ([*paths[name], *trie.path_to(n)] for n in trie.places[: None if inner else 1])


def step_contexts(ready, text, steps):
    """Contexts behind the prompt whose next token matters, for a document's answer."""
    answers, context, said = ready.compiled.answers, ready.document(text), []
    slot = answers.slot()
    for row in steps:
        context = [*context, *slot.lead]
        yield from ([*context, *slot.trie.path_to(n)] for n in slot.trie.places)
        said.append(max((k for k in range(len(row)) if k not in said), key=row.__getitem__))
        if said[-1] == answers.none or len(said) == ready.max_labels:
            return
        context = [*context, *slot.trie.paths[said[-1]]]
        yield context
        slot = answers.slot(said[-1])


def tokens_needed(extractor, texts, output):
    """Tokens that the work needs: the prefix, and for each document every token of its contexts once."""
    ready = prepared(extractor)
    total = len(ready.prefix)
    for text, steps in zip(texts, output, strict=True):
        if isinstance(extractor, StepwiseExtractor):
            contexts = step_contexts(ready, text, steps[~np.isnan(steps[:, 0])])
        else:
            contexts = question_contexts(ready, text)
        total += len({tuple(c[:n]) for c in contexts for n in range(1, len(c) + 1)})
    return total
