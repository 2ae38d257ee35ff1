"""Label probabilities against brute force over whole answers, with tokenizers made to be awkward."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from campaigns import at_most, in_campaigns, sampled
from hypothesis import assume, event, given
from hypothesis import strategies as st
from scipy.special import log_softmax, logsumexp, softmax
from slow_twin import OPENING, Speller, slow_beginning, slow_steps, spelled
from toy import TOKENIZERS, Reading, Tokenizer, ToyEngine, toy_logits

from skmlmc._inference.greedy import greedy_answer, read_beginning, read_state
from skmlmc._inference.label_trie import ROOT, AnswerSpace, LabelTrie, Spelling, common_prefix
from skmlmc.prompts import ANSWER_FORMATS

PREFIX, DOCUMENT = (90, 91, 92), [80, 81]
AFTER = "\n\nInput:"
quick = at_most(60)


def speller(tokenizer, answer_format="json", lead="", after=AFTER):
    """The twin's way to spell answers, with a toy tokenizer."""
    behind = tokenizer(after, special=True)
    texts = {token: tokenizer.piece(token) for token in range(tokenizer.n_vocab)}
    return Speller(lambda text: tokenizer(lead + text) + behind, tokenizer, texts, answer_format, after)


def spelling(tokenizer, answer_format="json", lead="", after=AFTER):
    """How the compiled prompt has it: the answer's text, then what follows it."""
    behind = tokenizer(after, special=True)
    return Spelling(
        lambda words: tokenizer(lead + spelled(answer_format, words)) + behind,
        lambda text: tokenizer.tokenize(text, False),
        tokenizer.text,
        lambda word: spelled(answer_format, [word]).removeprefix(OPENING[answer_format]) + after,
        begun=lead,
    )


def answer(space, logits, max_labels, sequences=60, **engine):
    """One document's answer by the real planner on the toy model; returns the engine too."""
    engine = ToyEngine(PREFIX, logits, **{"n_seq": sequences + 2, **engine})
    job = greedy_answer(DOCUMENT, space, max_labels=max_labels, sequences=sequences)
    return engine.run({0: job})[0], engine


def same_as_oracle(tokenizer, words, answer_format="json", seed=0, max_labels=None, lead="", sequences=60, **how):
    engine = {"one_state": how.pop("one_state", False)}
    spell = speller(tokenizer, answer_format, lead)
    logits = toy_logits(tokenizer.n_vocab, seed=seed)
    max_labels = max_labels or len(words) - 1
    space = AnswerSpace(spelling(tokenizer, answer_format, lead), words, **how)
    needed = 1 + space.sequences(max_labels, sequences)
    got, ran = answer(space, logits, max_labels, sequences, n_seq=needed, **engine)
    rows, context, mass = slow_steps(logits, [*PREFIX, *DOCUMENT], spell, words, max_labels, **how)
    np.testing.assert_allclose(got.steps, rows, atol=1e-9)
    np.testing.assert_allclose(got.steps.sum(axis=1), 1)
    assert got.label_mass == pytest.approx(mass)
    assert 0 < got.label_mass <= 1 + 1e-9
    if space.begins_at() < len(space.slot().lead):
        begun = ToyEngine(PREFIX, logits).run({0: read_beginning(DOCUMENT, space)})[0]
        assert begun == pytest.approx(slow_beginning(logits, [*PREFIX, *DOCUMENT], spell, words, lead))
    state = ToyEngine(PREFIX, logits).run({0: read_state(DOCUMENT, space)})[0]
    np.testing.assert_array_equal(state, context[-3:])
    if not ran.one_state:
        assert ran.cache.peak <= len(PREFIX) + len(DOCUMENT) + space.longest(max_labels, sequences)
    return got


EMOTIONS = ["joy", "joyful", "anger", "sad", "sadness", "Joyce", "surprise"]
SETS = {
    "emotions": [*EMOTIONS, "none"],
    "two": ["yes", "no", "none"],
    "nested": ["a", "aa", "aaa", "aaaa", "b", "none"],
    "none is a beginning": ["nonetheless", "none of it", "no", "none"],
    "beginning of none": ["n", "no", "non", "none"],
    "quotes": ['"', '""', 'say "hi"', "'", "\\", "\\\\", '\\"', "none"],
    "other scripts": ["émotion", "é", "悲しい", "悲", "😀", "😀😀", "naïve", "none"],
    "case and space": ["Joy", "NASA", " sad", "sad ", "a  b", "nothing"],
    "markup": ["]}", '"]', "<|im_end|>", "{label}", "\n", "null", "none"],
    "thirty": [f"{word} {i}" for word in ("joy", "topic", "x") for i in range(10)] + ["none"],
}
LISTED = {name: words for name, words in SETS.items() if not any("\n" in word for word in words)}


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("sequences", [60, 5])
@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@pytest.mark.parametrize("words", sampled(SETS, 5))
def test_steps_agree_with_whole_answers_as_json(tokenizer, words, sequences, whole):
    lengths, how = [], {"sequences": sequences, "whole": whole}
    while len(lengths) < 3 or max(lengths) < 2:
        got = same_as_oracle(TOKENIZERS[tokenizer], SETS[words], seed=len(lengths), max_labels=4, **how)
        lengths.append(len(got.steps))


