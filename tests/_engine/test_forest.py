"""Who shares which tokens: plans run on a cache that behaves as llama.cpp's does."""

from itertools import count

import numpy as np
import pytest
from campaigns import at_most
from hypothesis import given
from hypothesis import strategies as st
from toy import UnifiedCache

from skmlmc._engine.forest import PREFIX, Ask, Branch, Forest, Plan, Read, Reading, divide, levels, most_alive, pack

ROOT = (101, 102, 103)
NO_COLUMNS = np.empty(0, int)
quick = at_most(150)


class Story:
    """The documents' branches as they should be: the tokens of each, told without sequences or cells."""

    def __init__(self, prefix):
        self.prefix, self.paths = tuple(prefix), {}

    def tell(self, doc, ask):
        """Apply an ask; returns what its reads see, a list for each branch."""
        seen = []
        for name in ask.drop:
            del self.paths[doc, name]
        for branch in ask.branches:
            key = (doc, branch.name)
            if key not in self.paths:
                self.paths[key] = self.prefix if branch.parent is None else self.paths[doc, branch.parent]
            before = self.paths[key]
            self.paths[key] = (*before, *branch.tokens)
            seen.append([self.paths[key][: len(before) + read.at + 1] for read in branch.reads])
        return seen

    def names(self, doc):
        return [name for d, name in self.paths if d == doc]

    def close(self, doc):
        self.paths = {key: path for key, path in self.paths.items() if key[0] != doc}


@st.composite
def asks(draw, names, fresh_names, fresh_tokens):
    """An ask of a document that has the branches `names`: forget some, grow new ones, extend old ones."""
    drop = tuple(name for name in names if draw(st.integers(0, 3)) == 0)
    known = [name for name in names if name not in drop]
    branches, mentioned = [], set()
    for _ in range(draw(st.integers(1, 5))):
        extendable = [name for name in known if name not in mentioned]
        if extendable and draw(st.booleans()):
            name, parent = draw(st.sampled_from(extendable)), None
        else:
            name, parent = next(fresh_names), draw(st.sampled_from([None, *known]))
            known.append(name)
        mentioned.add(name)
        n = draw(st.integers(0, 3))
        reads = tuple(Read(at, NO_COLUMNS) for at in range(n) if draw(st.booleans()))
        branches.append(Branch(name, [next(fresh_tokens) for _ in range(n)], parent, reads))
    return Ask(tuple(branches), drop)


@st.composite
def programs(draw):
    """Rounds of asks of several documents, and the documents that end after each round."""
    story, rounds, fresh_names, fresh_tokens = Story(()), [], count(), count(1000)
    docs, started = [], 0
    for _ in range(draw(st.integers(1, 5))):
        for _ in range(draw(st.integers(0 if docs else 1, 2))):
            docs.append(f"doc{started}")
            started += 1
        asked = {doc: draw(asks(story.names(doc), fresh_names, fresh_tokens)) for doc in docs}
        for doc, ask in asked.items():
            story.tell(doc, ask)
        ended = [doc for doc in docs if draw(st.integers(0, 2)) == 0]
        docs = [doc for doc in docs if doc not in ended]
        for doc in ended:
            story.close(doc)
        rounds.append((asked, ended))
    return rounds


def peak(rounds):
    """Most branches that live at one time."""
    story, most = Story(()), 0
    for asked, ended in rounds:
        for doc, ask in asked.items():
            story.tell(doc, ask)
        most = max(most, len(story.paths))
        for doc in ended:
            story.close(doc)
    return most


def prefixed_cache(prefix=ROOT):
    cache = UnifiedCache()
    n = len(prefix)
    plan = Plan(tokens=np.array(prefix), positions=np.arange(n), spans=[(0, n, (PREFIX,))])
    cache.decode(plan)
    return cache


def remember_sequences(known, asked, plan):
    """Note which sequence is each branch's own: the first owner of its tokens."""
    branches = [(doc, branch.name) for doc, ask in asked.items() for branch in ask.branches]
    for key, (_, _, owners) in zip(branches, plan.spans, strict=True):
        assert known.setdefault(key, owners[0]) == owners[0]


