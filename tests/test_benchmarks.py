import ast
import json
import os
import sys
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from architecture_specs import write_architecture
from chat_templates import CHATML
from shared_data import SHARED
from test_house import body_lines
from tiny_gguf import write_tiny_gguf

from benchmarks import (
    _baselines,
    _bench,
    _data,
    _findings_figure,
    _paper,
    _scores,
    _statistics,
    architectures,
    busy,
    cores,
    curves,
    findings,
    findings_report,
    finetune,
    first_answer,
    label_tokens,
    lewidi,
    long_documents,
    nearest,
    options,
    paper_table,
    prompts,
    selective,
    speed,
    tested_models,
    thresholds,
)
from skmlmc.metrics import entropy_correlation, example_f1, l1_distance, nll

FOLDER = Path(_bench.__file__).parent
LABELS = ["anger", "fear", "joy"]
TINY = ["--test", "12", "--fit", "18", "--shots", "4", "--n-jobs", "1", "--name", "tiny"]


def documents(n=12, labels=("a", "b", "c")):
    """Answers of three annotators, n documents with none, one and several labels in turn."""
    H = np.zeros((n, len(labels)))
    H[1::3, 0] = H[2::3, :2] = 1
    H[::2] = np.where(H[::2] == 1, 2 / 3, 0)
    return _data.Documents([f"text {i}" for i in range(n)], H, list(labels), [f"id{i}" for i in range(n)])


def write_annotations(path, field="annotations", single=False):
    """Write 60 made-up documents; three annotators of whom one often disagrees."""
    rng = np.random.default_rng(0)
    words = {"anger": "angry furious", "fear": "afraid scared", "joy": "happy glad"}
    lines = []
    for i in range(60):
        given = [LABELS[i % 3]] if single else list(rng.choice(LABELS, i % 3, replace=False))
        other = [LABELS[(i + 1) % 3]] if i % 2 else given
        text = " ".join(["today I am", *(words[label] for label in given), f"about number {i}"])
        lines.append(json.dumps({"id": f"doc{i}", "text": text, field: {"x": given, "y": given, "z": other}}))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_benchmarks_do_not_grow_too_long(path):
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 440
    functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef)]
    assert {f.name: n for f in functions if (n := body_lines(f)) > 45} == {}


def test_most_frequent_labels():
    kept = _data.most_frequent(documents(), 2)
    assert kept.labels == ["a", "b"] and kept.H.shape == (12, 2)
    assert "the 1 others count as none" in kept.notes[0]
    assert _data.most_frequent(documents(), 3).notes == ()


def test_split_is_balanced_and_keeps_documents_for_demonstrations():
    test, rest = _data.split(documents(60), 30, reserved=6)
    several = (test.H > 0.5).sum(axis=1) > 1
    assert len(test.texts) == 30 and len(rest.texts) == 30 and several.sum() == 10
    assert not set(test.texts) & set(rest.texts)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scarce, left = _data.split(documents(12), 9, reserved=2)
    assert ((left.H > 0.5).sum(axis=1) > 1).any(), "the balanced test set would have taken them all"
    assert any("Too few documents" in note for note in scarce.notes)
    twins = documents(12)
    twins.texts[:] = ["the same"] * 12
    assert _data.split(twins, 6)[1].texts == [], "what is tested is not learnt from"


def test_split_as_documents_come():
    every = documents(60)
    test, rest = _data.split(every, 20, natural=True)
    assert len(test.texts) == 20 and sorted([*test.texts, *rest.texts]) == sorted(every.texts)
    assert "as frequent as they come" in test.notes[-1] and _data.split(every, 20, natural=True)[0].texts == test.texts


def test_split_by_ids(tmp_path):
    ids = tmp_path / "ids.txt"
    ids.write_text("id3\nid5\n")
    test, rest = _data.split(documents(), 6, test_ids=ids)
    assert test.ids == ["id3", "id5"] and len(rest.ids) == 10
    ids.write_text("id3\nnot-there\n")
    with pytest.raises(SystemExit, match="1 of its 2 ids are not in the data"):
        _data.split(documents(), 6, test_ids=ids)
    test, _ = _data.split(documents(), 6, test_ids=tmp_path / "absent.txt")
    assert len(test.ids) == 6 and any("absent.txt" in note for note in test.notes)


def test_scores_are_the_metrics_with_intervals_around_them():
    rng = np.random.default_rng(0)
    H, P = rng.integers(4, size=(40, 3)) / 3, rng.random((40, 3))
    row = _scores.score(H, P, 0.4)
    assert row["nll"] == pytest.approx(nll(H, P), abs=1e-4)
    assert row["l1"] == pytest.approx(l1_distance(H, P), abs=1e-4)
    assert row["example_f1"] == pytest.approx(example_f1(H > 0.5, P >= 0.4), abs=1e-4)
    assert row["entropy_correlation"] == pytest.approx(entropy_correlation(H, P), abs=1e-4)
    for metric in _scores.METRICS:
        low, high = row[f"{metric}_interval"]
        assert low < row[metric] < high


def test_scores_of_single_label_tasks():
    H = np.array([[1, 0, 0], [0, 2 / 3, 1 / 3], [0, 0, 1]])
    P = np.array([[0.4, 0.3, 0.3], [0.2, 0.5, 0.3], [0.4, 0.3, 0.3]])
    row = _scores.score(H, P, single=True)
    assert row["example_f1"] == pytest.approx(2 / 3, abs=1e-4)
    assert row["nll"] == pytest.approx(nll(H, P, multi_label=False), abs=1e-4)


