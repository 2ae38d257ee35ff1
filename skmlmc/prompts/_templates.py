"""How a prompt is worded: templates with placeholders, the checks of them, and how an answer is written."""

from __future__ import annotations

import json
import string
from collections.abc import Sequence
from dataclasses import dataclass, replace

from .._utils.checks import check_choice, check_encodes
from .._utils.docs import PAPER, documented

INSTRUCTION = (
    "Classify the following inputs into none, one, or multiple of the following {wording} per input: {labels}. "
    'Output exactly these {wording} and no others, or "{none}" where none of them fits.'
)
DEMONSTRATION = "Input: {text}\n{answer}\n\n"
ANSWER_FORMATS = {"json": ('{"label": ["', '", "', '"]}'), "list": ("", ", ", "")}
MODES = ("auto", "plain", "chat")


@documented(paper=PAPER)
@dataclass(frozen=True)
class PromptTemplate:
    r"""How documents, demonstrations and answers are worded.

    For prompts in another language or of another form, and for the words of the task: ``wording="emotions"`` is the
    least to say. ``prompt_text`` of every extractor and classifier shows what the model reads in the end. A base model
    does better with ``mode="plain"`` and demonstrations than with the turns of a chat that it was never trained on.

    Parameters
    ----------
    instruction : str
        Opening words. Must contain ``{labels}``; may contain ``{wording}`` and ``{none}``. Braces of your own are
        doubled.
    demonstration : str
        One demonstration, and the document's own line up to the answer. Must contain ``{text}`` and, after it,
        ``{answer}``, and more than spaces behind each, such as a line break.
    answer_format : {"json", "list"}
        ``{"label": ["joy", "anger"]}`` or ``joy, anger``.
    wording : str
        What the labels are, such as "emotions" or "topics".
    mode : {"auto", "plain", "chat"}
        Plain text, or the model's own chat template with demonstrations as turns. "auto": chat where the model file
        has a template; where that cannot be used, plain text and a warning that says why.
    system : str or None, default=None
        A system text of your own: a turn of its own in chat form, the first lines in plain text. None: what the chat
        template says by itself, which may be long or ask for reasoning.

    Raises
    ------
    ValueError
        A placeholder is missing, unknown or in the wrong place, or an option is unknown.

    Notes
    -----
    The default follows the instruction and demonstrations of {paper}, in our words. In the chat layout
    the last line of what stands between ``{text}`` and ``{answer}`` begins the model's turn, and what follows
    ``{answer}`` is left to the chat template. Thinking is switched off by the template's own variables; where the
    template begins a thought all the same, it is ended as past turns end theirs. The tokens are those of the whole text
    tokenised at once, but text of documents, labels and demonstrations never becomes a control token.

    Examples
    --------
    >>> from skmlmc import PromptTemplate
    >>> template = PromptTemplate(wording="emotions", demonstration="Text: {text}\nFeels: {answer}\n")
    >>> template.mode
    'auto'
    >>> PromptTemplate(instruction="Which of these?")
    Traceback (most recent call last):
    ...
    ValueError: The instruction lacks the placeholder {labels}: 'Which of these?'. Write {labels} at its place.
    """

    instruction: str = INSTRUCTION
    demonstration: str = DEMONSTRATION
    answer_format: str = "json"
    wording: str = "labels"
    mode: str = "auto"
    system: str | None = None

    def __post_init__(self):
        _check_system(self.system)
        check_choice(self.answer_format, "answer_format", tuple(ANSWER_FORMATS))
        check_choice(self.mode, "mode", MODES)
        _check_wording(self.wording)
        _check_placeholders(self.instruction, "instruction", {"labels"}, {"labels", "wording", "none"})
        _check_placeholders(self.demonstration, "demonstration", {"text", "answer"}, {"text", "answer"})
        names = [name for name in _fields(self.demonstration, "demonstration") if name]
        if names != ["text", "answer"]:
            raise ValueError(
                "The demonstration must contain {text} once and {answer} once after it, got "
                f"{self.demonstration!r}."
            )
        _check_borders(self.demonstration, ["text", "answer"])