@quick
@given(programs())
def test_every_branch_reads_its_own_path(rounds):
    story, cache = Story(ROOT), prefixed_cache()
    forest = Forest(len(ROOT), peak(rounds) + 1)  # as tight as can be: what is freed must be used again
    sequences, decoded = {}, set()
    for asked, ended in rounds:
        plan = forest.plan(asked)
        expected = {doc: story.tell(doc, ask) for doc, ask in asked.items()}
        sequences = {key: seq for key, seq in sequences.items() if key in story.paths}
        remember_sequences(sequences, asked, plan)
        assert not decoded & set(plan.tokens), "no token is decoded twice"
        decoded |= set(plan.tokens)
        assert len(plan.tokens) == sum(len(b.tokens) for ask in asked.values() for b in ask.branches)
        assert plan.hand_back(cache.decode(plan)) == expected
        assert set(sequences) == set(story.paths)
        assert len({PREFIX, *sequences.values()}) == len(sequences) + 1
        for key, path in story.paths.items():
            assert cache.visible(sequences[key]) == path
        for doc in ended:
            for seq in forest.close(doc):
                cache.remove(seq)
            story.close(doc)
        # What nobody can see any more holds no cell.
        ends = {path[: n + 1] for path in story.paths.values() for n in range(len(ROOT), len(path))}
        assert len(cache.cells) == len(ROOT) + len(ends)
    for doc, _ in list(story.paths):
        for seq in forest.close(doc):
            cache.remove(seq)
    assert [cell[2] for cell in cache.cells] == [{PREFIX}] * len(ROOT)


@quick
@given(programs())
def test_levels_give_the_same_trees(rounds):
    story, cache = Story(ROOT), prefixed_cache()
    forest = Forest(len(ROOT), 100)
    sequences = {}
    for asked, ended in rounds:
        for doc, ask in asked.items():
            got = {}
            expected = story.tell(doc, ask)
            sequences = {key: seq for key, seq in sequences.items() if key in story.paths}
            for level in levels(ask):
                plan = forest.plan({doc: level})
                assert all(len(owners) == 1 for *_, owners in plan.spans), "a state has one owner"
                remember_sequences(sequences, {doc: level}, plan)
                got.update(zip((b.name for b in level.branches), plan.hand_back(cache.decode(plan))[doc], strict=True))
            assert [got[b.name] for b in ask.branches] == expected
            for key, path in story.paths.items():
                assert cache.visible(sequences[key]) == path
        for doc in ended:
            for seq in forest.close(doc):
                cache.remove(seq)
            story.close(doc)


def test_levels_keep_what_has_no_parent_in_the_ask_together():
    trunk, left, right = Branch("t", [1]), Branch("l", [2], "t"), Branch("r", [3], "t")
    leaf, other = Branch("leaf", [4], "l"), Branch("other", [5], "old")
    assert levels(Ask((trunk, left, leaf, right, other), ("gone",))) == [
        Ask((trunk, other), ("gone",)),
        Ask((left, right)),
        Ask((leaf,)),
    ]


def test_the_plan_of_a_small_tree():
    forest = Forest(2, 4)
    plan = forest.plan({7: Ask((Branch("t", [10, 11], None, (Read(1, NO_COLUMNS),)), Branch("a", [12], "t")))})
    assert plan.forks == [(PREFIX, 1), (1, 2)]
    assert plan.spans == [(0, 2, (1, 2)), (2, 3, (2,))]
    assert plan.positions.tolist() == [2, 3, 4]
    assert [at for at, _ in plan.outputs] == [1]
    assert plan.tokens.dtype == plan.positions.dtype == np.int32
    assert plan.hand_back([Reading(NO_COLUMNS)]) == {7: [[Reading(NO_COLUMNS)], []]}
    assert sorted(forest.close(7)) == [1, 2]
    assert forest.close(7) == []