def test_entropy_correlation_of_a_constant_is_left_out():
    row = _scores.score(np.array([[1, 0], [0.5, 0.5]]), np.full((2, 2), 0.3))
    assert row["entropy_correlation"] is None and row["entropy_correlation_interval"] is None
    assert paper_table.number(row, "entropy_correlation") == "-"


def test_threshold_is_the_one_with_the_best_f1():
    H = np.array([[1, 0], [1, 0], [0, 0]])
    assert _scores.best_threshold(H, np.array([[0.32, 0.2], [0.4, 0.1], [0.26, 0.2]])) == pytest.approx(0.3)


def test_out_of_fold_predictions_do_not_see_their_own_targets():
    H = np.array([[0.0], [1.0]]).repeat(10, axis=0)[np.random.default_rng(0).permutation(20)]
    proba, held_out = _scores.fit_and_predict(_baselines.BaseRate(), np.array(["x"] * 20, object), H, ["y"] * 3)
    np.testing.assert_allclose(proba, np.full((3, 1), 0.5))
    assert np.corrcoef(held_out[:, 0], H[:, 0])[0, 1] < 0


def test_paper_numbers():
    assert _paper.columns_for("HateXplain") == [("HateXplain", "70B")]
    assert _paper.cell(("MFRC", "8B"), "hard predictions") == "40.79 / 2.21 / 0.26"
    assert _paper.cell(("HateXplain", "70B"), "max-over-generations") == "-"
    methods = {paper_table.paper_method(name) for name in (*paper_table.STEPS, *paper_table.PROBES, "encoder (x)")}
    known = {name for column in _paper.TABLE.values() for name in column}
    assert known - methods == {"binary breakdown"}


@pytest.mark.parametrize("hard", [column["hard predictions"] for column in _paper.TABLE.values()])
def test_hard_predictions_of_the_paper_fit_their_own_formula(hard):
    # NLL = -ln(1e-8) * L1; the single-label form counts the right label alone, half of the L1 distance.
    assert hard[0] == pytest.approx(-np.log(1e-8) * hard[1], rel=0.02) or hard[0] == pytest.approx(
        -np.log(1e-8) * hard[1] / 2, rel=0.2
    )


def test_command_has_no_folders_of_this_machine():
    parser = _bench.make_parser("paper_table", "")
    given = ["--data", "x", "--model", "/home/me/m.gguf", "--file", "/data/x/a.jsonl", "--cache", "/c", "--n-jobs", "1"]
    args = parser.parse_args(given)
    command = _bench.command_of(parser, args)
    assert command == "python -m benchmarks.paper_table --data x --model m.gguf --file x/a.jsonl"
    assert _bench.settings_of(args) == _bench.settings_of(parser.parse_args([*given, "--n-jobs", "2"]))
    assert _bench.settings_of(args) != _bench.settings_of(parser.parse_args([*given, "--shots", "2"]))


@pytest.mark.parametrize(
    ("value", "interval", "at_most", "verdict"),
    [
        (0.5, [0.4, 0.6], False, "holds"),
        (0.5, [0.1, 0.6], False, "unclear"),
        (0.1, [0.0, 0.2], False, "does not hold"),
        (0.1, [0.0, 0.2], True, "holds"),
        (0.5, [0.4, 0.6], True, "does not hold"),
        (0.31, None, False, "holds"),
        (0.29, None, False, "does not hold"),
        (np.nan, None, False, "not defined"),
    ],
)
def test_verdicts(value, interval, at_most, verdict):
    assert _statistics.judge(value, interval, 0.3, 20, at_most) == verdict
    assert _statistics.judge(value, interval, 0.3, 19, at_most) == "too few (n = 19)"


def test_statistics_of_findings():
    nan = [np.nan] * 3
    steps = np.array([[[0.6, 0.3, 0.1], [0.1, 0.8, 0.1]], [[0.2, 0.7, 0.1], nan]])
    assert _statistics.top_probability(steps, lambda v: v["step"] == 1) == pytest.approx(0.65)
    assert np.isnan(_statistics.top_probability(steps, lambda v: v["step"] == 3))
    assert _statistics.last_against_intermediate(steps) == pytest.approx((0.8 + 0.7) / 2 - 0.6)
    assert _statistics.first_minus_second(steps, np.array([[1, 0], [0, 0]])) == 1
    assert np.isnan(_statistics.first_minus_second(steps[1:], np.array([[1, 0]])))
    assert _statistics.share_in_order(steps, ["x", "y"], "prompt", ["y", "x"]) == 0
    looks = {"earlier labels": {0: [0.2], 1: [0.4, 0.6]}, "input": {0: [0.1], 1: [0.1, 0.1]}}
    assert _statistics.attention_ratio(looks, [1]) == pytest.approx(5)
    assert np.isnan(_statistics.attention_ratio(looks, [2]))


@pytest.mark.parametrize(("share", "expected"), [(0, 0), (0.5, 2), (1, 3)])
def test_demonstrations_with_several_labels(share, expected):
    several = np.array([True] * 3 + [False] * 7)
    chosen = _statistics.draw_demonstrations(several, 4, share)
    assert len(set(chosen)) == 4 and several[chosen].sum() == expected


def test_unknown_data_need_a_file():
    with pytest.raises(SystemExit, match="any name with --file"):
        _data.load("nothing")


