"""What training is made of, without torch: answers from shares, packs, adapters, costs."""

import gguf
import numpy as np
import pytest
from tiny_gguf import write_tiny_gguf

from skmlmc import GGUFClassifier
from skmlmc.finetune import _costs
from skmlmc.finetune._adapter import StoredWeights, read_history, row_order, write_adapter
from skmlmc.finetune._packs import Example, divide, make_pack, size
from skmlmc.finetune._targets import answers_of_shares, majority_answers, preferred_answers, read_annotations


def marginals(answers, n_labels):
    return [
        sum((w * np.isin(np.arange(n_labels), s) for s, w in found.items()), np.zeros(n_labels)) for found in answers
    ]


def test_answers_of_shares_have_these_shares_and_nearly_equal_sizes():
    shares = np.random.default_rng(0).random((50, 6))
    shares[0], shares[1], shares[2] = 0, 1, np.eye(6)[2]
    answers = answers_of_shares(shares)
    np.testing.assert_allclose(marginals(answers, 6), shares, atol=1e-9)
    for found, row in zip(answers, shares, strict=True):
        assert sum(found.values()) == pytest.approx(1)
        assert {len(labels) for labels in found} <= {int(np.floor(row.sum() + 1e-9)), int(np.ceil(row.sum() - 1e-9))}
    assert answers[:3] == [{(): 1.0}, {(0, 1, 2, 3, 4, 5): 1.0}, {(2,): 1.0}]


def test_shares_that_sum_to_one_give_one_label_each():
    shares = np.random.default_rng(1).dirichlet(np.ones(4), 30)
    thirds = np.array([[1 / 3, 1 / 3, 0, 1 / 3]])
    for found in answers_of_shares(np.vstack([shares, thirds])):
        assert {len(labels) for labels in found} == {1}


def test_annotations_keep_which_labels_go_together():
    answers, shares, names = read_annotations(
        [{"a": ["x", "y"], "b": ["x", "y"], "c": []}, {"a": "z"}], None, 2, "none"
    )
    assert names == ["x", "y", "z"]
    assert answers == [{(0, 1): pytest.approx(2 / 3), (): pytest.approx(1 / 3)}, {(2,): 1.0}]
    np.testing.assert_allclose(shares, [[2 / 3, 2 / 3, 0], [0, 0, 1]])
    cube = np.array([[[1, 1, 0], [1, 1, 0], [0, 0, 0]], [[0, 0, 1], [np.nan] * 3, [np.nan] * 3]])
    same, _, _ = read_annotations(cube, names, 2, "none")
    assert same == answers
    assert read_annotations([{"a": ["none"]}], ["x", "y"], 1, "none")[0] == [{(): 1.0}]


def test_majority_of_one_label_is_the_largest():
    shares = np.array([[0.4, 0.3, 0.3], [0.0, 0.6, 0.6]])
    assert majority_answers(shares, False) == [{(0,): 1.0}, {(1,): 1.0}]
    assert majority_answers(shares, True) == [{(): 1.0}, {(1, 2): 1.0}]


PREFIX, BEGINS = [1, 2, 3], 1
EXAMPLES = [
    Example([10, 11], [([50, 60, 70, 90], 0.25), ([50, 60, 71, 72, 90], 0.75)]),
    Example([], [([50, 61, 90], 1.0)]),
]


def spelled(pack, row):
    """Tokens that a token of a pack sees, in order of position, itself last."""
    seen = np.flatnonzero(pack.mask[row])
    return pack.tokens[seen[np.argsort(pack.positions[seen])]].tolist()


def test_a_pack_shows_each_prediction_what_stands_before_it_alone():
    pack = make_pack(PREFIX, EXAMPLES, BEGINS)
    predicted = zip(pack.which, pack.wanted, pack.weights, strict=True)
    found = sorted((spelled(pack, pack.rows[k]), int(token), float(weight)) for k, token, weight in predicted)
    expected = [
        ([1, 2, 3, 10, 11, 50], 60, 1.0),
        ([1, 2, 3, 10, 11, 50, 60], 70, 0.25),
        ([1, 2, 3, 10, 11, 50, 60], 71, 0.75),
        ([1, 2, 3, 10, 11, 50, 60, 70], 90, 0.25),
        ([1, 2, 3, 10, 11, 50, 60, 71], 72, 0.75),
        ([1, 2, 3, 10, 11, 50, 60, 71, 72], 90, 0.75),
        ([1, 2, 3, 50], 61, 1.0),
        ([1, 2, 3, 50, 61], 90, 1.0),
    ]
    assert found == expected
    assert len(pack.tokens) == len(PREFIX) + sum(map(size, EXAMPLES))
    for row in range(len(pack.tokens)):
        assert pack.positions[pack.mask[row]].max() == pack.positions[row] == pack.mask[row].sum() - 1


def test_a_pair_of_answers_counts_where_they_differ_only():
    pair = Example([10], [([50, 60, 70, 90], 1.0), ([50, 60, 71, 90], -1.0)], 2.5)
    pack = make_pack(PREFIX, [EXAMPLES[1], pair], BEGINS)
    predicted = sorted(zip(pack.owners, pack.wanted, pack.weights, strict=True))
    assert predicted == [(0, 61, 1), (0, 90, 1), (1, 70, 1), (1, 71, -1), (1, 90, -1), (1, 90, 1)]
    assert pack.references.tolist() == [0, 2.5]