# Where a label's last token depends on the comma after it and its end therefore begins like another label.
AMBIGUOUS = [("emotions", "ends"), ("none is a beginning", "spaces"), ("quotes", "words"), ("quotes", "spaces")]


@pytest.mark.parametrize("lead", ["", " "])
@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@pytest.mark.parametrize("words", sampled(LISTED, 3))
def test_steps_agree_with_whole_answers_as_a_list(tokenizer, words, lead):
    for seed in range(2):
        try:
            same_as_oracle(TOKENIZERS[tokenizer], LISTED[words], "list", seed=seed, max_labels=4, lead=lead)
            assert (words, tokenizer) not in AMBIGUOUS
        except ValueError as error:
            assert "cannot be told apart" in str(error)
            assert (words, tokenizer) in AMBIGUOUS


def test_recurrent_models_take_the_same_steps():
    for seed in range(3):
        same_as_oracle(TOKENIZERS["words"], SETS["emotions"], seed=seed, one_state=True)


def test_documents_answered_together_do_not_mix():
    tokenizer = TOKENIZERS["words"]
    space = AnswerSpace(spelling(tokenizer), SETS["emotions"])
    logits = toy_logits(tokenizer.n_vocab)
    documents = [[60 + i] * i for i in range(5)]
    jobs = {i: greedy_answer(d, space, max_labels=7, sequences=9) for i, d in enumerate(documents)}
    together = ToyEngine(PREFIX, logits, n_seq=1 + 5 * space.sequences(7, 9)).run(jobs)
    assert len({len(got.steps) for got in together.values()}) > 1, "they end at different steps"
    for i, document in enumerate(documents):
        alone = ToyEngine(PREFIX, logits).run({0: greedy_answer(document, space, max_labels=7, sequences=9)})[0]
        np.testing.assert_array_equal(alone.steps, together[i].steps)


words = st.text(st.sampled_from('ajoyd"\\]é😀 ,n'), min_size=1, max_size=5).filter(lambda word: word.strip())
label_sets = st.lists(words, min_size=2, max_size=8, unique_by=lambda word: word.strip().casefold())
REFUSALS = ("cannot be told apart", "joins the separator")


@quick
@given(label_sets, st.sampled_from(sorted(TOKENIZERS)), st.sampled_from(sorted(ANSWER_FORMATS)), st.integers(0, 99))
def test_any_labels_agree_with_whole_answers(labels, tokenizer, answer_format, seed):
    assume(answer_format == "json" or not any("," in label for label in labels))
    try:
        same_as_oracle(TOKENIZERS[tokenizer], [*labels, "none"], answer_format, seed=seed)
    except ValueError as error:
        event("refused")
        assert any(refusal in str(error) for refusal in REFUSALS)
        assert tokenizer == "ends" or answer_format == "list"


@quick
@given(st.permutations(range(7)), st.sampled_from(sorted(TOKENIZERS)), st.integers(0, 99))
def test_the_order_of_labels_does_not_matter(order, tokenizer, seed):
    tokenizer = TOKENIZERS[tokenizer]
    logits = toy_logits(tokenizer.n_vocab, seed=seed)
    spell = spelling(tokenizer)
    plain, _ = answer(AnswerSpace(spell, [*EMOTIONS, "none"]), logits, 7)
    moved, _ = answer(AnswerSpace(spell, [*(EMOTIONS[k] for k in order), "none"]), logits, 7)
    np.testing.assert_allclose(moved.steps, plain.steps[:, [*order, 7]], atol=1e-12)


def test_the_definition_of_the_paper_where_first_tokens_differ():
    """Section 3: softmax over the label tokens; of several that spell one label the highest logit counts."""
    names = ["joy", "anger", "fear", "none"]
    tokenizer = Tokenizer([lead + case for name in names for case in (name, name.title()) for lead in ("", " ")])
    space = AnswerSpace(spelling(tokenizer), names)
    logits = toy_logits(tokenizer.n_vocab, seed=3)
    got, _ = answer(space, logits, 1)
    row = logits([*PREFIX, *DOCUMENT, *space.slot().lead])
    spellings = [[lead + case for case in (name, name.title()) for lead in ("", " ")] for name in names]
    tokens = [[tokenizer(spelling)[0] for spelling in group] for group in spellings]
    np.testing.assert_allclose(got.steps[0], softmax([max(row[t] for t in group) for group in tokens]), atol=1e-12)
    assert got.label_mass == pytest.approx(softmax(row)[np.unique(tokens)].sum())


