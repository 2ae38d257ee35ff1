"""What real models the tests know: architectures, vocabularies and chat templates, each with its result.

    python -m benchmarks.tested_models [--shared ../shared]

Architectures are taken from the results of `python -m benchmarks.architectures`. Of each vocabulary only kind and size
are listed: tests/_inference/test_compiled.py compares its tokens with those of whole texts. Of each chat template
the layout of a prompt is made, without demonstrations and with two; tests/prompts/test_chat_layouts.py compares
layouts with plain Jinja renderings.
"""

from __future__ import annotations

import argparse
import re
import warnings
from collections import Counter
from pathlib import Path

from benchmarks._bench import read_json, table
from benchmarks.architectures import is_exact
from skmlmc import PromptTemplate
from skmlmc._models.loaded import load_vocabulary
from skmlmc.prompts._layouts import make_layout

SHARED = Path(__file__).parents[2] / "shared"
# Names of any begin and end tokens do: templates put them in as they are.
SPECIAL_TEXTS = {"bos_token": "<bos>", "eos_token": "<eos>"}
THINKING = {"none": "nothing to do", "switched off": "switched off by a variable", "closed": "ended at once"}


def architecture_row(name, found):
    """Return name and outcome of an architecture."""
    refused = next((part["refused"] for part in (found, found.get("steps", {})) if "refused" in part), None)
    if refused is not None:
        why = re.sub(r".*, with which |A trial run of \S+ with ", "", refused).partition(". Expected")[0]
        return name, f"refused: {why if found['kind'] == 'generates text' else found['kind']}"
    exact = [is_exact(found.get(what)) for what in ("steps", "layer")]
    return name, "exact" if all(exact) else "exact without inner layers" if exact[0] else "not exact"


def vocabulary_row(path):
    """Return name, kind, pre-tokenizer, number of tokens, and whether the file has a chat template of its own."""
    words = load_vocabulary(path)
    kind, before = (words.metadata(f"tokenizer.ggml.{key}") or "" for key in ("model", "pre"))
    return path.stem, kind, before, f"{words.n_vocab:,}", "yes" if words.chat_template else ""


def template_row(path):
    """Return name, layout, thinking, and where the layout is plain the reason."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layouts = [
            make_layout(
                PromptTemplate(), ["joy", "anger"], "none", path.read_text("utf-8"), SPECIAL_TEXTS, n_demonstrations=n
            )
            for n in (0, 2)
        ]
    layout = min(layouts, key=lambda layout: layout.mode == "chat")
    chat = layout.mode == "chat"
    return path.stem, layout.mode, THINKING[layout.thinking] if chat else "", "" if chat else layout.reason


def page(architectures, vocabularies, templates):
    """Write the page: a summary, then a table for each."""
    outcomes = Counter(outcome.partition(":")[0] for _, outcome in architectures)
    layouts = Counter(row[1] for row in templates)
    thinking = Counter(row[2] for row in templates if row[2])
    lines = [
        "# What was tested of real models",
        "",
        "    python -m benchmarks.tested_models",
        "",
        f"* {len(architectures)} architectures, as tiny models with random weights: "
        + ", ".join(f"{n} {outcome}" for outcome, n in outcomes.most_common())
        + ".",
        f"* {len(vocabularies)} vocabularies of real models.",
        f"* {len(templates)} chat templates of real models: "
        + ", ".join(f"{n} {mode}" for mode, n in layouts.most_common())
        + "; thinking in chats: "
        + ", ".join(f"{n} {what}" for what, n in thinking.most_common())
        + ".",
        "",
        "## Architectures",
        "",
        '"Exact": label probabilities and hidden states at half the depth, against whole prompts; numbers in '
        "[architectures.md](architectures.md).",
        "",
        *table(["architecture", "outcome"], architectures),
        "",
        "## Vocabularies",
        "",
        "Kind and pre-tokenizer as the file names them. For each, `tests/_inference/test_compiled.py` compares the "
        "tokens of prompts and answers with those of the whole text, 10 documents by 8 sets of labels.",
        "",
        *table(["vocabulary", "kind", "pre-tokenizer", "tokens", "chat template"], vocabularies),
        "",
        "## Chat templates",
        "",
        "Thinking: nothing had to be done for an answer at once; a variable of the template switches it off; the "
        "template begins a thought all the same, and the prompt ends it.",
        "",
        *table(["template", "layout", "thinking", "why not chat"], templates),
    ]
    return "\n".join(lines) + "\n"


def main(argv=None):
    """List all, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=SHARED, help="folder with data/vocabularies and the like")
    parser.add_argument("--architectures", type=Path, default=Path("benchmarks/results/architectures.json"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args(argv)
    data = args.shared / "data"
    templates = sorted((data / "chat_templates").glob("*.jinja"))
    vocabularies = sorted((data / "vocabularies").glob("*.gguf"))
    if not templates or not vocabularies:
        raise SystemExit(f"Expected data/chat_templates/*.jinja and data/vocabularies/*.gguf in {args.shared}.")
    text = page(
        [architecture_row(*item) for item in read_json(args.architectures).get("rows", {}).items()],
        [vocabulary_row(path) for path in vocabularies],
        [template_row(path) for path in templates],
    )
    (args.out / "models.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