def test_wrong_answers_are_other_documents_right_ones():
    right = majority_answers(np.eye(4)[np.arange(40) % 4], True)
    said = [{**found, ((i + 1) % 4,): 0.5} for i, found in enumerate(right)]
    pairs = preferred_answers(right, said, 0)
    assert pairs == preferred_answers(right, said, 0) != preferred_answers(right, said, 1)
    for i, pair in enumerate(pairs):
        (best, good), (wrong, bad) = pair.items()
        assert (best, good, bad) == ((i % 4,), 1, -1) and wrong in {((i + 2) % 4,), ((i + 3) % 4,)}
    alone = [{(0,): 1.0}] * 3
    assert preferred_answers(alone, alone, 0) == [{(0,): 1.0, (1,): -1.0}] * 3


def test_packs_hold_so_many_tokens_and_one_document_at_least():
    examples = [Example([0] * n, [([7, 8], 1.0)]) for n in (5, 6, 30, 3, 3)]
    assert [[len(e.document) for e in part] for part in divide(examples, 10, 30)] == [[5, 6], [30], [3, 3]]


def test_rows_are_found_in_the_order_of_the_file():
    stored = np.random.default_rng(0).normal(size=(24, 5))
    rotary = np.arange(24).reshape(3, 4, 2).swapaxes(1, 2).ravel()
    assert row_order(stored, stored, [3]).tolist() == list(range(24))
    assert row_order(stored, stored[rotary], [2, 3]).tolist() == rotary.tolist()
    assert row_order(stored, stored[::-1], [2, 3]) is None


def test_names_and_first_columns_come_from_the_file(tiny_model):
    stored = StoredWeights(tiny_model)
    assert stored.name_of("model.layers.1.self_attn.q_proj") == "blk.1.attn_q.weight"
    assert stored.name_of("model.layers.7.self_attn.q_proj") is None
    (tensor,) = [t for t in gguf.GGUFReader(tiny_model).tensors if t.name == "blk.1.ffn_down.weight"]
    np.testing.assert_array_equal(stored.first_columns("blk.1.ffn_down.weight"), tensor.data)


def test_an_adapter_changes_the_model_by_what_it_says(tiny_model, tmp_path):
    """A matrix of rank 2 moved into the model's own weights gives the same answers."""
    rng, name = np.random.default_rng(3), "blk.0.ffn_up.weight"
    a, b = rng.normal(size=(2, 32)).astype(np.float32), rng.normal(size=(64, 2)).astype(np.float32)
    write_adapter(tmp_path / "adapter.gguf", "llama", {name: (a, b)}, 4.0, 8, [(0, 2.5), (8, 1.25)])
    assert read_history(tmp_path / "adapter.gguf") == (8, [(0, 2.5), (8, 1.25)])
    assert [path.name for path in tmp_path.iterdir()] == ["adapter.gguf"]
    merged = write_tiny_gguf(tmp_path / "merged.gguf")
    (weights,) = [t.data for t in gguf.GGUFReader(merged, "r+").tensors if t.name == name]
    weights += 4.0 / 2 * b @ a
    texts, how = ["so glad", "hm"], {"labels": ["joy", "fear"], "kv_dtype": "float32"}
    with_adapter = GGUFClassifier(tiny_model, lora=tmp_path / "adapter.gguf", **how).fit().predict_proba(texts)
    as_weights = GGUFClassifier(merged, **how).fit().predict_proba(texts)
    plain = GGUFClassifier(tiny_model, **how).fit().predict_proba(texts)
    np.testing.assert_allclose(with_adapter, as_weights, atol=1e-5)
    assert abs(with_adapter - plain).max() > 1e-3


def test_a_failed_write_leaves_no_file(tmp_path):
    with pytest.raises(ValueError, match="float"):
        write_adapter(tmp_path / "adapter.gguf", "llama", {"x": ("no", "numbers")}, 4.0, 0, [(0, 1.0)])
    assert list(tmp_path.iterdir()) == []


def test_costs_come_from_the_header(tiny_model):
    sizes = _costs.read_sizes(tiny_model)
    assert sizes[:1] + sizes[2:6] == ("llama", 2, 32, 64, 4)
    n = sum(int(np.prod(t.shape)) for t in gguf.GGUFReader(tiny_model).tensors)
    assert sizes.n_weights == n and _costs.bytes_needed(sizes, 4, 10, 5) >= 8 * n
    more = [_costs.bytes_needed(sizes, 4, tokens, 5) for tokens in (1000, 2000, 4000)]
    assert more[2] - more[1] > 2 * (more[1] - more[0])  # attention grows with the square
    assert _costs.largest_pack(EXAMPLES, 3, 1)[0] == 12
    assert _costs.largest_pack(EXAMPLES, 3, 2) == (15, 13)  # as if all were as those with the most


def test_memory_that_is_not_there_is_refused_and_what_is_not_known_is_not(monkeypatch):
    monkeypatch.setattr(_costs, "available_memory", lambda: 10**9)
    assert _costs.check_memory(10**8) == 10**9
    with pytest.raises(MemoryError, match=r"needs about 3\.0 GB of memory, but 1\.0 GB are free"):
        _costs.check_memory(3 * 10**9)
    monkeypatch.setattr(_costs, "available_memory", lambda: None)
    assert _costs.check_memory(3 * 10**12) is None


def test_files_that_cannot_be_trained_are_refused(tmp_path):
    recurrent = write_tiny_gguf(tmp_path / "mamba.gguf", arch="mamba")
    with pytest.raises(ValueError, match="'mamba', which cannot be fine-tuned here"):
        _costs.check_readable(tmp_path / "mamba.gguf")
    for k in (1, 2):
        (tmp_path / f"part-0000{k}-of-00002.gguf").symlink_to(recurrent)
    with pytest.raises(ValueError, match="first of several files"):
        _costs.check_readable(tmp_path / "part-00001-of-00002.gguf")