def test_shared_first_tokens_by_hand():
    """joy = 5, joyful = 5 6, none = 7; another label follows with 1, the answer ends with 2."""
    trie = LabelTrie([[5], [5, 6], [7]], [((1,), (2,))] * 3, [[8], [8, 9], []])
    assert trie.columns[ROOT].tolist() == [5, 7, 9]  # 8 spells two labels, so it decides nothing
    node = trie.places[1]
    assert sorted(trie.columns[node]) == [1, 2, 6]
    root, inner = dict(zip([5, 7, 9], [1.0, 2.0, -5.0], strict=True)), {1: 0.5, 2: -1.0, 6: 0.25}
    below = Reading(np.array([inner[t] for t in trie.columns[node]]))
    got = trie.probabilities([Reading(np.array([1.0, 2.0, -5.0])), below])
    ful, end = log_softmax([inner[6], logsumexp([inner[1], inner[2]])])
    np.testing.assert_allclose(got, softmax([root[5] + end, root[5] + ful, root[7]]))
    got = trie.probabilities([Reading(np.array([1.0, 2.0, 4.0])), below])
    np.testing.assert_allclose(got, softmax([1.0 + end, 4.0, 2.0]))
    assert trie.grows_from(0) == (node, [])
    assert trie.grows_from(1) == (node, [6])
    assert trie.grows_from(2) == (ROOT, [7])


def test_spellings_that_begin_with_a_mere_space_or_letter_do_not_count():
    # " 1st" would be two tokens, of which the space alone begins anything.
    tokenizer = Tokenizer(["joy", " joy", "1st", "none", " none"])
    trie = AnswerSpace(spelling(tokenizer), ["joy", "1st", "none"]).slot().trie
    assert [[tokenizer.text([t]) for t in tokens] for tokens in trie.variants] == [[" joy"], [], [" none"]]


def test_capitals_are_spellings_too():
    tokenizer = Tokenizer(["Joy", "joy", " joy", "NASA", " nasa", "none"])
    trie = AnswerSpace(spelling(tokenizer), ["Joy", "NASA", "none"]).slot().trie
    assert [{tokenizer.text([t]) for t in tokens} for tokens in trie.variants] == [{"joy", " joy"}, {" nasa"}, set()]


def test_labels_with_the_same_tokens():
    initials = replace(spelling(Tokenizer()), tokenize=lambda words: [5, *(ord(w[0]) for w in words), 2, 2])
    with pytest.raises(ValueError, match="Labels number 0 and 1 cannot be told apart .* another wording"):
        AnswerSpace(initials, ["joy", "jealousy", "none"]).slot()


def test_labels_that_differ_only_in_what_follows():
    """The last character of "C#" is one token with the comma, so that both labels are the path "C"."""
    tokenizer = Tokenizer(["#,"])
    labels = ["C", "C#", "Go", "none"]
    trie = AnswerSpace(spelling(tokenizer, "list"), labels).slot().trie
    assert trie.paths[0] == trie.paths[1] == tokenizer("C")
    for seed in range(5):
        same_as_oracle(tokenizer, labels, "list", seed=seed)
    whole = Tokenizer([label + end for label in labels for end in ('"]', '",')])
    assert AnswerSpace(spelling(whole), labels).slot().trie.paths == [[]] * 4
    for seed in range(5):
        same_as_oracle(whole, labels, seed=seed)


def test_a_label_whose_end_reads_like_a_longer_label():
    """A comma is one token with the y, so "joy" at the end of an answer begins like "joyful"."""
    tokenizer = Tokenizer(["y,"])
    with pytest.raises(ValueError, match="Labels number 0 and 1 cannot be told apart"):
        AnswerSpace(spelling(tokenizer, "list"), ["joy", "joyful", "none"]).slot()


def test_a_label_that_contains_another_one_and_the_separator():
    with pytest.raises(ValueError, match="Labels number 0 and 1 cannot be told apart .* another answer_format"):
        AnswerSpace(spelling(Tokenizer(), "list"), ["red", "red, white", "none"]).slot()
    same_as_oracle(Tokenizer(), ["red", "red, white", "none"], "json")


def test_a_separator_joined_with_the_next_label():
    tokenizer = Tokenizer([", joy", ", a", ", n"])
    space = AnswerSpace(spelling(tokenizer, "list"), ["joy", "anger", "none"])
    assert len(space.slot().trie.paths) == 3
    with pytest.raises(ValueError, match="joins the separator .* other answer_format"):
        space.slot(0)
    assert (space.longest(1, 9), space.sequences(1, 9)) == (0, 1)  # an answer of one label needs no separator
    with pytest.raises(ValueError, match="joins the separator"):
        space.longest(2, 9)


