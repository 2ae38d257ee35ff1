"""Loaders, on small made-up files in the owners' formats and on the real ones where they lie beside the project."""

import ast
import csv
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.utils import Bunch

from skmlmc.datasets import (
    _abuse,
    _disagreement,
    _fetching,
    _posts,
    annotator_distribution,
    fetch_convabuse,
    fetch_goemotions,
    fetch_hatexplain,
    fetch_hs_brexit,
    fetch_mfrc,
    fetch_stackoverflow_emotions,
    load_annotations,
    load_lewidi,
    load_semeval2018,
)

REAL = Path(os.environ.get("SKMLMC_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
real = pytest.mark.skipif(not REAL.is_dir(), reason="the real data do not lie in ../shared/data")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Give a data home whose files are written by ``home.put(data set, name, content)``, as if the owners' were so."""

    def put(data_set, name, content):
        path = tmp_path / "skmlmc" / data_set / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        monkeypatch.setitem(_fetching.CHECKSUMS, name, sha256(content))
        return path

    return Bunch(put=put, offline={"data_home": tmp_path, "download_if_missing": False})


def sha256(text):
    return hashlib.sha256(text if isinstance(text, bytes) else text.encode("utf-8")).hexdigest()


def table(header, rows):
    """Return CSV as pandas writes it, which is what the owners used."""
    return pd.DataFrame(rows, columns=header).to_csv(index=False)


LINES = [
    {"id": "x", "text": "so glad", "annotations": {"a": ["joy"], "b": ["joy", "love"]}},
    {"id": "y", "text": "a table, ünlit", "annotations": {"a": []}},
]


def jsonl(rows):
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n"


def test_annotations_by_hand(tmp_path):
    file = tmp_path / "some.jsonl"
    file.write_text("\ufeff" + jsonl(LINES) + "\n", encoding="utf-8")  # a byte-order mark, a blank line
    bunch = load_annotations(file)
    assert bunch.data == ["so glad", "a table, ünlit"]
    assert bunch.target_names == ["joy", "love"]
    assert_array_equal(bunch.target, [[1, 0.5], [0, 0]])
    assert bunch.ids == ["x", "y"]
    assert bunch.annotations == [row["annotations"] for row in LINES]
    assert bunch.DESCR and "frame" not in bunch
    # The answers can be aggregated again, for agreement or the majority.
    assert_array_equal(annotator_distribution(bunch.annotations).majority, [[1, 0], [0, 0]])


def test_annotations_of_several_files_in_the_order_of_labels(tmp_path):
    files = [tmp_path / f"{row['id']}.jsonl" for row in LINES]
    for file, row in zip(files, LINES, strict=True):
        file.write_text(jsonl([{key: value for key, value in row.items() if key != "id"}]), encoding="utf-8")
    bunch = load_annotations([str(file) for file in files], labels=["love", "anger", "joy"])
    assert_array_equal(bunch.target, [[0.5, 0, 1], [0, 0, 0]])
    assert bunch.ids == ["x.jsonl:1", "y.jsonl:1"]


def test_annotations_of_another_field_may_be_single_labels(tmp_path):
    file = tmp_path / "some.jsonl"
    file.write_text(jsonl([{"text": "hm", "class": {"a": "good", "b": "bad", "c": "good"}}]))
    assert_allclose(load_annotations(file, field="class").target, [[1 / 3, 2 / 3]])


def test_frames_and_pairs(tmp_path):
    file = tmp_path / "some.jsonl"
    file.write_text(jsonl(LINES), encoding="utf-8")
    X, y = load_annotations(file, return_X_y=True)
    assert X == ["so glad", "a table, ünlit"] and isinstance(y, np.ndarray)
    bunch = load_annotations(file, as_frame=True)
    assert isinstance(bunch.data, pd.Series) and list(bunch.target.columns) == ["joy", "love"]
    assert list(bunch.frame.columns) == ["text", "joy", "love"] and len(bunch.frame) == 2
    X, y = load_annotations(file, return_X_y=True, as_frame=True)
    assert X.equals(bunch.data) and y.equals(bunch.target)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "a", "annotations": {"a": ["joy"]', "expected JSON, but got .*is the file complete"),
        ("[1]", "expected a JSON object"),
        ('{"text": 3, "annotations": {"a": []}}', "expected a JSON object"),
        ('{"text": "a"}', "expected a JSON object"),
        ('{"text": "a", "annotations": {}}', "expected at least one annotator"),
        ('{"text": "a", "annotations": {"a": [], "a": ["joy"]}}', "the key 'a' twice"),
        ('{"text": "a", "annotations": {"a": ["jooy"]}}', r"labels of \['joy', 'love'\], but got 'jooy' of 'a'"),
        ('{"text": "a", "annotations": {"a": null}}', "annotator 'a': expected a collection of labels"),
        ('{"text": "a", "annotations": {"a": [3]}}', "annotator 'a': .* the label 3"),
        ('{"id": "x", "text": "a", "annotations": {"a": []}}', "the id 'x' again"),
    ],
)
def test_malformed_lines_are_named(tmp_path, line, message):
    file = tmp_path / "some.jsonl"
    file.write_text(jsonl(LINES) + line + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=rf"some.jsonl, line 3: .*{message}"):
        load_annotations(file, labels=["joy", "love"])


def test_files_that_are_no_text_or_empty_are_named(tmp_path):
    file = tmp_path / "some.jsonl"
    file.write_bytes(jsonl(LINES).encode("latin-1"))
    with pytest.raises(ValueError, match="some.jsonl, line 2: expected UTF-8 text"):
        load_annotations(file)
    file.write_bytes(b"")
    with pytest.raises(ValueError, match="Found no document"):
        load_annotations(file)


def test_labels_that_are_no_names_are_named(tmp_path):
    with pytest.raises(TypeError, match="Got labels='joy' but expected a sequence of label names"):
        load_annotations(tmp_path / "some.jsonl", labels="joy")


def test_pandas_is_needed_for_frames_alone(tmp_path):
    file = tmp_path / "some.jsonl"
    file.write_text(jsonl(LINES), encoding="utf-8")
    code = (
        "import sys; sys.modules['pandas'] = None; sys.modules['polars'] = None; sys.modules['matplotlib'] = None\n"
        "from skmlmc.datasets import annotator_distribution, load_annotations, make_boxes\n"
        "print(load_annotations(sys.argv[1]).target.shape, make_boxes(2).target.shape)\n"
        "print('llama_cpp' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True)
    assert run.stdout.split("\n")[:2] == ["(2, 2) (2, 12)", "False"]


EMOTIONS = _posts.EMOTIONS
RATER_HEADER = [
    *"text id author subreddit link_id parent_id created_utc rater_id example_very_unclear".split(),
    *EMOTIONS,
    "neutral",
]


def rating(text, id_, rater, chosen=(), unclear=False):
    marks = [int(name in chosen) for name in [*EMOTIONS, "neutral"]]
    return [text, id_, "someone", "knitting", "t3_a", "t1_b", 1548381039.0, rater, unclear, *marks]


TSV = {
    "train": "Lovely, thank you\t18,15\tid2\nA plain table.\t27\tid1\n",
    "dev": 'He said "maybe"\t6,27\tid3\n',
    "test": "I am so sorry\t24\tid9\n",
}


@pytest.fixture
def goemotions(home, monkeypatch):
    ratings = [
        [rating("A plain table.", "id1", 1, ["neutral"]), rating("Lovely, thank you", "id2", 7, ["love"])],
        [rating("Lovely, thank you", "id2", 1, ["gratitude", "joy"]), rating("Eh?", "id5", 2, unclear=True)],
        [
            rating("A plain table.", "id1", 3, unclear=True),
            rating("Lovely, thank you", "id2", 7, ["anger"]),  # the same rater again
            rating('He said\n"maybe"', "id3", 1, ["confusion"]),
            rating('He said\n"maybe"', "id3", 2, ["neutral", "curiosity"]),
        ],
    ]
    for k, rows in enumerate(ratings, start=1):
        home.put("goemotions", f"goemotions_{k}.csv", table(RATER_HEADER, rows))
    for part, text in TSV.items():
        home.put("goemotions", f"{part}.tsv", text)
    return home


def test_goemotions_of_raters(goemotions):
    bunch = fetch_goemotions(**goemotions.offline)
    assert bunch.ids == ["id1", "id2", "id3"]  # nobody could rate id5
    assert bunch.data == ["A plain table.", "Lovely, thank you", 'He said\n"maybe"']
    assert bunch.target.shape == (3, 27) and bunch.target_names == EMOTIONS
    assert bunch.annotations[0] == {"1": []}  # neutral is none; unclear is no answer
    assert bunch.annotations[1] == {"7": ["love"], "1": ["gratitude", "joy"]}  # the first answer of a rater
    found = dict(zip(bunch.target_names, bunch.target[1], strict=True))
    assert {name: share for name, share in found.items() if share} == {"gratitude": 0.5, "joy": 0.5, "love": 0.5}


def test_goemotions_in_groups(goemotions):
    bunch = fetch_goemotions(groups=True, **goemotions.offline)
    assert bunch.target_names == ["admiration", "anger", "fear", "joy", "optimism", "sadness", "surprise"]
    assert bunch.annotations[1] == {"7": ["joy"], "1": ["admiration", "joy"]}
    assert_array_equal(bunch.target, [[0] * 7, [0.5, 0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0, 1]])


def test_the_groups_hold_every_emotion_once():
    assert sorted(e for emotions in _posts.GROUPS.values() for e in emotions) == EMOTIONS
    assert len(EMOTIONS) == 27


def test_goemotions_subsets_are_in_the_order_of_the_official_files(goemotions):
    assert fetch_goemotions(subset="train", **goemotions.offline).ids == ["id2", "id1"]
    assert fetch_goemotions(subset="dev", **goemotions.offline).ids == ["id3"]


def test_goemotions_aggregated(goemotions):
    bunch = fetch_goemotions(aggregated=True, **goemotions.offline)
    assert bunch.ids == ["id2", "id1", "id3", "id9"]
    assert bunch.data[2] == 'He said "maybe"'
    chosen = [[name for name, one in zip(EMOTIONS, row, strict=True) if one] for row in bunch.target]
    assert chosen == [["gratitude", "love"], [], ["confusion"], ["remorse"]]
    assert "annotations" not in bunch and bunch.target.dtype.kind == "i"
    X, y = fetch_goemotions(aggregated=True, subset="train", groups=True, return_X_y=True, **goemotions.offline)
    assert_array_equal(y, [[1, 0, 0, 1, 0, 0, 0], [0] * 7])


def test_malformed_goemotions_are_named(goemotions, monkeypatch):
    text = "A plain table.\t28\tid1\n"
    goemotions.put("goemotions", "dev.tsv", text)
    with pytest.raises(ValueError, match=r"dev.tsv, line 1: expected text, tab, numbers of emotions \(0 to 27\)"):
        fetch_goemotions(aggregated=True, subset="dev", **goemotions.offline)
    row = rating("x", "id1", 1)
    row[-5] = "2"
    goemotions.put("goemotions", "goemotions_2.csv", table(RATER_HEADER, [rating("x", "id0", 1), row]))
    with pytest.raises(ValueError, match="goemotions_2.csv, line 3: expected 0 or 1 for every emotion"):
        fetch_goemotions(**goemotions.offline)
    goemotions.put("goemotions", "goemotions_2.csv", table(RATER_HEADER, [rating("x", "id0", 1)])[:-20])
    with pytest.raises(ValueError, match="goemotions_2.csv, line 2: expected 37 fields"):
        fetch_goemotions(**goemotions.offline)


MFRC_HEADER = ["text", "subreddit", "bucket", "annotator", "annotation", "confidence"]


def test_mfrc(home):
    rows = [
        ["Share the cake", "cakes", "daily", "annotator01", "Equality,Care", "Confident"],
        ["Fine weather", "cakes", "daily", "annotator00", "Non-Moral", "Confident"],
        ["Share the cake", "cakes", "daily", "annotator02", "Thin Morality", "Somewhat Confident"],
        ["Share the cake", "cakes", "daily", "annotator02", "Purity", "Confident"],
    ]
    home.put("mfrc", "final_mfrc_data.csv", table(MFRC_HEADER, rows))
    bunch = fetch_mfrc(**home.offline)
    assert bunch.data == ["Share the cake", "Fine weather"] and bunch.ids == ["0", "1"]
    assert bunch.target_names == ["care", "proportionality", "equality", "purity", "authority", "loyalty"]
    assert bunch.annotations[0] == {"annotator01": ["equality", "care"], "annotator02": []}
    assert_array_equal(bunch.target, [[0.5, 0, 0.5, 0, 0, 0], [0] * 6])
    home.put("mfrc", "final_mfrc_data.csv", table(MFRC_HEADER, [*rows, ["x", "y", "z", "a", "Carre", ""]]))
    with pytest.raises(ValueError, match="final_mfrc_data.csv, line 6: expected labels among .*'thin morality'"):
        fetch_mfrc(**home.offline)
    home.put("mfrc", "final_mfrc_data.csv", table(MFRC_HEADER[:4], [row[:4] for row in rows]))
    with pytest.raises(ValueError, match=r"line 1: expected a header .* none named \['annotation'\]"):
        fetch_mfrc(**home.offline)
    home.put("mfrc", "final_mfrc_data.csv", table(MFRC_HEADER, rows) + '"half a row, as a bro')
    with pytest.raises(ValueError, match="line 6: expected a row of comma-separated values"):
        fetch_mfrc(**home.offline)
    home.put("mfrc", "final_mfrc_data.csv", table(MFRC_HEADER, [*rows, ["Café", *rows[0][1:]]]).encode("latin-1"))
    with pytest.raises(ValueError, match="final_mfrc_data.csv, line 6: expected UTF-8 text"):
        fetch_mfrc(**home.offline)


def stackoverflow_sheets(marks):
    """Build the six sheets from post -> {emotion: "xX-" marks of three raters}."""
    header = ["Group", "Set", None, "Text", "rater 1", "rater 2", "rater 3", "Gold Label"]
    sheets = {}
    for label in ("love", "joy", "surprise", "anger", "sadness", "fear"):
        rows = [list(header)]
        for (group, set_, number, text), chosen in marks.items():
            cells = [None if mark == "-" else mark for mark in chosen.get(label, "---")]
            rows.append([group, set_, number, text, *cells, ""])
        sheets[f"{label.capitalize()}_all"] = rows
    return sheets


POSTS = {
    ("A", "Pilot", 1, "That works, thank you & bye"): {"love": "xX-", "joy": "--x"},
    ("A", "Pilot", 2, "It does <not> compile"): {},
    ("B", "Pilot", 1, "Why is it so slow"): {"anger": "X--", "surprise": "X-x"},
}


@pytest.fixture
def stackoverflow(home, monkeypatch):
    def put(sheets, length=None):
        book = io.BytesIO()
        with pd.ExcelWriter(book) as writer:
            for name, rows in sheets.items():
                pd.DataFrame(rows).to_excel(writer, sheet_name=name, header=False, index=False)
        content = book.getvalue()[:length]
        home.put("stackoverflow_emotions", "Emotions_GoldSandard_andAnnotation.xlsx", content)

    put(stackoverflow_sheets(POSTS))
    return Bunch(put=put, offline=home.offline)


def test_stackoverflow_emotions(stackoverflow):
    bunch = fetch_stackoverflow_emotions(**stackoverflow.offline)
    assert bunch.data == [text for *_, text in POSTS]
    assert bunch.ids == ["A-Pilot-1", "A-Pilot-2", "B-Pilot-1"]
    assert bunch.target_names == ["anger", "fear", "joy", "love", "sadness", "surprise"]
    assert bunch.annotations[0] == {"A-rater1": ["love"], "A-rater2": ["love"], "A-rater3": ["joy"]}
    assert bunch.annotations[2] == {"B-rater1": ["anger", "surprise"], "B-rater2": [], "B-rater3": ["surprise"]}
    assert_allclose(bunch.target[0], [0, 0, 1 / 3, 2 / 3, 0, 0])


def test_malformed_workbooks_are_named(stackoverflow):
    sheets = stackoverflow_sheets(POSTS)
    sheets["Joy_all"][2] = [*sheets["Joy_all"][2][:4], "y", None, None, ""]
    stackoverflow.put(sheets)
    with pytest.raises(ValueError, match="xlsx, line 3: expected x or nothing from every rater in the sheet Joy_all"):
        fetch_stackoverflow_emotions(**stackoverflow.offline)
    sheets = stackoverflow_sheets(POSTS)
    sheets["Joy_all"][2][3] = "Another text"
    stackoverflow.put(sheets)
    with pytest.raises(ValueError, match="line 3: expected the text of A-Pilot-2 in the sheet Joy_all as in others"):
        fetch_stackoverflow_emotions(**stackoverflow.offline)
    sheets = stackoverflow_sheets(POSTS)
    sheets["Fear_all"][0][4] = "someone"
    stackoverflow.put(sheets)
    with pytest.raises(ValueError, match="line 1: expected a header with .* in the sheet Fear_all"):
        fetch_stackoverflow_emotions(**stackoverflow.offline)
    del sheets["Fear_all"]
    stackoverflow.put(sheets)
    with pytest.raises(ValueError, match="with the sheets .* could not read it .*'Fear_all' not found"):
        fetch_stackoverflow_emotions(**stackoverflow.offline)
    stackoverflow.put(stackoverflow_sheets(POSTS), length=100)
    with pytest.raises(ValueError, match="expected a whole .xlsx workbook"):
        fetch_stackoverflow_emotions(**stackoverflow.offline)


@pytest.mark.parametrize("package", ["pandas", "openpyxl"])
def test_a_workbook_needs_pandas_and_openpyxl(stackoverflow, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match="needs pandas and openpyxl .*pip install pandas openpyxl"):
        fetch_stackoverflow_emotions(**stackoverflow.offline)


SEMEVAL = "anger anticipation disgust fear joy love optimism pessimism sadness surprise trust".split()


def test_semeval2018(tmp_path):
    file = tmp_path / "2018-E-c-En-train.txt"
    header = "\t".join(["ID", "Tweet", *SEMEVAL])
    first = "\t".join(["2017-En-1", 'What a "day"', *"00001100000"])
    file.write_text(f"{header}\r\n{first}\r\n", encoding="utf-8")
    bunch = load_semeval2018(file)
    assert bunch.data == ['What a "day"'] and bunch.ids == ["2017-En-1"] and bunch.target_names == SEMEVAL
    assert_array_equal(bunch.target, [[0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0]])
    assert list(load_semeval2018(str(file), as_frame=True).target.columns) == SEMEVAL
    for line, message in [
        ("\t".join(["2017-En-2", "No labels", *["NONE"] * 11]), "line 3: expected 0 or 1 .*NONE"),
        ("2017-En-2\tCut off\t0\t1", "line 3: expected 13 tab-separated fields"),
    ]:
        file.write_text(f"{header}\n{first}\n{line}\n", encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            load_semeval2018(file)
    file.write_text(first, encoding="utf-8")
    with pytest.raises(ValueError, match="2018-E-c-En-train.txt, line 1: expected the tab-separated header ID, Tweet"):
        load_semeval2018(file)


def post(tokens, *answers):
    annotators = [{"label": label, "annotator_id": who, "target": target} for who, label, target in answers]
    return {"post_tokens": tokens, "annotators": annotators, "rationales": []}


POSTS_BY_ID = {
    "1_gab": post(
        ["a", "plain", "post"],
        (4, "normal", ["None"]),
        (7, "offensive", ["Women", "Other", "Other"]),
        (9, "normal", []),
    ),
    "2_twitter": post(["cats"], (4, "normal", ["None"]), (4, "hatespeech", ["Men"]), (5, "normal", ["Women", "None"])),
    "3_gab": post(["dogs"], (1, "normal", ["Asian"])),
}


@pytest.fixture
def hatexplain(home, monkeypatch):
    divisions = json.dumps({"train": ["2_twitter", "1_gab"], "val": ["3_gab"], "test": ["missing"]})
    posts = {name: {"post_id": name, **value} for name, value in POSTS_BY_ID.items()}
    home.put("hatexplain", "dataset.json", json.dumps(posts))
    home.put("hatexplain", "post_id_divisions.json", divisions)
    return home


def test_hatexplain_targets(hatexplain):
    bunch = fetch_hatexplain(**hatexplain.offline)
    assert bunch.data == ["a plain post", "cats", "dogs"] and bunch.ids == list(POSTS_BY_ID)
    # The second answer of annotator 4 on one post does not count.
    assert bunch.annotations[1] == {"4": [], "5": ["Women"]}
    assert bunch.target_names == ["Asian", "Men", "Other", "Women"]
    assert_allclose(bunch.target, [[0, 0, 1 / 3, 1 / 3], [0, 0, 0, 0.5], [1, 0, 0, 0]])


def test_hatexplain_classes_and_subsets(hatexplain):
    bunch = fetch_hatexplain(task="class", subset="train", **hatexplain.offline)
    assert bunch.ids == ["2_twitter", "1_gab"]
    assert bunch.target_names == ["hatespeech", "normal", "offensive"]
    assert_allclose(bunch.target, [[0, 1, 0], [0, 2 / 3, 1 / 3]])
    # Every subset has the same columns.
    assert fetch_hatexplain(subset="val", **hatexplain.offline).target.shape == (1, 4)
    with pytest.raises(ValueError, match="expected every post of the test set, but 'missing' is not there"):
        fetch_hatexplain(subset="test", **hatexplain.offline)
    with pytest.raises(ValueError, match="Got task='both' but expected one of 'targets', 'class'"):
        fetch_hatexplain(task="both")


def test_malformed_posts_are_named(hatexplain):
    for wrong in ({"post_tokens": ["a"]}, post(["a"]), post(["a"], (1, "bad", [])), ["a"]):
        hatexplain.put("hatexplain", "dataset.json", json.dumps({"9_gab": wrong}))
        with pytest.raises(ValueError, match=r"dataset.json: expected '9_gab' to have post_tokens and annotators"):
            fetch_hatexplain(**hatexplain.offline)
    hatexplain.put("hatexplain", "dataset.json", '{\n"a": {"post_tok')
    with pytest.raises(ValueError, match="dataset.json, line 2: expected JSON"):
        fetch_hatexplain(**hatexplain.offline)
    hatexplain.put("hatexplain", "dataset.json", "[]")
    with pytest.raises(ValueError, match="expected a JSON object, but got list"):
        fetch_hatexplain(**hatexplain.offline)


def tweet(text, hate, aggressive, offensive, annotators="Ann1,Ann2", **more):
    other = {"aggressive language detection": aggressive, "offensive language detection": offensive}
    task = {"annotation task": "hate speech detection", "lang": "en", "split": "dev", **more}
    return {
        "text": text,
        "annotations": hate,
        "annotators": annotators,
        "other_info": {"other annotations": other},
        **task,
    }


def put_brexit(home):
    parts = {
        "train": {"1": tweet("so it goes", "0,1", "0,1", "1,1"), "2": tweet("tea time", "0,0", "0,0", "No,0")},
        "dev": {"1": tweet("rain again", "0,0", "1,0", "0,0")},
        "test": {"1": tweet("a vote", "0,0", "0,0", "0,0")},
    }
    for part, tweets in parts.items():
        for one in tweets.values():
            one["split"] = part
        home.put("hs_brexit", f"HS-Brexit_{part}.json", json.dumps(tweets))


def test_hs_brexit(home):
    put_brexit(home)
    bunch = fetch_hs_brexit(**home.offline)
    assert bunch.ids == ["train-1", "train-2", "dev-1", "test-1"]
    assert bunch.target_names == ["hate", "aggressive", "offensive"]
    assert bunch.annotations[0] == {"Ann1": ["offensive"], "Ann2": ["hate", "aggressive", "offensive"]}
    assert_array_equal(bunch.target, [[0.5, 0.5, 1], [0, 0, 0], [0, 0.5, 0], [0, 0, 0]])
    assert fetch_hs_brexit(subset="dev", **home.offline).data == ["rain again"]
    with pytest.raises(ValueError, match="Got subset='val' but expected"):
        fetch_hs_brexit(subset="val", **home.offline)


TURNS = {"prev_agent": "Please go on.", "prev_user": "you, there", "agent": "Sure?", "user": "you dull machine"}
KINDS = "ableist homophobic intellectual racist sexist sex_harassment transphobic target.generalised target.individual"
KINDS = [*KINDS.split(), "target.system", "explicit", "implicit"]


def conversation(turns, severity, *chosen):
    """A conversation as ConvAbuse's files have them, in which the first annotator chose some kinds of abuse."""
    return {
        "text": json.dumps(turns),
        "annotation task": "abusivness detection",
        "annotators": "Ann7,Ann1",
        "annotations": severity,
        "split": "train",
        "soft_label": {"0": 0.5, "1": 0.5},
        "other_info": {"bot": "E", "other_annotations": {kind: f"{int(kind in chosen)},0" for kind in KINDS}},
    }


def put_conversations(home):
    first = conversation(TURNS, "-1,0", "intellectual", "target.system", "explicit")
    second = conversation({**dict.fromkeys(TURNS, "_"), "user": "hello"}, "1,1")
    return home.put("convabuse", "ConvAbuse_train.json", json.dumps({"1": first, "2": second}))


def test_convabuse(home):
    put_conversations(home)
    bunch = fetch_convabuse(subset="train", **home.offline)
    assert bunch.data == ["Agent: Please go on.\nUser: you, there\nAgent: Sure?\nUser: you dull machine", "User: hello"]
    assert bunch.ids == ["train-1", "train-2"] and bunch.multi_label
    assert len(bunch.target_names) == 12 and bunch.target_names[-2:] == ["explicit", "implicit"]
    assert bunch.annotations[0] == {"Ann7": ["intellectual", "system", "explicit"], "Ann1": []}
    assert_array_equal(bunch.target.sum(axis=1), [1.5, 0])
    assert fetch_convabuse(subset="train", context=False, **home.offline).data == ["you dull machine", "hello"]


@pytest.mark.parametrize(
    ("task", "n_labels", "first"),
    [
        ("type", 7, {"Ann7": ["intellectual"], "Ann1": []}),
        ("target", 3, {"Ann7": ["system"], "Ann1": []}),
        ("direction", 2, {"Ann7": ["explicit"], "Ann1": []}),
        ("severity", 5, {"Ann7": ["mildly abusive"], "Ann1": ["ambiguous"]}),
    ],
)
def test_convabuse_tasks(home, task, n_labels, first):
    put_conversations(home)
    bunch = fetch_convabuse(task=task, subset="train", **home.offline)
    assert bunch.target.shape == (2, n_labels)
    assert bunch.annotations[0] == first
    assert bunch.multi_label == (task != "severity")


def put_lewidi(tmp_path, name="some_train.json", **items):
    path = tmp_path / name
    path.write_text(json.dumps(items, ensure_ascii=False), encoding="utf-8")
    return path


def rated(answers, **more):
    """A document of the tasks of 2025, whose answers say whose they are."""
    return {
        "text": {"context": "It rains.", "response": "How nice."},
        "annotation task": "sarcasm detection",
        "annotators": ",".join(answers),
        "annotations": answers,
        "split": "train",
        "lang": "en",
        **more,
    }


def test_lewidi_yes_no_answers(tmp_path):
    """One task has two classes, several are labels; 0.0 is 0; the first of two answers of an annotator counts."""
    bunch = load_lewidi(put_lewidi(tmp_path, a=rated({"Ann1": "0.0", "Ann2": "1.0"})))
    assert bunch.target_names == ["not sarcasm", "sarcasm"] and not bunch.multi_label
    assert bunch.data == ["Context: It rains.\nResponse: How nice."] and bunch.ids == ["train-a"]
    assert_array_equal(bunch.target, [[0.5, 0.5]])
    assert bunch.annotations == [{"Ann1": ["not sarcasm"], "Ann2": ["sarcasm"]}]
    several = tweet("x", "0,1,1", "0,0,0", "1,0,0", "A,B,A")
    bunch = load_lewidi(put_lewidi(tmp_path, b=several), tasks="all")
    assert bunch.target_names == ["hate speech", "aggressive language", "offensive language"]
    assert bunch.annotations == [{"A": ["offensive language"], "B": ["hate speech"]}]
    assert bunch.info == [{name: several[name] for name in ("annotation task", "lang", "split", "other_info")}]


def test_lewidi_scales(tmp_path):
    """All numbers of a scale are labels, in order, those too that nobody chose; one is right."""
    soft = {str(k): 0.0 for k in (5, -5, 0, -2)}
    items = {"a": rated({"Ann1": "-2", "Ann2": "5"}, soft_label=soft), "b": rated({"Ann2": "5"}, soft_label=soft)}
    bunch = load_lewidi(put_lewidi(tmp_path, **items), context=False)
    assert bunch.target_names == ["-5", "-2", "0", "5"] and not bunch.multi_label
    assert_array_equal(bunch.target, [[0, 0.5, 0, 0.5], [0, 0, 0, 1]])
    assert bunch.data == ["How nice.", "How nice."]
    assert [one["soft_label"] for one in bunch.info] == [soft, soft]


def test_lewidi_names_of_which_several_may_be_right(tmp_path):
    file = put_lewidi(tmp_path, a=rated({"Ann1": "neutral", "Ann2": "entailment,neutral"}))
    bunch = load_lewidi(file)
    assert bunch.target_names == ["entailment", "neutral"] and bunch.multi_label
    assert_array_equal(bunch.target, [[0.5, 1]])


def test_lewidi_languages_and_files(tmp_path):
    one = put_lewidi(tmp_path, "one.json", a=rated({"Ann1": "1"}), b=rated({"Ann1": "0"}, lang="ar"))
    other = put_lewidi(tmp_path, "two.json", a=rated({"Ann3": "1"}, split="dev", lang="nl"))
    assert load_lewidi([one, other]).ids == ["train-a", "train-b", "dev-a"]
    assert load_lewidi([one, other], languages=["ar", "nl"]).ids == ["train-b", "dev-a"]
    with pytest.raises(ValueError, match="Got languages='fr' but expected one of 'ar', 'en', 'nl'"):
        load_lewidi([one, other], languages="fr")
    with pytest.raises(ValueError, match="other documents in every file, but 'train-a' comes twice"):
        load_lewidi([one, one])
    other = put_lewidi(tmp_path, "two.json", c=tweet("x", "0,1", "0,0", "1,0"))
    with pytest.raises(ValueError, match=r"one data set, but got documents of the tasks \['sarcasm', 'hate speech'\]"):
        load_lewidi([one, other])


@pytest.mark.parametrize("empty", ["", {}, None, {"Ann1": "", "Ann2": None}])
def test_lewidi_documents_without_answers_are_left_out(tmp_path, empty):
    items = {"a": rated({"Ann1": "1"}), "b": {**rated({"Ann1": "1", "Ann2": "1"}), "annotations": empty}}
    with pytest.warns(UserWarning, match="1 of 2 documents in .* have no answers and are left out"):
        assert load_lewidi(put_lewidi(tmp_path, **items)).ids == ["train-a"]
    items = {"b": {**rated({"Ann1": "1", "Ann2": "1"}), "annotations": empty}}
    with pytest.warns(UserWarning, match="1 of 1"), pytest.raises(ValueError, match="Found no document"):
        load_lewidi(put_lewidi(tmp_path, **items))
    partly = {**rated({"Ann1": "1"}), "annotators": "Ann1,Ann2,Ann3", "annotations": "0,,1"}
    assert load_lewidi(put_lewidi(tmp_path, a=partly)).annotations == [{"Ann1": ["not sarcasm"], "Ann3": ["sarcasm"]}]


def test_other_tasks_of_lewidi_files(tmp_path):
    file = put_lewidi(tmp_path, **{"1": conversation(TURNS, "-1,0", "sexist", "explicit")})
    bunch = load_lewidi(file, tasks=["explicit", "sexist"])
    assert bunch.target_names == ["explicit", "sexist"]
    assert_array_equal(bunch.target, [[0.5, 0.5]])
    assert load_lewidi(file).target_names == ["-1", "0", "1"]
    implicit = load_lewidi(file, tasks="implicit")
    assert implicit.target_names == ["not implicit", "implicit"], "though nobody chose it"
    assert_array_equal(implicit.target, [[1, 0]])
    with pytest.raises(ValueError, match="Got tasks='hate' but expected one of 'abusivness', 'ableist'"):
        load_lewidi(file, tasks="hate")
    with pytest.raises(ValueError, match="expected some that are yes or no, .*'implicit'.*, or one other"):
        load_lewidi(file, tasks=["abusivness", "sexist"])


@pytest.mark.parametrize(
    "wrong",
    [
        tweet("a", "0,1", "0", "1,1"),
        tweet("a", "0,1", "0,1", "1,1", annotators="A,B,C"),
        {"text": "a"},
        {"Gender": "Female", "Age": "56"},
        "a",
        {**tweet("a", "0,1", "0,1", "1,1"), "text": None},
        {**rated({"Ann1": "1"}), "annotations": 3},
    ],
)
def test_other_files_are_named(tmp_path, wrong):
    file = put_lewidi(tmp_path, **{"7": wrong})
    with pytest.raises(ValueError, match="some_train.json: expected '7' to have text, annotation task, annotators"):
        load_lewidi(file)


FETCHERS = {
    fetch_convabuse: ("convabuse", "ConvAbuse_train.json"),
    fetch_goemotions: ("goemotions", "goemotions_1.csv"),
    fetch_hatexplain: ("hatexplain", "dataset.json"),
    fetch_hs_brexit: ("hs_brexit", "HS-Brexit_train.json"),
    fetch_mfrc: ("mfrc", "final_mfrc_data.csv"),
    fetch_stackoverflow_emotions: ("stackoverflow_emotions", "Emotions_GoldSandard_andAnnotation.xlsx"),
}


@pytest.mark.parametrize("fetcher", FETCHERS)
def test_without_a_file_the_error_says_what_to_put_where(tmp_path, fetcher):
    folder, name = FETCHERS[fetcher]
    with pytest.raises(OSError, match="Data not found and `download_if_missing` is False") as caught:
        fetcher(data_home=tmp_path, download_if_missing=False)
    message = str(caught.value)
    assert f"into the folder {tmp_path / 'skmlmc' / folder} under the name {name}" in message
    assert "https://" in message


@pytest.mark.parametrize("fetcher", FETCHERS)
def test_without_a_network_the_error_says_what_to_put_where(tmp_path, fetcher, monkeypatch):
    tries = []

    def unreachable(url, *args, **kwargs):
        tries.append(kwargs)
        raise OSError("no network")

    monkeypatch.setattr("skmlmc.datasets._fetching.fetch_file", unreachable)
    with pytest.raises(OSError, match="Could not download https://.*no network.*Put what https://"):
        fetcher(data_home=tmp_path, n_retries=5, delay=0.25)
    assert [(one["n_retries"], one["delay"]) for one in tries] == [(5, 0.25)]


def put_real(home, name, *files):
    for file in files:
        if not (REAL / name / file).exists():
            pytest.skip(f"{name}/{file} does not lie in ../shared/data")
        folder = home.offline["data_home"] / "skmlmc" / name
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REAL / name / file, folder / file)  # whose checksums are those of the package


def same_answers(one, other):
    return [{who: sorted(set(labels)) for who, labels in answers.items()} for answers in one] == [
        {who: sorted(set(labels)) for who, labels in answers.items()} for answers in other
    ]


@real
def test_the_real_stackoverflow_workbook(home):
    put_real(home, "stackoverflow_emotions", "Emotions_GoldSandard_andAnnotation.xlsx")
    bunch = fetch_stackoverflow_emotions(**home.offline)
    other = load_annotations(REAL / "stackoverflow_emotions" / "annotations.jsonl", labels=bunch.target_names)
    assert len(bunch.data) == 4800
    assert bunch.data == other.data and bunch.ids == other.ids
    assert same_answers(bunch.annotations, other.annotations)
    assert_array_equal(bunch.target, other.target)
    assert ((bunch.target > 0) & (bunch.target < 1)).any(axis=1).sum() == 2329


@real
def test_the_real_goemotions_files(home):
    put_real(home, "goemotions", "train.tsv", "dev.tsv", "test.tsv")
    bunch = fetch_goemotions(aggregated=True, groups=True, **home.offline)
    assert bunch.target.shape == (43_410 + 5_426 + 5_427, 7)
    shares = np.bincount(np.minimum(bunch.target.sum(axis=1), 2)) / len(bunch.target)
    assert_allclose(shares, [0.29, 0.62, 0.09], atol=0.01)  # as the paper has them
    dev = fetch_goemotions(aggregated=True, subset="dev", **home.offline)
    paper = (REAL / "goemotions" / "paper_main_test_ids.txt").read_text().split()
    assert set(paper) <= set(dev.ids)
    assert (REAL / "goemotions" / "emotions.txt").read_text().split() == [*dev.target_names, "neutral"]


@real
@pytest.mark.parametrize("subset", ["val", "test"])
def test_the_real_hatexplain_posts(home, subset):
    """The owner's dataset.json is not there, but a table of its entries is; it is turned back."""
    put_real(home, "hatexplain", f"df_{subset}_processed.csv", "post_id_divisions.json")
    posts = {}
    with open(REAL / "hatexplain" / f"df_{subset}_processed.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found = ast.literal_eval(row["annotators"])
            columns = zip(found["annotator_id"], found["label"], found["target"], strict=True)
            answers = [(who, _abuse.HATEXPLAIN_CLASSES[label], targets) for who, label, targets in columns]
            posts[row["id"]] = post(ast.literal_eval(row["post_tokens"]), *answers)
    home.put("hatexplain", "dataset.json", json.dumps(posts))
    for task, field in (("targets", "annotations"), ("class", "class")):
        bunch = fetch_hatexplain(task=task, subset=subset, **home.offline)
        other = load_annotations(
            REAL / "hatexplain" / f"annotations_{subset}.jsonl", labels=bunch.target_names, field=field
        )
        at = {name: i for i, name in enumerate(other.ids)}
        order = [at[name] for name in bunch.ids]
        assert sorted(order) == list(range(len(other.ids)))
        assert bunch.data == [other.data[i] for i in order]
        assert_array_equal(bunch.target, other.target[order])


@real
def test_the_real_conversations(home):
    """ConvAbuse's files of the shared task are not there, but what annotators said in them is; it is turned back."""
    put_real(home, "convabuse", *(f"annotations_{part}.jsonl" for part in ("train", "dev", "test")))
    for part in ("train", "dev", "test"):
        items = {}
        lines = (REAL / "convabuse" / f"annotations_{part}.jsonl").read_text(encoding="utf-8").splitlines()
        for row in map(json.loads, lines):
            marks = {kind: [kind in labels for labels in row["annotations"].values()] for kind in KINDS}
            one = conversation(TURNS, ",".join(str(level) for level in row["severity"].values()))
            one["other_info"]["other_annotations"] = {k: ",".join(str(int(m)) for m in v) for k, v in marks.items()}
            items[row["id"].split("-")[1]] = one | {
                "text": row["text"],
                "annotators": ",".join(row["annotations"]),
                "split": part,
            }
        home.put("convabuse", f"ConvAbuse_{part}.json", json.dumps(items))
    bunch = fetch_convabuse(**home.offline)
    other = load_annotations([REAL / "convabuse" / f"annotations_{part}.jsonl" for part in ("train", "dev", "test")])
    assert bunch.ids == other.ids and bunch.target.shape == (4050, 12) and all(bunch.data)
    shares = dict(zip(other.target_names, other.target.T, strict=True))
    for name, found in zip(KINDS, bunch.target.T, strict=True):
        assert_array_equal(found, shares[name])
    assert_allclose(fetch_convabuse(task="severity", **home.offline).target.sum(axis=1), 1)


@real
def test_the_real_hs_brexit_files(home):
    parts = ("train", "dev", "test")
    put_real(home, "hs_brexit", *(f"HS-Brexit_{part}.json" for part in parts))
    bunch = fetch_hs_brexit(**home.offline)
    other = load_annotations(
        [REAL / "hs_brexit" / f"annotations_{part}.jsonl" for part in parts], labels=bunch.target_names
    )
    assert bunch.ids == other.ids and bunch.data == other.data
    assert bunch.annotations == other.annotations


PARTS = ("train", "dev", "test")
URLS = [
    *(_posts.RATERS.format(k) for k in (1, 2, 3)),
    *(_posts.AGGREGATED.format(commit, part) for part, commit in _posts.COMMITS.items()),
    *(_posts.MFRC_URL, _posts.STACKOVERFLOW_URL),
    *(
        _disagreement.LEWIDI_URL.format(name, part)
        for name in ("ConvAbuse", "HS-Brexit")
        for part in _disagreement.PARTS
    ),
    *(_abuse.HATEXPLAIN_URL.format(name) for name in ("dataset.json", "post_id_divisions.json")),
]
# What stands in a bucket has no version, and the sum of one file could not be taken.
NO_VERSION, NO_SUM = ("goemotions_1.csv", "goemotions_2.csv", "goemotions_3.csv"), ("final_mfrc_data.csv",)


def test_every_file_is_one_version_with_a_checksum():
    names = [url.rsplit("/", 1)[-1] for url in URLS]
    assert len(set(names)) == len(names) and set(names) - set(NO_SUM) == set(_fetching.CHECKSUMS)
    assert all(re.search(r"/[0-9a-f]{40}/", url) for url in URLS if not url.endswith(NO_VERSION))


def test_fetchers_know_the_checksums(home):
    path = put_conversations(home)
    path.write_text("something else")
    with pytest.warns(UserWarning, match="another checksum"), pytest.raises(OSError, match="ConvAbuse.* is missing"):
        fetch_convabuse(**home.offline)