@pytest.mark.campaign
def test_paper_table_from_end_to_end(tiny_model, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    file = write_annotations(tmp_path / "made_up.jsonl")
    given = ["--data", "made_up", "--file", str(file), "--model", tiny_model, "--out", str(tmp_path), *TINY]
    given = [str(word) for word in [*given, "--wording", "emotions", "--pairs", "6"]]
    paper_table.main(given)
    path = tmp_path / "paper-made_up-tiny.json"
    result = json.loads(path.read_text())
    rows = {row["method"]: row for row in result["rows"]}
    assert len(rows) == 12 and result["labels"] == LABELS and rows["binary breakdown"]["documents"] == 6
    assert all(np.isfinite(row[metric]) for row in rows.values() for metric in ("nll", "l1", "example_f1"))
    text = path.with_suffix(".md").read_text()
    assert "binary breakdown, the first 6 documents" in text and str(tmp_path) not in text
    assert "No encoder row" in text and "4.04 / 1.27 / 0.39" in text
    assert path.with_suffix(".png").stat().st_size > 10_000
    # A run that was stopped goes on: the rows that are there are kept as they are, others are computed.
    result["rows"] = [{**row, "nll": -1} for row in result["rows"][:5]]
    path.write_text(json.dumps(result))
    monkeypatch.setattr(paper_table.PaperTable, "probe", lambda self, **params: 1 / 0)
    paper_table.main(given)
    again = json.loads(path.read_text())["rows"]
    assert [row["nll"] for row in again[:5]] == [-1] * 5
    assert [row["nll"] for row in again[5:]] == [row["nll"] for row in list(rows.values())[5:]]


@pytest.mark.campaign
def test_paper_table_of_a_single_label_task(tiny_model, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    file = write_annotations(tmp_path / "made_up.jsonl", field="class", single=True)
    ids = tmp_path / "ids.txt"
    ids.write_text("\n".join(f"doc{i}" for i in range(0, 60, 5)))
    given = ["--data", "hatexplain", "--file", file, "--model", tiny_model, "--out", tmp_path, "--test-ids", ids]
    paper_table.main([str(word) for word in [*given, *TINY]])
    rows = json.loads((tmp_path / "paper-hatexplain-tiny.json").read_text())["rows"]
    names = [row["method"] for row in rows]
    assert "compare-to-none + matrix" in names and not {*paper_table.NOT_SINGLE} & {*names}
    assert "1.66 / 0.81 / 0.58" in (tmp_path / "paper-hatexplain-tiny.md").read_text()


def test_finetune_from_end_to_end(tmp_path, monkeypatch):
    for package in ("torch", "transformers", "accelerate"):
        pytest.importorskip(package, reason=f"fine-tuning needs {package} (skmlmc[finetune])")
    model = write_tiny_gguf(tmp_path / "soft.gguf", scale=0.1)
    file, sizes = write_annotations(tmp_path / "annotations.jsonl"), ["--sizes", "0", "12", "400"]
    given = [str(w) for w in ["--data", "made-up", "--file", file, "--model", model, "--out", tmp_path, *TINY, *sizes]]
    finetune.main(given)
    result = json.loads((tmp_path / "finetune-made-up-tiny.json").read_text())
    kinds = ["base rate", "TF-IDF + logistic regression", "stack", "annotators", "majority"]
    assert [*result["cells"]] == ["0 the model as it came", *(f"12 {kind}" for kind in kinds)]
    cell = result["cells"]["12 annotators"]
    readouts = ["hard", "max", "marginal", "compare-to-none"]
    assert [*cell["rows"]] == [*readouts, finetune.TOGETHER] and 0 < cell["shape"]["top1"] <= 1
    assert min(loss for _, loss in cell["history"]) < cell["history"][0][1]
    row, rate = cell["rows"]["marginal"], result["cells"]["12 base rate"]["rows"]["base rate"]
    apart, low, high = row["nll minus base rate"]
    assert low <= apart <= high and apart == pytest.approx(row["nll"] - rate["nll"], abs=1e-3)
    page = (tmp_path / "finetune-made-up-tiny.md").read_text()
    assert page.count("\n| 12 |") == 3 + 5 + 5 + 2 and "    python -m benchmarks.finetune --data made-up" in page
    monkeypatch.setattr(finetune.Finetune, "cell", lambda self, *cell: 1 / 0)
    finetune.main(given)  # all cells are kept
    monkeypatch.undo()
    finetune.main([*given[:-2], "15", "--targets", "member", "--device", "cpu"])
    cells = json.loads((tmp_path / "finetune-made-up-tiny.json").read_text())["cells"]
    assert len(cells) == len(result["cells"]) + 4, "those of other runs are kept"


def test_annotations_go_along_with_their_documents():
    said = [{"x": ["a", "b"]}, {"x": ["b"], "y": ["c"]}]
    given = _data.Documents(["one", "two"], np.array([[1, 1, 0], [0, 0.5, 0.5]]), ["a", "b", "c"], ["1", "2"], (), said)
    assert given.take([1, 0]).annotations == said[::-1]
    assert _data.most_frequent(given, 2).annotations == [{"x": ["a", "b"]}, {"x": ["b"], "y": []}]
    assert documents().take([0]).annotations is None


def test_lewidi_from_end_to_end(tiny_model, tmp_path):
    """A scale and a yes-no task; the page has the published score where there is one."""
    levels = {"some": ("1", "2", "3"), "HS-Brexit": ("0", "1")}
    for name, words in levels.items():
        for part in ("train", "test"):
            rows = {
                str(i): {
                    "text": f"the {('good', 'bad', 'odd')[i % 3]} document {i} {part}",
                    "annotation task": "sarcasm detection",
                    "annotators": "A,B",
                    "annotations": {"A": words[i % len(words)], "B": words[i // 2 % len(words)]},
                    "split": part,
                }
                for i in range(30 if part == "train" else 8)
            }
            (tmp_path / f"{name}_{part}.json").write_text(json.dumps(rows))
        files = ["--train", tmp_path / f"{name}_train.json", "--test", tmp_path / f"{name}_test.json"]
        given = [*files, "--model", tiny_model, "--name", "tiny", "--out", tmp_path]
        lewidi.main([str(word) for word in given])
        result = json.loads((tmp_path / f"lewidi-{name}_test-tiny.json").read_text())
        page = (tmp_path / f"lewidi-{name}_test-tiny.md").read_text()
        assert [row["method"] for row in result["rows"]][1:] == [
            "constant base rate",
            "TF-IDF + logistic regression",
            "linear probe",
            "stack",
        ]
        least = result["rows"][0]["cross-entropy"][0]
        assert all(row["cross-entropy"][0] >= least for row in result["rows"])
        assert result["rows"][0]["Manhattan"][0] == 0
        assert ("An entry of 2023" in page) == (name == "HS-Brexit") == ("Wasserstein" not in page)


def test_what_cannot_be_drawn_is_said_in_words():
    tables = {name: {column: [0.5], key: ["all"]} for name, (_, column, _, key, _) in _findings_figure.PANELS.items()}
    assert _findings_figure.not_drawn(tables) == ""
    tables["answer_order"] = {"alphabetical": [None, 0.5, np.nan], "prompt order": ["a", "b", "c"]}
    tables["second_ranked"] = {"not_next": [], "step": []}
    tables["probe_own_labels"] = {"auc": [None], "target": ["pred"]}
    assert _findings_figure.not_drawn(tables) == (
        "Not drawn, as no answer has several labels: Table 4, a and c in Table 7. Not drawn, as no label is in some of "
        "the answers and not in others: Figure 7."
    )


def test_report_of_findings(tmp_path):
    def found(several, *verdicts):
        findings = [{"finding": f"f{k}", "value": 0.25, "verdict": verdict} for k, verdict in enumerate(verdicts)]
        return {"data": "d", "model": "m", "n_test": 9, "settings": {"several": several}, "findings": findings}

    runs = {"a": found(1.0, "holds", "too few (n = 2)"), "b": found(1.0, "does not hold", "unclear"), "c": found(0.5)}
    for name, run in runs.items():
        (tmp_path / f"findings-{name}.json").write_text(json.dumps(run))
    (tmp_path / "findings-c.json").write_text(json.dumps(found(0.5, "holds", "not defined")))
    findings_report.main(["--out", str(tmp_path)])
    first, second = (tmp_path / "findings.md").read_text().split("## ")[1:]
    assert "| f0 | 1 of 2 | **holds**, 0.25 | no, 0.25 |\n| f1 | 0 of 1 | - | unclear, 0.25 |" in first
    assert second.startswith("50% of the demonstrations have several labels, the paper's")
    assert "| f0 | 1 of 1 | **holds**, 0.25 |\n| f1 | 0 of 0 | - |" in second
    with pytest.raises(SystemExit):
        findings_report.main(["--out", str(tmp_path / "nothing")])


def test_findings_from_end_to_end(tiny_model, tmp_path):
    pytest.importorskip("matplotlib")
    file = write_annotations(tmp_path / "made_up.jsonl")
    given = ["--data", "made_up", "--file", file, "--model", tiny_model, "--out", tmp_path, "--several", "1"]
    findings.main([str(word) for word in [*given, *TINY, "--sweep", "4", "--orders", "6", "--attention", "4"]])
    path = tmp_path / "findings-made_up-tiny-several-1.json"
    result = json.loads(path.read_text())
    assert len(result["findings"]) == 13 and set(result["tables"]) == set(findings.TITLES)
    assert path.with_suffix(".png").stat().st_size > 10_000
    # Where no answer has several labels, these tables are empty.
    for name in ("second_ranked", "accuracy_by_step", "attention_to_labels"):
        result["tables"][name] = {column: [] for column in result["tables"][name]}
    several = "no answer has several labels: Table 4, Figure 5, "
    assert several in _findings_figure.not_drawn(result["tables"])
    _findings_figure.draw(result, np.array([[[0.5, 0.2, 0.3]]] * 4), tmp_path / "one.png")
    assert (tmp_path / "one.png").stat().st_size > 10_000
    findings_report.main(["--out", str(tmp_path)])
    page = (tmp_path / "findings.md").read_text()
    assert "## 100% of the demonstrations have several labels\n" in page and "[made_up, tiny](findings-made_up" in page
    with pytest.raises(SystemExit):
        findings.main(["--data", "hatexplain", *map(str, given[2:]), *TINY])


@pytest.mark.parametrize("method", ["max_over_generations", "compare_to_none"])
def test_the_handbook_counts_what_label_tokens_found(method):
    page = (FOLDER.parent / "docs/guide/method.md").read_text(encoding="utf-8")
    results = [json.loads(path.read_text()) for path in sorted((FOLDER / "results").glob("label_tokens-*.json"))]
    counts = []
    for metric, sign in (("nll", 1), ("l1", 1), ("example_f1", -1)):
        ends = [row[f"{metric}_difference"] for r in results for row in r["rows"] if row["method"] == method]
        assert len(ends) == 12
        counts += [sum(max(sign * low, sign * high) < 0 for low, high in ends)]
        counts += [sum(min(sign * low, sign * high) > 0 for low, high in ends)]
    assert f"| `{method}` | {' | '.join(map(str, counts))} |" in page
    for result in results:
        times = result["cost"]["whole"] / result["cost"]["first"]
        assert f"[{times:.2f}](../../benchmarks/results/label_tokens-{result['data']}-{result['model']}.md)" in page


def test_label_tokens_from_end_to_end(tiny_model, tmp_path):
    file = write_annotations(tmp_path / "made_up.jsonl")
    wordings = {"joy": "joy or relief", "fear": "fear or worry", "anger": "anger or annoyance"}
    (tmp_path / "words.json").write_text(json.dumps(wordings), encoding="utf-8")
    given = ["--data", "made_up", "--file", file, "--model", tiny_model, "--out", tmp_path, "--timed", "2"]
    given += ["--wording", "kinds of joy", "--label-wordings", tmp_path / "words.json"]
    label_tokens.main([str(word) for word in [*given, *TINY, "--methods", "compare_to_none"]])
    path = tmp_path / "label_tokens-made_up-tiny.json"
    result = json.loads(path.read_text())
    assert list(result["labels"].items()) == [(label, wordings[label]) for label in LABELS]
    (found,) = result["rows"]
    assert len(found["nll"]) == 2 and found["nll"][0] != found["nll"][1]
    low, high = found["nll_difference"]
    assert low <= found["nll"][1] - found["nll"][0] <= high
    assert "--wording 'kinds of joy'" in path.with_suffix(".md").read_text()


@pytest.mark.parametrize("single", [False, pytest.param(True, marks=pytest.mark.campaign)])
def test_curves_from_end_to_end(single, tiny_model, tiny_encoder, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    field = {"field": "class", "single": True} if single else {}
    name = "hatexplain" if single else "made_up"
    file = write_annotations(tmp_path / "made_up.jsonl", **field)
    given = ["--data", name, "--file", file, "--model", tiny_model, "--out", tmp_path, *TINY, "--encoder", tiny_encoder]
    given = [*map(str, given), "--sizes", "6", "12", "--f1", "12", "--answers", "12"]
    curves.main(given)
    path = tmp_path / f"curves-{name}-tiny.json"
    result = json.loads(path.read_text())
    means = {(row["metric"], row["method"], row["size"]): row["draws"] for row in result["means"]}
    assert len(means["nll", curves.STACK, 6]) == 3 and len(means["nll", curves.STACK, 12]) == 1
    assert len(means["nll", curves.ZERO_SHOT, 0]) == 1 and ("nll", "demonstrations + matrix", 12) in means
    assert ("example_f1", curves.STACK, 12) in means and ("example_f1", curves.STACK, 6) not in means
    kept = json.loads((tmp_path / "cache" / path.name).read_text())["rows"]
    scores = {(row["method"], row["size"], row["draw"]): row["nll"] for row in kept}
    for row in (row for row in result["paired"] if row["metric"] == "nll"):
        draws = range(len(means["nll", row["method"], row["size"]]))
        each = np.mean(
            [np.subtract(*(scores[row[side], row["size"], k] for side in ("method", "minus"))) for k in draws], axis=0
        )
        assert row["difference"] == pytest.approx(each.mean(), abs=1e-4) and row["low"] <= each.mean() <= row["high"]
    page = path.with_suffix(".md").read_text()
    assert str(tmp_path) not in page and path.with_suffix(".png").stat().st_size > 10_000
    # What is there is not computed again, with other sizes neither.
    monkeypatch.setattr(curves.Curves, "row", lambda self, *args: 1 / 0)
    curves.main([*given[:-7], "--sizes", "12", "--f1", "12", "--answers", "0"])
    assert all(row["size"] == 12 for row in json.loads(path.read_text())["means"])
    monkeypatch.undo()
    cache = tmp_path / "cache" / path.name
    for row in (rows := json.loads(cache.read_text()))["rows"]:
        row.pop("example_f1", None)  # as of a run that wanted none at this size
    cache.write_text(json.dumps(rows))
    curves.main([*given[:-7], "--sizes", "12", "--f1", "12", "--answers", "0"])
    assert "example_f1" in {row["metric"] for row in json.loads(path.read_text())["means"]}
    curves.main(["--report", "--out", str(tmp_path)])
    report = (tmp_path / "curves.md").read_text()
    assert f"| {name} | tiny | NLL | " in report and f"## {curves.WITH_ENCODER}: against the best of TF-IDF" in report


def test_prompts_of_a_model_without_a_chat_template(tiny_model, tmp_path):
    file = write_annotations(tmp_path / "made_up.jsonl")
    args = prompts.make_parser("prompts", "").parse_args(
        [str(w) for w in ["--data", "made_up", "--file", file, "--model", tiny_model, "--out", tmp_path, *TINY]]
    )
    forms = list(prompts.Prompts(args).forms())
    assert len(forms) == 8 and {mode for _, _, mode, _ in forms} == {"plain"}


def test_prompts_from_end_to_end(tiny_chat_model, tmp_path, monkeypatch):
    file = write_annotations(tmp_path / "made_up.jsonl")
    given = ["--data", "made_up", "--file", file, "--model", tiny_chat_model, "--out", tmp_path, *TINY]
    given = [str(word) for word in [*given, "--wording", "emotions"]]
    prompts.main(given)
    path = tmp_path / "prompts-made_up-tiny.json"
    rows = json.loads(path.read_text())["rows"]
    assert len({prompts.form(row) for row in rows}) == len(rows) == 12
    first, other = rows[0], rows[1]
    assert first["nll_difference"] == [0, 0] and first["mode"] == "chat" and first["shots"] == 0
    low, high = other["nll_difference"]
    assert low <= other["nll"] - first["nll"] <= high and other["beginning_mass"] == 1 > first["beginning_mass"]
    assert "| 4 | labels | plain | json |" in path.with_suffix(".md").read_text()
    monkeypatch.setattr(prompts.Prompts, "row", lambda self, *args: 1 / 0)
    prompts.main(given)
    prompts.main(["--report", "--out", str(tmp_path)])
    assert "| 0 | the default | chat | json | 0 / 0 | 0 / 0 | 0 / 0 |" in (tmp_path / "prompts.md").read_text()


def test_options_from_end_to_end(tiny_model, tmp_path, monkeypatch):
    file, told = write_annotations(tmp_path / "made_up.jsonl"), tmp_path / "told.json"
    given = ["--data", "made_up", "--file", file, "--model", tiny_model, "--out", tmp_path, *TINY]
    given = [str(word) for word in [*given, "--descriptions", told, "--timed", "3"]]
    told.write_text(json.dumps({"made_up": {"anger": "furious", "fear": "afraid"}}))
    with pytest.raises(SystemExit, match="expected under 'made_up' a text for each of"):
        options.main(given)
    told.write_text(json.dumps({"made_up": {"anger": "furious {x}", "fear": "afraid", "joy": "glad"}}))
    options.main([*given, "--only", "descriptions", "content_free"])
    path = tmp_path / "options-made_up-tiny.json"
    assert [row["option"] for row in json.loads(path.read_text())["rows"]] == ["descriptions", "content_free"]
    made, row = [], options.Options.row
    monkeypatch.setattr(options.Options, "row", lambda self, name, option: made.append(name) or row(self, name, option))
    options.main(given)
    rows = {row["option"]: row for row in json.loads(path.read_text())["rows"]}
    assert len(rows) == 8 and set(made) == set(rows) - {"descriptions", "content_free"}  # what is there is kept
    for found in rows.values():
        for metric in options.TITLES:
            (off, on), (low, high) = found[metric], found[f"{metric}_difference"]
            assert low - 1e-4 <= on - off <= high + 1e-4
        assert min(found["speed"]) > 0
    plain = {found["nll"][0] for name, found in rows.items() if "question" not in name}
    assert len(plain) == 1 and rows["descriptions"]["nll"][1] not in plain
    assert rows["n_label_orders, auto"]["label_orders"] > 1
    assert "| descriptions, a question a label, told once |" in path.with_suffix(".md").read_text()
    options.main(["--report", "--out", str(tmp_path)])
    page = (tmp_path / "options.md").read_text()
    assert "* made_up, tiny. The base rates of the others, given to every document: NLL " in page
    assert "## content_free\n\nBetter / worse of 1 runs: NLL " in page and "| made_up | tiny | 12 |" in page


def test_the_data_sets_of_the_table_have_descriptions():
    told = json.loads(options.DESCRIPTIONS.read_text())
    assert {"stackoverflow_emotions", "hatexplain_targets", "hs_brexit"} <= set(told)
    assert all(text.strip() for texts in told.values() for text in texts.values())


def test_busy_from_end_to_end(tiny_model, tmp_path, monkeypatch):
    started, popen = [], busy.subprocess.Popen
    noted = SimpleNamespace(Popen=lambda *args: started.append(popen(*args)) or started[-1])
    monkeypatch.setattr(busy, "subprocess", noted)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    options = ["--model", str(tiny_model), "--name", "tiny", "--out", str(tmp_path), "--labels", "3"]
    busy.main([*options, "--others", "0", "1", "--rounds", "1", "--seconds", "0.01"])
    result = json.loads((tmp_path / "busy-tiny.json").read_text())
    assert [row["others"] for row in result["rows"]] == [0, 1] and [row["others"] for row in result["changes"]] == [1]
    assert all(min(row["default"], row["one"], row["all"], row["ratio"]) > 0 for row in result["rows"])
    assert "1 others come: slowest document" in (tmp_path / "busy-tiny.md").read_text()
    with pytest.raises(ZeroDivisionError), busy.busy(1):
        1 / 0  # noqa: B018
    assert len(started) == 3 and all(other.poll() is not None for other in started)


def test_cores_from_end_to_end(tiny_model, tmp_path):
    options = ["--model", str(tiny_model), "--name", "tiny", "--out", str(tmp_path), "--labels", "3", "--cores", "2"]
    cores.main([*options, "--documents", "2", "--rounds", "1"])
    rows = json.loads((tmp_path / "cores-tiny.json").read_text())["rows"]
    assert [(r["processes"], r["threads"]) for r in rows] == [(1, 1), (1, 2), (2, 1), (1, "default")]
    assert all(row["rate"] > 0 for row in rows) and rows[1]["ratio"] == 1
    assert "| 2 | 1 |" in (tmp_path / "cores-tiny.md").read_text()


def test_first_answer_from_end_to_end(tiny_model, tmp_path):
    first_answer.main(["--model", str(tiny_model), "--name", "tiny", "--out", str(tmp_path), "--rounds", "1"])
    rows = json.loads((tmp_path / "first-answer-tiny.json").read_text())["rows"]
    assert [row["what"] for row in rows] == ["warm", "cold file", "once: with the trial run"]
    assert all(0 < row["load"] + row["prefix"] < row["first"] and row["next"] > 0 for row in rows)
    assert "| cold file |" in (tmp_path / "first-answer-tiny.md").read_text()


def test_speed_of_hidden_states(tiny_model, tmp_path, monkeypatch):
    options = ["speed", "--model", str(tiny_model), "--name", "tiny", "--out", str(tmp_path), "--only", "depth"]
    monkeypatch.setattr(sys, "argv", [*options, "--documents", "6", "--rounds", "1", "--demonstrations", "0"])
    monkeypatch.setattr(speed._engine.C, "llama_decode", speed._engine.C.llama_decode)  # which it counts, put back
    monkeypatch.setattr(speed, "STATES", {"first": {"layer": 0, "pooling": "mean"}})
    monkeypatch.setattr(speed, "LONG", speed.SHORT)
    monkeypatch.setattr(speed, "PromptSpeed", lambda *args: lambda: 1000.0)
    speed.main()
    rows = json.loads((tmp_path / "speed-tiny.json").read_text())["rows"]
    assert len(rows) == 2 and all(row["rate"] > 0 and row["share"] > 0 for row in rows)
    assert "hidden states, first, short documents" in (tmp_path / "speed-tiny.md").read_text()


def test_architectures_of_a_folder(tmp_path):
    write_architecture(tmp_path / "llama-dense.gguf", "llama")
    write_architecture(tmp_path / "llada-dense.gguf", "llada")
    architectures.main([str(tmp_path), "--out", str(tmp_path)])
    rows = json.loads((tmp_path / "architectures.json").read_text())["rows"]
    assert rows["llada-dense"]["kind"] == "diffusion" and "a diffusion model" in rows["llada-dense"]["refused"]
    assert architectures.is_exact(rows["llama-dense"]["steps"]) and architectures.is_exact(rows["llama-dense"]["layer"])
    assert "1 of 2 generate text. Of these, 1 are answered exactly" in (tmp_path / "architectures.md").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems start a process afresh, without what is patched")
@pytest.mark.parametrize(
    ("act", "words"), [(lambda path: os._exit(3), "ENDED with exit code 3"), (lambda path: time.sleep(60), "NO ANSWER")]
)
def test_an_architecture_may_end_its_process(act, words, monkeypatch):
    monkeypatch.setattr(architectures, "examine", act)
    assert words in architectures.examine_elsewhere("model.gguf", seconds=0.5)["refused"]


def test_tested_models_of_a_folder(tmp_path):
    for folder in ("chat_templates", "vocabularies"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    for name, source in (("sound", CHATML), ("thinks", CHATML + "<think>"), ("fails", "{{ functions.name }}")):
        (tmp_path / f"data/chat_templates/{name}.jinja").write_text(source, encoding="utf-8")
    write_tiny_gguf(tmp_path / "data/vocabularies/tiny.gguf")
    given = ["--shared", str(tmp_path), "--out", str(tmp_path)]
    tested_models.main([*given, "--architectures", str(FOLDER / "results/architectures.json")])
    page = (tmp_path / "models.md").read_text(encoding="utf-8")
    assert (
        "3 chat templates of real models: 2 chat, 1 plain; thinking in chats: 1 nothing to do, 1 ended at once." in page
    )
    assert "| llada-dense | refused: diffusion |" in page and "| llama-dense | exact |" in page
    assert "| tiny | gpt2 |" in page and "'functions' is undefined |" in page
    with pytest.raises(SystemExit, match="Expected data/chat_templates"):
        tested_models.main(["--shared", str(tmp_path / "none"), "--out", str(tmp_path)])


def test_the_handbook_counts_what_was_tested():
    lines = (FOLDER / "results/models.md").read_text(encoding="utf-8").splitlines()
    handbook = " ".join((FOLDER.parent / "docs/models.md").read_text(encoding="utf-8").split())
    counts = [line for line in lines if line.startswith("* ")]
    assert len(counts) == 3 and all(line in handbook for line in counts)


@pytest.mark.skipif(
    not (SHARED / "chat_templates").is_dir(), reason="needs the templates of real models in shared/data"
)
def test_tested_models_are_those_of_the_page(tmp_path):
    given = ["--shared", str(SHARED.parent), "--architectures", str(FOLDER / "results/architectures.json")]
    tested_models.main([*given, "--out", str(tmp_path)])
    assert (tmp_path / "models.md").read_bytes() == (FOLDER / "results/models.md").read_bytes()


def test_thresholds(tmp_path):
    """Learned ones are no worse for what they were learned for, and both tables say what was measured."""
    path = write_annotations(tmp_path / "made.jsonl")
    options = ["--data", "made", "--out", str(tmp_path)]
    thresholds.main([*options, "--file", str(path), "--sizes", "30", "--test", "20"])
    thresholds.main([*options, "--report"])
    found = json.loads((tmp_path / "thresholds-made.json").read_text(encoding="utf-8"))
    (row,) = (row for row in found["rows"] if not row["balanced"])
    assert row["a label"] >= row["0.5"] - 0.05
    (risk,) = found["risks"]
    for name in ("0.5", "a label"):
        assert risk[f"{name}/oracle"] <= risk[f"{name}/entropy"]
        assert risk[f"{name}/random"] == pytest.approx(1 - row[name])
    page = (tmp_path / "thresholds.md").read_text(encoding="utf-8")
    assert "## made (60 documents, 3 labels)" in page
    assert (
        f"| 30 | as drawn | {row['0.5']:.3f} |" in page and f"| 30 | a label | {risk['a label/random']:.3f} |" in page
    )


def test_selective_from_end_to_end(tiny_model, tmp_path):
    given = ["--data", "made", "--file", write_annotations(tmp_path / "made.jsonl"), "--model", tiny_model]
    given = [str(word) for word in [*given, "--out", tmp_path, *TINY, "--orders", "2", "--timed", "2"]]
    selective.main(given)
    rows = json.loads((tmp_path / "selective-made-tiny.json").read_text(encoding="utf-8"))["rows"]
    kinds = [(name, learned) for name in ("platt", "stack") for learned in (False, True)]
    assert [(row["classifier"], row["learned"]) for row in rows] == kinds
    for (plain, tuned), n_criteria in zip(selective.pairs({"rows": rows}), (4, 2), strict=True):
        low, high = tuned["example_f1_difference"]
        assert low - 1e-4 <= tuned["example_f1"] - plain["example_f1"] <= high + 1e-4
        assert (plain["nll"], plain["l1"]) == (tuned["nll"], tuned["l1"]) and len(tuned["criteria"]) == n_criteria
        assert min(tuned["speed"]) > 0
    found = [(row["oracle"], each) for row in rows for each in row["criteria"].values()]
    assert all(oracle <= each["area"] and 0 <= each["coverage"] <= 1 for oracle, each in found)
    page = (tmp_path / "selective-made-tiny.md").read_text(encoding="utf-8")
    assert "| platt | learned | disagreement |" in page and "| stack | learned | label_mass |" not in page
    selective.main(["--report", "--out", str(tmp_path)])
    page = (tmp_path / "selective.md").read_text(encoding="utf-8")
    assert "| made | tiny | platt |" in page and "| stack | 0.5 | entropy |" in page


def test_what_abstaining_gains():
    losses, uncertainty = np.array([0.0, 0.0, 1.0, 0.0] * 10), np.array([1.0, 2.0, 4.0, 3.0] * 10)
    found = selective.abstaining(losses, uncertainty, uncertainty < 3.5)
    area = sum(k / (30 + k) for k in range(1, 11)) / 40  # the ten that are wrong come last
    assert found["area"] == round(area, 4) and found["coverage"] == 0.75 and found["gain"] == 0.25
    low, high = found["area_difference"]
    assert low <= area - 0.25 <= high < 0
    worst = selective.abstaining(losses, -uncertainty, np.array([False] * 40))
    assert worst["area"] == round((10 + sum(10 / k for k in range(11, 41))) / 40, 4)
    assert worst["gain"] is worst["gain_interval"] is None
    both = [{"criteria": {"entropy": each}} for each in (found, worst)]
    assert selective.counted(both, "entropy")[::2] == ("1 / 1", "1 / 0", "0.38")


def test_long_documents_from_end_to_end(tiny_chat_model, tmp_path):
    path = write_annotations(tmp_path / "made.jsonl")
    given = ["--data", "made", "--file", str(path), "--model", tiny_chat_model, "--out", str(tmp_path), *TINY]
    long_documents.main([*given, "--joined", "6", "--fit-joined", "8", "--parts", "3", "--size", "60", "--timed", "2"])
    rows = json.loads((tmp_path / "long_documents-made-tiny.json").read_text(encoding="utf-8"))["rows"]
    ways = ("end", "start", "whole", *(f"chunks, {how}" for how in long_documents.POOLINGS), "chunks that overlap, max")
    kinds = [(target, aligned, way) for target in ("any", "max") for aligned in (False, True) for way in ways]
    assert [(row["target"], row["aligned"], row["way"]) for row in rows] == kinds
    by_kind = dict(zip(kinds, rows, strict=True))
    assert by_kind["any", False, "end"]["nll_difference"] == [0, 0]
    assert len({by_kind["any", False, way]["l1"] for way in ways}) > 4
    assert "| any | no | chunks, noisy_or |" in (tmp_path / "long_documents-made-tiny.md").read_text(encoding="utf-8")
    long_documents.main(["--report", "--out", str(tmp_path)])
    assert "| any | no | end | 0 / 0 (" in (tmp_path / "long_documents.md").read_text(encoding="utf-8")


def test_joined_documents_and_their_targets():
    texts, shares = long_documents.join(documents(6), 4, 2, seed=0)
    assert len(texts) == 4 and all(len(text.split("\n\n")) == 2 for text in texts) and shares.shape == (4, 2, 3)
    given = np.array([[[0.5, 0.0], [0.5, 1.0]]])
    assert long_documents.TARGETS["any"](given).tolist() == [[0.75, 1.0]]
    assert long_documents.TARGETS["max"](given).tolist() == [[0.5, 1.0]]


def test_tally_counts_what_is_beyond_the_interval():
    rows = [{"nll": v, "nll_difference": d} for v, d in ((0.2, [-0.2, -0.1]), (0.4, [0.1, 0.2]), (0.6, [-0.1, 0.1]))]
    assert long_documents.tally(rows, "nll") == "1 / 1 (0.400)"
    assert (
        long_documents.tally([{"example_f1": 0.5, "example_f1_difference": [0.1, 0.2]}], "example_f1")
        == "1 / 0 (0.500)"
    )


def test_nearest_from_end_to_end(tiny_chat_model, tiny_encoder, tmp_path):
    path = write_annotations(tmp_path / "made.jsonl")
    given = ["--data", "made", "--file", str(path), "--model", tiny_chat_model, "--out", str(tmp_path), *TINY]
    nearest.main([*given, "--encoder", tiny_encoder, "--timed", "2"])
    rows = json.loads((tmp_path / "nearest-made-tiny.json").read_text(encoding="utf-8"))["rows"]
    shown = ["fixed", "none", "nearest by TF-IDF", "nearest hidden states", "nearest embeddings"]
    assert [row["shown"] for row in rows] == shown and rows[0]["l1_difference"] == [0, 0]
    assert len({row["nll"] for row in rows}) > 2 and all(row["a_second"] > 0 for row in rows)
    nearest.main(["--report", "--out", str(tmp_path)])
    assert "| fixed | 0 / 0 (" in (tmp_path / "nearest.md").read_text(encoding="utf-8")