UNARY_INSTRUCTION = (
    "Each input below comes with one of these {wording}: {labels}. Say whether that one is {yes} or {no} for the input."
)
UNARY_QUESTION = "Input: {text}\nLabel: {label}\nThis label is: {answer}\n\n"
PAIR_INSTRUCTION = (
    "Each input below comes with two of these {wording}: {labels}, {none}. Say which of the two fits the input better, "
    "{yes} or {no}."
)
PAIR_QUESTION = "Input: {text}\nWhich fits better, (a) {first} or (b) {second}?\nAnswer: {answer}\n\n"


@documented(paper=PAPER)
@dataclass(frozen=True)
class QuestionTemplate:
    r"""How a question about a document is worded: about one label (unary) or about two (pairs).

    For `UnaryExtractor` and `PairwiseExtractor`, each of which has a default of its own. Text that stands between
    ``{text}`` and ``{label}`` is decoded once a document, what stands behind once a question: keep that short.

    Parameters
    ----------
    instruction : str
        Opening words. May contain ``{labels}``, ``{wording}``, ``{none}``, ``{yes}`` and ``{no}`` (the two answer
        words, for pairs those of the first and the second label). Braces of your own are doubled.
    demonstration : str
        ``{text}``, then ``{label}`` (unary) or ``{first}`` and ``{second}`` (pairs), then ``{answer}``. The document
        comes before the question, so that it is decoded once for all questions.
    wording : str
        What the labels are, such as "emotions".
    mode : {"auto", "plain", "chat"}
        As for `PromptTemplate`. In the chat layout the question's last line begins the model's turn.
    system : str or None, default=None
        As for `PromptTemplate`.

    Raises
    ------
    ValueError, TypeError
        A placeholder is missing, unknown or in the wrong place, or an option is unknown.

    Notes
    -----
    Unary and binary breakdown: {paper}, section 5, in our words.

    Examples
    --------
    >>> from skmlmc import QuestionTemplate
    >>> QuestionTemplate(demonstration="Text: {text}\nTopic: {label}\nFits: {answer}\n", wording="topics").fields
    ('label',)
    """

    instruction: str = UNARY_INSTRUCTION
    demonstration: str = UNARY_QUESTION
    wording: str = "labels"
    mode: str = "auto"
    system: str | None = None

    def __post_init__(self):
        _check_system(self.system)
        check_choice(self.mode, "mode", MODES)
        _check_wording(self.wording)
        _check_placeholders(self.instruction, "instruction", set(), {"labels", "wording", "none", "yes", "no"})
        names = [name for name in _fields(self.demonstration, "demonstration") if name]
        if names not in (["text", "label", "answer"], ["text", "first", "second", "answer"]):
            raise ValueError(
                "The question must contain {text}, then {label} or {first} and {second}, then {answer}, each once, got "
                f"{self.demonstration!r}."
            )
        _check_borders(self.demonstration, ["answer"])

    @property
    def fields(self) -> tuple[str, ...]:
        """The question's own placeholders."""
        return tuple(n for n in _fields(self.demonstration, "demonstration") if n in ("label", "first", "second"))

    @property
    def lists_labels(self) -> bool:
        """Whether the instruction names all labels."""
        return "labels" in _fields(self.instruction, "instruction")


def check_question(prompt, fields: tuple[str, ...]) -> QuestionTemplate:
    """Return the question that a `prompt` parameter means.

    Parameters
    ----------
    prompt : None, str, PromptTemplate or QuestionTemplate
        None: the default question. An instruction for it. A `PromptTemplate` gives its wording and mode.
    fields : ("label",) or ("first", "second")
        The placeholders that the caller fills.
    """
    unary = fields == ("label",)
    default = QuestionTemplate(*((UNARY_INSTRUCTION, UNARY_QUESTION) if unary else (PAIR_INSTRUCTION, PAIR_QUESTION)))
    if prompt is None:
        return default
    if isinstance(prompt, str):
        return replace(default, instruction=prompt)
    if isinstance(prompt, PromptTemplate):
        return replace(default, wording=prompt.wording, mode=prompt.mode, system=prompt.system)
    if not isinstance(prompt, QuestionTemplate):
        raise TypeError(f"Got prompt={prompt!r} but expected None, a str, a PromptTemplate or a QuestionTemplate.")
    if prompt.fields != fields:
        raise ValueError(
            f"Got a question with the placeholders {prompt.fields}, expected {fields}: {prompt.demonstration!r}."
        )
    return prompt