def test_freed_sequences_serve_other_documents_of_the_same_call():
    forest = Forest(0, 3)
    forest.plan({"a": Ask((Branch(0, [1]), Branch(1, [2])))})
    plan = forest.plan({"b": Ask((Branch(0, [3]),)), "a": Ask((Branch(0, [4]),), drop=(1,))})
    assert plan.removes == [2]
    assert plan.forks == [(PREFIX, 2)]


def test_more_branches_than_sequences():
    forest = Forest(0, 3)
    with pytest.raises(RuntimeError, match="All 2 sequences .* smaller batch_size"):
        forest.plan({"a": Ask(tuple(Branch(i, [i]) for i in range(3)))})


@pytest.mark.parametrize(
    "ask",
    [
        Ask(()),
        Ask((Branch("a", [1]), Branch("a", [2]))),
        Ask((Branch("a", [1], None, (Read(1, NO_COLUMNS),)),)),
        Ask((Branch("a", [], None, (Read(-1, NO_COLUMNS),)),)),
    ],
)
def test_asks_that_make_no_sense(ask):
    with pytest.raises(ValueError, match="each named once and read at its own tokens"):
        Forest(0, 3).plan({"doc": ask})


needs = st.lists(st.integers(0, 40), max_size=12)


@given(needs, st.integers(1, 6), st.integers(1, 60), st.integers(1, 9), st.integers(1, 20))
def test_groups_keep_within_the_budget(needs, batch_size, cells, per_document, sequences):
    limits = {"batch_size": batch_size, "per_document": per_document, "sequences": sequences}
    groups = pack(needs, cells=cells, **limits)
    assert pack(needs, cells=10 * cells, enough=cells, **limits) == groups
    assert pack(needs, cells=cells, enough=10 * cells, **limits) == groups
    assert pack(needs, cells=10 * cells, firsts=needs, call=cells, **limits) == groups
    assert pack(needs, cells=cells, firsts=needs, call=10 * cells, **limits) == groups
    assert sorted(i for group in groups for i in group) == list(range(len(needs)))
    for group in groups:
        assert 1 <= len(group) <= batch_size
        if len(group) > 1:
            assert sum(needs[i] for i in group) <= cells
            assert len(group) * per_document <= sequences
    if batch_size == 1:
        assert groups == [[i] for i in range(len(needs))]
    for group, following in zip(groups, groups[1:], strict=False):
        full = len(group) == batch_size or (len(group) + 1) * per_document > sequences
        assert full or sum(needs[i] for i in group) + needs[following[0]] > cells, "no group is needlessly small"


@st.composite
def families(draw):
    """Branches in any order in which parents stand before what grows from them."""
    names = draw(st.integers(1, 14))
    return [
        Branch(name, [0] * draw(st.integers(1, 3)), draw(st.sampled_from(["outside", *range(name)])))
        for name in range(names)
    ]


@quick
@given(families(), st.integers(1, 15))
def test_divided_asks_grow_every_branch_once_within_the_sequences(branches, sequences):
    depth = {}
    for branch in branches:
        depth[branch.name] = depth.get(branch.parent, 0) + 1
    try:
        asks, alive, held = divide(branches, sequences), set(), []
    except ValueError as error:
        assert f"but there are {sequences} sequences" in str(error) and max(depth.values()) > sequences
        return
    for ask in asks:
        assert set(ask.drop) <= alive
        alive -= set(ask.drop)
        for branch in ask.branches:
            assert branch.parent == "outside" or branch.parent in alive, "it grows from a branch that is there"
            alive.add(branch.name)
        assert len(alive) <= sequences
        lines = set(alive)
        for branch in reversed(branches):
            lines |= {branch.parent} if branch.name in lines else set()
        held.append((len(alive), sum(len(branch.tokens) for branch in branches if branch.name in lines)))
    assert sorted(b.name for ask in asks for b in ask.branches) == [b.name for b in branches]
    assert most_alive(asks) == tuple(map(max, zip(*held, strict=True)))
    assert len(asks) == 1 or len(branches) > sequences