def test_an_answer_that_nothing_ends():
    with pytest.raises(ValueError, match="Nothing in the prompt ends an answer"):
        AnswerSpace(spelling(Tokenizer(), "list", after=""), ["joy", "anger", "none"]).slot()


@pytest.mark.parametrize("answer_format", ANSWER_FORMATS)
@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_slots_add_up_to_the_tokens_of_whole_answers(tokenizer, answer_format):
    names = ["joy", "so", "anger", "sad", "soul", "none"]
    tokenize = speller(TOKENIZERS[tokenizer], answer_format)
    space = AnswerSpace(spelling(TOKENIZERS[tokenizer], answer_format), names)
    for n in (1, 2, 3):
        for said in itertools.permutations(range(5), n):
            tokens, previous = [], None
            for k in said:
                slot = space.slot(previous)
                tokens += [*slot.lead, *slot.trie.paths[k]]
                previous = k
            whole = tokenize([names[k] for k in said])
            assert whole[: len(tokens)] == tokens
            another, end = slot.trie.ends[said[-1]]
            assert whole[len(tokens)] == end[0]
            rest = next(k for k in range(5) if k not in said)
            assert tokenize([names[k] for k in (*said, rest)])[len(tokens)] == another[0]


def directed(target, n_vocab):
    """A model that writes one sequence of tokens whatever else is possible."""
    target = tuple(target)

    def logits(context):
        row = np.zeros(n_vocab)
        if len(context) < len(target) and tuple(context) == target[: len(context)]:
            row[target[len(context)]] = 50.0
        return row

    return logits


@pytest.mark.parametrize("max_labels", [1, 2, 3, 4])
@pytest.mark.parametrize("answer_format", ANSWER_FORMATS)
@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@pytest.mark.parametrize(("whole", "sequences"), [(False, 60), in_campaigns((True, 60)), (True, 3)])
def test_no_answer_needs_more_cells_than_planned(tokenizer, answer_format, max_labels, whole, sequences):
    names = ["joy", "calm", "sad", "sadness", "none"]
    tokenizer = TOKENIZERS[tokenizer]
    tokenize = speller(tokenizer, answer_format)
    space = AnswerSpace(spelling(tokenizer, answer_format), names, whole)
    bound, peaks = space.longest(max_labels, sequences), []
    for n in range(max_labels + 1):
        for said in itertools.permutations(range(4), n):
            target = [*PREFIX, *DOCUMENT, *tokenize([names[k] for k in said] or ["none"])]
            logits = directed(target, tokenizer.n_vocab)
            needed = 1 + space.sequences(max_labels, sequences)
            got, engine = answer(space, logits, max_labels, sequences, n_seq=needed)
            assert [int(row.argmax()) for row in got.steps] == (list(said) or [4])
            peaks.append(engine.cache.peak - len(PREFIX) - len(DOCUMENT))
    assert max(peaks) <= bound
    assert max(peaks) >= bound - 4, "room that no answer needs is room that documents lack"


def test_slots_are_found_once():
    calls, spell = [], spelling(Tokenizer())
    tokenize = spell.tokenize
    space = AnswerSpace(
        replace(spell, tokenize=lambda words: calls.append(words) or tokenize(words)), ["joy", "anger", "none"]
    )
    first, later = space.slot(), space.slot(1)
    n = len(calls)
    assert space.slot() is first and space.slot(1) is later
    assert len(calls) == n


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_labels_are_tokenised_a_few_times_each(tokenizer):
    """Not once for each label that may stand before: 300 codes had 90,000 pairs."""
    labels = [f"{letter}{number:02}.{part}" for letter in "ABCDE" for number in range(20) for part in range(3)]
    calls, spell = [], spelling(TOKENIZERS[tokenizer])
    counted = replace(spell, tokenize=lambda words: calls.append(words) or spell.tokenize(words))
    space = AnswerSpace(counted, [*labels, "none"])
    assert space.sequences(5, 20) == 21
    assert space.longest(5, 20) < 5 * 12 + 200
    assert len(calls) < 20 * len(labels)
    for k in (0, 7, 299):
        one = spell.tokenize([labels[k], labels[5]])
        slots = space.slot(), space.slot(k)
        tokens = [*slots[0].lead, *slots[0].trie.paths[k], *slots[1].lead, *slots[1].trie.paths[5]]
        assert one[: len(tokens)] == tokens


@given(st.lists(st.lists(st.integers(0, 2), max_size=6), min_size=1, max_size=5))
def test_common_prefix(sequences):
    n = common_prefix(sequences)
    assert len({tuple(s[:n]) for s in sequences}) == 1 and all(len(s) >= n for s in sequences)
    assert any(len(s) == n for s in sequences) or len({s[n] for s in sequences}) > 1
