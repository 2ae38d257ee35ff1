"""From a template to pieces of text: a prompt laid out as plain text, or with the turns of a model's chat template."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from ._chat import chat_renderer


class Segment(NamedTuple):
    """A piece of prompt text and whether control tokens in it count as such."""

    text: str
    special: bool


@dataclass(frozen=True)
class Layout:
    """Where the texts of a prompt stand: ``head text bridge answer (after text bridge answer)*``.

    Attributes
    ----------
    head, bridge, after : tuple of Segment
        Before the first text, between a text and its answer, between an answer and the next text.
    text_lead, answer_lead : str
        Spaces that stand before each text and answer. They are tokenised with it, since most vocabularies have words
        with a space before them.
    """

    head: tuple[Segment, ...]
    bridge: tuple[Segment, ...]
    after: tuple[Segment, ...]
    text_lead: str
    answer_lead: str


def _split_spaces(segments):
    """Take the spaces off the end of the last segment."""
    text = segments[-1].text
    lead = text[len(text.rstrip(" ")) :]
    return _without(segments, lead), lead


def _without(segments, lead):
    """Take the spaces `lead` off the end, which are tokenised with what comes next."""
    *rest, last = segments
    return tuple(s for s in [*rest, Segment(last.text.removesuffix(lead), last.special)] if s.text)


def _instruction_segments(template, words, none, special, values):
    values = {**values, "labels": ", ".join(words), "wording": template.wording, "none": none}
    segments = []
    for literal, name, _, _ in string.Formatter().parse(template.instruction):
        segments.append(Segment(literal, special))
        if name:
            segments.append(Segment(values[name], special and name == "wording"))
    return _merge(segments)


def _merge(segments):
    """Join neighbours of one kind and move spaces to the word after them, so that the tokenizer sees whole words."""
    merged: list[Segment] = []
    for text, special in segments:
        if merged and merged[-1].special == special:
            merged[-1] = Segment(merged[-1].text + text, special)
        elif text:
            if merged:
                kept = merged[-1].text.rstrip(" ")
                text = merged[-1].text[len(kept) :] + text
                merged[-1] = Segment(kept, merged[-1].special)
            merged.append(Segment(text, special))
    return merged


def _demonstration_parts(template, values):
    """Take the demonstration line apart: before the text, segments between text and answer, behind the answer.

    The segments' `special` says whether they are the template's own text or one of `values`.
    """
    before, between, behind, seen = "", [], "", set()
    for literal, name, _, _ in string.Formatter().parse(template.demonstration):
        if "answer" in seen:
            behind += literal
        elif "text" in seen:
            between += [Segment(literal, True)] + ([Segment(values[name], False)] if name in values else [])
        else:
            before += literal
        seen.add(name)
    return before, between, behind


def _split_turns(between):
    """Divide what stands between text and answer at its last line break: the user's turn, and the assistant's."""
    texts = [text for text, _ in between]
    mine, theirs = "", "".join(texts)
    for i, (text, own) in enumerate(between):
        if own and "\n" in text:
            head, _, tail = text.rpartition("\n")
            mine, theirs = "".join([*texts[:i], head]), "".join([tail, *texts[i + 1 :]])
    return Segment(mine.rstrip(), False), Segment(theirs.lstrip(), False)


def plain_layout(template, words: Sequence[str], none: str, values: Mapping[str, str] = MappingProxyType({})) -> Layout:
    """Lay the prompt out as plain text.

    Parameters
    ----------
    template : PromptTemplate or QuestionTemplate
        The template.
    words : sequence of str
        Wordings of the labels, in the prompt's order.
    none : str
        Word for the empty answer.
    values : dict of str to str
        What a question's own placeholders stand for.

    Returns
    -------
    Layout
        Control tokens count in the template's own text alone.
    """
    before, between, behind = _demonstration_parts(template, values)
    head = _merge([*_instruction_segments(template, words, none, True, values), Segment("\n\n" + before, True)])
    head, text_lead = _split_spaces(head)
    bridge, answer_lead = _split_spaces(_merge(between))
    after = _without([Segment(behind + before, True)], text_lead)
    return Layout(head, bridge, after, text_lead, answer_lead)


def chat_layout(template, words, none, render: Callable[[list[dict]], str], values=MappingProxyType({})) -> Layout:
    """Lay the prompt out with a chat template: texts are the user's turns, answers the assistant's.

    Parameters
    ----------
    template, words, none, values
        As for `plain_layout`.
    render : callable
        ``render(messages) -> str`` applies the model's chat template, with the prompt for the assistant's next turn.

    Returns
    -------
    Layout
        Control tokens count in the chat template's own text alone.

    Raises
    ------
    ValueError
        The chat template changes or drops the contents of messages, or treats later turns otherwise.
    """
    marks = ["skmlmcUser0", "skmlmcAnswer0", "skmlmcUser1"]
    messages = [{"role": ("user", "assistant")[i % 2], "content": mark} for i, mark in enumerate(marks)]
    head, *parts = _split_at(render(messages), marks)
    single = _split_at(render(messages[:1]), marks[:1])
    bridge, after, last_bridge = parts
    if not (bridge.strip() and after.strip()):
        raise ValueError("The model's chat template does not show where a turn ends.")
    # Some write a space before an answer and end the prompt for one without it; it is tokenised with the answer.
    if head != single[0] or len({part.rstrip(" ") for part in (bridge, last_bridge, single[1])}) > 1:
        raise ValueError("The model's chat template renders later turns otherwise than the first one.")
    before, between, _ = _demonstration_parts(template, values)
    asked, begun = _split_turns(between)
    opening = [*_instruction_segments(template, words, none, False, values), Segment("\n\n" + before, False)]
    head_segments, text_lead = _split_spaces(_merge([Segment(head, True), *opening]))
    bridge_segments, answer_lead = _split_spaces(_merge([asked, Segment(bridge, True), begun]))
    after_segments = _without(_merge([Segment(after, True), Segment(before, False)]), text_lead)
    return Layout(head_segments, bridge_segments, after_segments, text_lead, answer_lead)


def _split_at(text, marks):
    pieces = []
    for mark in marks:
        piece, found, text = text.partition(mark)
        if not found:
            raise ValueError("The model's chat template does not keep the contents of messages.")
        pieces.append(piece)
    if any(mark in piece for mark in marks for piece in (*pieces, text)):
        raise ValueError("The model's chat template repeats the contents of messages.")
    return [*pieces, text]


@lru_cache(maxsize=8)
def _renderer(source, special_texts):
    return chat_renderer(source, dict(special_texts))


def make_layout(template, words, none, chat_template, special_texts, values=MappingProxyType({})) -> Layout:
    """Choose and make the layout that `template.mode` asks for.

    Parameters
    ----------
    template, words, none, values
        As for `plain_layout`.
    chat_template : str or None
        The model's own template.
    special_texts : dict
        ``bos_token`` and ``eos_token``.

    Returns
    -------
    Layout
        Chat or plain.

    Raises
    ------
    ValueError
        ``mode="chat"`` and the model has no usable chat template.
    """
    if template.mode == "plain" or (template.mode == "auto" and not chat_template):
        return plain_layout(template, words, none, values)
    if not chat_template:
        raise ValueError("Got mode='chat' but this model file has no chat template: use mode='plain' or 'auto'.")
    try:
        return chat_layout(template, words, none, _renderer(chat_template, tuple(special_texts.items())), values)
    except ValueError as error:
        if template.mode == "auto":
            return plain_layout(template, words, none, values)
        raise ValueError(f"{error} Use mode='plain'.") from error