def check_prompt(prompt) -> PromptTemplate:
    """Return the template that a `prompt` parameter means: None (the default), an instruction, or a template."""
    if prompt is None:
        return PromptTemplate()
    if isinstance(prompt, str):
        return PromptTemplate(instruction=prompt)
    if isinstance(prompt, PromptTemplate):
        return prompt
    raise TypeError(f"Got prompt={prompt!r} but expected None, an instruction (str) or a PromptTemplate.")


def _check_system(system):
    if system is None:
        return
    if not isinstance(system, str):
        raise TypeError(f"Got system={system!r:.60} but expected a str such as 'You label messages.', or None.")
    check_encodes(system, "a prompt", "the system text")


def _check_wording(wording):
    if not isinstance(wording, str):
        raise TypeError(f"Got wording={wording!r} but expected a str such as 'emotions'.")
    check_encodes(wording, "a prompt", "the wording")


def _fields(template, name):
    if not isinstance(template, str):
        raise TypeError(f"Got {name}={template!r} but expected a str.")
    check_encodes(template, "a prompt", f"the {name}")
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ValueError(
            f"The {name} is no template ({error}): write braces of your own doubled: {template!r}."
        ) from None
    for _, field, form, conversion in parsed:
        if form or conversion:
            raise ValueError(
                f"The {name} formats the placeholder {{{field}}}; expected it bare. Write braces of your own doubled: "
                f"{template!r}."
            )
    return [field for _, field, _, _ in parsed]


def _check_borders(demonstration, fields):
    """Check that something shows where texts and answers end: more than spaces, which are part of the next word."""
    behind, at = {"": ""}, ""
    for literal, field, _, _ in string.Formatter().parse(demonstration):
        behind[at] += literal
        if field:
            at, behind[field] = field, ""
    for field in fields:
        if not behind[field].strip(" "):
            raise ValueError(
                f"Nothing but spaces stands behind {{{field}}} in the demonstration, where it ends: expected a line "
                f"break or other text, got {demonstration!r}."
            )


def _check_placeholders(template, name, required, allowed):
    found = {field for field in _fields(template, name) if field is not None}
    for missing in sorted(required - found):
        raise ValueError(
            f"The {name} lacks the placeholder {{{missing}}}: {template!r}. Write {{{missing}}} at its place."
        )
    for unknown in sorted(found - allowed):
        raise ValueError(
            f"The {name} has the unknown placeholder {{{unknown}}}; expected only "
            f"{', '.join(f'{{{a}}}' for a in sorted(allowed))}. Write braces of your own doubled: {template!r}."
        )


def render_answer(answer_format: str, words: Sequence[str]) -> str:
    """Write the answer that names these labels.

    Examples
    --------
    >>> render_answer("json", ["joy", "anger"])
    '{"label": ["joy", "anger"]}'
    >>> render_answer("list", ["joy", "anger"])
    'joy, anger'
    """
    opening, separator, end = ANSWER_FORMATS[answer_format]
    if answer_format == "json":
        words = [json.dumps(w, ensure_ascii=False)[1:-1] for w in words]
    return opening + separator.join(words) + end


def check_words(answer_format: str, words: Sequence[str]) -> None:
    """Check that an answer can be read back: a list separates labels by commas and ends with its line.

    Raises
    ------
    ValueError
        ``answer_format="list"`` and a wording contains a comma or a line break.
    """
    for word in words:
        if answer_format == "list" and any(sign in word for sign in ",\n\r"):
            raise ValueError(
                f"The wording {word!r} contains a comma or a line break, which answer_format='list' cannot tell from "
                "the end of a label: give it another wording, or choose answer_format='json'."
            )
