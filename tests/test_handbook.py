"""README and the handbook: their code runs as written, their links hold, and what is made from the source is whole."""

import ast
import os
import re
import sys
import textwrap
from functools import cache
from pathlib import Path

import pytest
from campaigns import in_campaigns

import skmlmc

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
MADE = {"_build", "gallery", "reference", "results", "messages.md"}  # by the build of the handbook
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
    if path.parent == ROOT or path.relative_to(DOCS).parts[0] not in MADE
}
FENCED = re.compile(r"^( *)```(\w+)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
BLOCKS = {
    name: [(kind, textwrap.dedent(code)) for _, kind, code in FENCED.findall(page)] for name, page in PAGES.items()
}
CODE = {name: [code for kind, code in blocks if kind == "python"] for name, blocks in BLOCKS.items()}
SHELL = [(name, code) for name, blocks in BLOCKS.items() for kind, code in blocks if kind in ("sh", "bash")]
# What a block needs beyond this repository stands in its first line, for the reader and for this test.
NEEDS = {
    "# needs a GGUF file of your own",
    "# needs access to the Hugging Face hub",
    "# needs a compiler and some minutes",
    "# needs a processor with AMX, a compiler and some minutes",
    "# needs the network",
    "# needs llama.cpp's scripts and a model of your own",
    "# needs models of your own, and data that the loaders fetch",
}
RUN_ELSEWHERE = {"docs/finetune.md": "tests/finetune/test_finetune.py"}  # where training is at hand
START = "docs/start.md"
GOES_ON = re.compile(r"goes on from \[Start\]\((?:\.\./)?start\.md\)")


def runnable(page):
    return [code for code in CODE[page] if not code.startswith("# needs ")]


RUN = [page for page in PAGES if runnable(page) and page not in RUN_ELSEWHERE]


def test_blocks_left_out_say_why():
    left_out = [code for blocks in BLOCKS.values() for _, code in blocks if code.startswith("# needs ")]
    assert {code.splitlines()[0] for code in left_out} <= NEEDS
    assert len(RUN) >= 10 and sum(len(runnable(page)) for page in RUN) >= 35


@pytest.mark.parametrize(("page", "code"), [(name, code) for name in PAGES for code in CODE[name]])
def test_block_is_python(page, code):
    assert compile(code, page, "exec")


def test_every_block_has_a_language_that_is_known():
    kinds = {kind for blocks in BLOCKS.values() for kind, _ in blocks}
    assert kinds <= {"python", "sh", "bash", "text"}


@pytest.mark.parametrize("page", PAGES)
def test_commands_stand_in_blocks_of_their_own(page):
    """Indented ones would escape the tests here."""
    assert not re.search(r"\n\n    (?:pip|python|pytest|make|conda) ", re.sub(FENCED, "", PAGES[page]))


@pytest.mark.parametrize(("page", "code"), SHELL, ids=[f"{name}-{code.splitlines()[0][:40]}" for name, code in SHELL])
def test_commands_run_in_the_checks(page, code):
    """Each is part of .ci/run, word for word but for folders, or says what it needs."""
    if code.startswith("# needs "):
        return
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for line in code.splitlines():
        for command in line.split(" && "):
            assert any(re.search(pattern, script) for pattern in in_the_checks(command)), f"{command!r} in {page}"


def in_the_checks(command):
    """Return patterns of which one is in the script where it runs the command."""
    extra = re.fullmatch(r'pip install -e "\.\[(\w+)\]"', command)
    if extra and extra[1] == "dev":  # all of them
        return [r'pip install .*-e "\.\[test,ecosystem,bench']
    if extra:
        return [rf"pip install .*\[(?:\w+,)*{extra[1]}[,\]]"]
    known = {
        "python examples/quickstart.py": r'python "\$repo/examples/quickstart\.py"',
        "pytest -n auto": r"pytest -n 2",
        "python -m build": r"python -m build --outdir",
        "python .ci/check_dist.py dist": r"python \.ci/check_dist\.py",
        "twine check --strict dist/*": r"twine check --strict",
    }
    return [known.get(command, re.escape(command))]


@pytest.mark.parametrize("page", PAGES)
def test_benchmarks_have_the_options_that_a_page_gives(page):
    for name, options in re.findall(r"python -m benchmarks\.(\w+)([^`\n]*)", PAGES[page]):
        source = (ROOT / "benchmarks" / f"{name}.py").read_text(encoding="utf-8")
        source += (ROOT / "benchmarks" / "_bench.py").read_text(encoding="utf-8")
        source += (ROOT / "benchmarks" / "_data.py").read_text(encoding="utf-8")
        for option in re.findall(r"--[\w-]+", options):
            assert f'"{option}"' in source, f"benchmarks/{name}.py has no {option}"


MODELS = [
    "tiny_chat_model",
    in_campaigns(pytest.param("embedded_model", marks=pytest.mark.model)),
]


@pytest.fixture(params=MODELS)
def _at_the_root(request, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("SKMLMC_MODEL", request.getfixturevalue(request.param))


def run_blocks(page, names):
    for code in runnable(page):
        exec(compile(code, page, "exec"), names)


@cache
def names_of_start(model):
    """Names that the blocks of Start leave, once for each model."""
    names = {}
    run_blocks(START, names)
    return names


# What the tiny models of random weights are warned of, in code that is meant for real ones.
@pytest.mark.filterwarnings("ignore:.* documents were cut to")
@pytest.mark.usefixtures("_at_the_root")
@pytest.mark.parametrize("page", RUN)
def test_blocks_run(page):
    """Page by page, from top to bottom; pages that go on from another one begin with its blocks."""
    names = dict(names_of_start(os.environ["SKMLMC_MODEL"])) if GOES_ON.search(PAGES[page]) else {}
    run_blocks(page, names)
    if page == START:
        assert names["steps"].ndim == 3 and names["steps"].shape[2] == 7
        assert names["search"].best_score_ < 0 and names["proba"].shape == (10, 6)


def test_pages_that_use_names_of_start_say_so():
    for page in RUN:
        uses = re.search(r"\btexts\[", "".join(runnable(page)))
        assert not uses or GOES_ON.search(PAGES[page]) or "texts =" in "".join(CODE[page]) or "texts = " in PAGES[page]


LINK = re.compile(r"\]\(((?!https?:|#)[^)\s]+)\)")


@pytest.mark.parametrize(("page", "path"), [(name, path) for name in PAGES for path in LINK.findall(PAGES[name])])
def test_linked_files_exist(page, path):
    target = (ROOT / page).parent.joinpath(path.partition("#")[0]).resolve()
    made = target.is_relative_to(DOCS) and target.relative_to(DOCS).parts[0] in MADE
    assert target.exists() or made


def anchors(text):
    """Return the anchors of a page's headings, as GitHub and MyST make them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(FENCED, "", text), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
    return set(plain)


@pytest.mark.parametrize("page", PAGES)
def test_linked_headings_exist(page):
    for path, anchor in re.findall(r"\]\(((?!https?:)[^)#\s]*\.md)?#([^)\s]+)\)", PAGES[page]):
        target = (ROOT / page).parent.joinpath(path).resolve() if path else ROOT / page
        if target.is_relative_to(DOCS) and target.relative_to(DOCS).parts[0] in MADE:
            continue
        assert anchor in anchors(target.read_text(encoding="utf-8")), f"{path}#{anchor}"


def test_readme_is_short():
    assert len((ROOT / "README.md").read_bytes()) <= 12_000
    assert not re.search(r"\b\d+ tests\b", PAGES["README.md"])


def test_the_version_stands_in_one_place():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^version: (\S+)$", citation, re.MULTILINE)[1] == skmlmc.__version__
    head = re.search(r"^## \[(\S+?)\] - (\d{4}-\d\d-\d\d)$", changes, re.MULTILINE)
    assert head[1] == skmlmc.__version__
    assert re.search(r"^date-released: (\S+)$", citation, re.MULTILINE)[1] == head[2]


@cache
def messages():
    sys.path.insert(0, str(DOCS))
    try:
        import message_page
    finally:
        sys.path.remove(str(DOCS))
    return message_page


def test_the_page_of_messages_has_all_of_them():
    """Found here by their lines in the source, there by its syntax trees."""
    found = {(message.path, message.line) for message in messages().read_messages()}
    missing = []
    for path in sorted((ROOT / "skmlmc").rglob("*.py")):
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines, start=1):
            says = re.match(r" +(?:raise [\w.]+\((?!\))|raise type\(|warn\()", line)
            if says and path.name != "warning.py" and (path.relative_to(ROOT).as_posix(), number) not in found:
                missing.append(f"{path.name}:{number}: {line.strip()}")
    assert missing == [] and len(found) > 400


def test_the_page_of_messages_says_why_and_what_to_do():
    page, notes = messages().page(), messages().NOTES
    files = {message.path for message in messages().read_messages()}
    assert [path for path in files if messages().note_of(path) not in notes] == []
    assert all(len(note) == 3 and all(part.strip() for part in note) for note in notes.values())
    shown = {title for title, *_ in notes.values() if f"## {title}\n" in page}
    assert len(shown) > 30
    assert page.count("\n: ") == len(messages().read_messages())


def as_pattern(text):
    """Return a regular expression of a message's text, with anything where values come in."""
    parts = re.split(r"(‹[^›]*›|\[[^\]]*\])", text)
    return ".*?".join(re.escape(part) for part in parts[::2])


@pytest.mark.parametrize(
    "call",
    [
        lambda: skmlmc.GGUFClassifier(labels=["joy"]).fit(),
        lambda: skmlmc.GGUFClassifier(labels="joy").fit(),
        lambda: skmlmc.GGUFClassifier("nowhere.gguf", labels=["joy", "anger"]).fit(),
        lambda: skmlmc.GGUFClassifier(str(ROOT), labels=["joy", "anger"]).fit(),
        lambda: skmlmc.GGUFClassifier(labels=["joy", "anger"], shots=2).fit(),
        lambda: skmlmc.GGUFClassifier(labels=["joy", "anger"], threshold=2).fit(),
        lambda: skmlmc.UnaryBreakdown().fit([[0.5, 2.0]]),
        lambda: skmlmc.PromptTemplate(instruction="{lables}"),
        lambda: skmlmc.compare_methods(["a"] * 4, [[0, 1], [1, 0]] * 2, []),
    ],
)
def test_messages_are_found_on_the_page(call, tiny_chat_model, monkeypatch):
    monkeypatch.setenv("SKMLMC_MODEL", tiny_chat_model)
    with pytest.raises((ValueError, TypeError, OSError)) as error:
        call()
    said = " ".join(str(error.value).split())
    texts = [message.text for message in messages().read_messages()]
    long = [text for text in texts if len(re.sub(r"‹[^›]*›", "", text)) > 25]
    assert any(re.fullmatch(as_pattern(text), said) for text in long), said


def test_the_build_reads_every_script_of_the_handbook():
    """Scripts beside the pages are sound Python with a docstring that says how they are run."""
    for path in DOCS.glob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def test_no_name_in_a_shape_becomes_a_link():
    """A name that ends in an underscore is a reference in reStructuredText, unless it stands in backticks."""
    bare = re.compile(r"shape \([^)`]*[a-z]_[,)]")
    files = sorted((ROOT / "skmlmc").rglob("*.py"))
    assert [line for path in files for line in path.read_text(encoding="utf-8").splitlines() if bare.search(line)] == []
    assert bare.search("x : ndarray of shape (n, n_features_in_)") and not bare.search("shape (`n_features_in_`,)")
