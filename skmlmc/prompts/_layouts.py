"""From a template to pieces of text: a prompt laid out as plain text, or with the turns of a model's chat template."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import takewhile
from types import MappingProxyType
from typing import NamedTuple

from .._utils.warning import warn
from ._chat import ChatTemplate, ends_thought, open_thought

_SYSTEM = "skmlmcSystem"
# Words without marks that ask for a thought.
_THINKING = re.compile(r"^[^<>\[\]]*(think|thought|reason)[^<>\[\]]*$", re.IGNORECASE)


class Segment(NamedTuple):
    """A piece of prompt text and whether control tokens in it count as such."""

    text: str
    special: bool


@dataclass(frozen=True)
class Layout:
    """Where the texts of a prompt stand: ``head (text bridge answer after)* text opening``, then the answer.

    The last ``after`` is `last` where the template writes the turn that is asked about otherwise than past ones.

    Attributes
    ----------
    head, bridge, after : tuple of Segment
        Before the first text, between a demonstration's text and its answer, between an answer and the next text.
    opening : tuple of Segment
        Between the document and its answer. Many chat templates write more there than between past turns, such as an
        empty thought.
    trims : (bool, bool, bool)
        Whether the chat template takes spaces off the begin of a text that begins its turn, which none does in the
        first turn, off its end in the first turn, and off its end in later ones.
    mode : {"plain", "chat"}
        What it is.
    reason : str
        Why it is that.
    last : tuple of Segment or None
        Between the last answer and the document: with Mistral's models the system text. None: as `after`.
    thinking : {"none", "switched off", "closed"}
        How the model comes to answer at once: nothing had to be done; a variable of the template says so; what the
        template begins is ended, as its past turns end it.
    """

    head: tuple[Segment, ...]
    bridge: tuple[Segment, ...]
    after: tuple[Segment, ...]
    opening: tuple[Segment, ...]
    trims: tuple[bool, bool, bool] = (False, False, False)
    mode: str = "plain"
    thinking: str = "none"
    reason: str = field(default="as the prompt's mode says", compare=False)
    last: tuple[Segment, ...] | None = None

    def trimmed(self, text: str, *, first: bool) -> str:
        """Return a text as the template writes it, in its first turn or a later one."""
        begin, *ends = self.trims
        text = text.lstrip() if begin and not first else text
        return text.rstrip() if ends[not first] else text

    def spare(self, before: Sequence[Segment], *, first: bool) -> int:
        """Count the characters at the end of the segments `before` a text that go where nothing is left of the text.

        Of ``Input: `` and an empty text a template that trims its turn writes ``Input:``.
        """
        if not self.trims[1:][not first]:
            return 0
        own = [text for text, _ in takewhile(lambda segment: not segment.special, reversed(before))]
        turn = "".join(reversed(own))
        return len(turn) - len(turn.rstrip())

    def conversation(self, turns: Sequence[tuple[str, Sequence[Segment], str]], text: str | None) -> list[Segment]:
        """Return all segments of a prompt up to the end of the document `text`, or with None up to its begin.

        `turns` are demonstrations: a text, the bridge behind it, and the answer.
        """
        parts, afters = [*self.head], [self.after] * len(turns)
        if turns and self.last is not None:
            afters[-1] = self.last
        for k, (shown, bridge, answer) in enumerate(turns):
            parts = self._said(parts, shown, k == 0)
            parts += [*bridge, Segment(answer, False), *afters[k]]
        return parts if text is None else self._said(parts, text, not turns)

    def _said(self, parts, text, first):
        text = self.trimmed(text, first=first)
        spare = 0 if text else self.spare(parts, first=first)
        while spare:
            *parts, (last, special) = parts
            spare, last = max(0, spare - len(last)), last[: max(0, len(last) - spare)]
            parts += _joined(Segment(last, special))
        return [*parts, Segment(text, False)]


def _joined(*segments):
    """Leave out what is empty."""
    return tuple(segment for segment in segments if segment.text)


def _instruction_segments(template, words, none, special, values):
    values = {**values, "labels": ", ".join(words), "wording": template.wording, "none": none}
    segments = []
    for literal, name, _, _ in string.Formatter().parse(template.instruction):
        segments.append(Segment(literal, special))
        if name:
            segments.append(Segment(values[name], special and name == "wording"))
    return segments


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
    return mine.rstrip(), theirs.lstrip()


def plain_layout(template, words: Sequence[str], none: str, values: Mapping[str, str] = MappingProxyType({})) -> Layout:
    """Lay the prompt out as plain text; control tokens count in the template's own text alone.

    `words` are the labels' wordings in the prompt's order, `none` is the word for the empty answer, and `values` say
    what a question's own placeholders stand for.
    """
    before, between, behind = _demonstration_parts(template, values)
    system = [] if template.system is None else [Segment(template.system + "\n\n", True)]
    instruction = _instruction_segments(template, words, none, True, values)
    head = _joined(*system, *instruction, Segment("\n\n" + before, True))
    bridge = _joined(*between)
    return Layout(head, bridge, _joined(Segment(behind + before, True)), bridge)


def chat_layout(
    template, words, none, chat: ChatTemplate, values=MappingProxyType({}), n_demonstrations: int = 0
) -> Layout:
    """Lay the prompt out with a chat template: texts are the user's turns, answers the assistant's.

    Control tokens count in the chat template's own text alone. `n_demonstrations` counts the past turns that there will
    be: some templates write a first or last turn otherwise where others are there. A system text of a template that
    knows none stands before the instruction. ValueError: the chat template changes or drops the contents of messages,
    or writes later turns otherwise.
    """
    system, note = template.system, ""
    try:
        turns = _turns(chat, system, min(n_demonstrations, 3))
    except ValueError:
        if system is None:
            raise
        turns = _turns(chat, None, min(n_demonstrations, 3))
        note = "; it knows no system text, so that stands in the first turn"
    begins, ends, later_ends = turns.trims
    before, between, _ = _demonstration_parts(template, values)
    asked, begun = (Segment(text, False) for text in _split_turns(between))
    later = Segment(before.lstrip() if begins else before, False)
    instruction = _instruction_segments(template, words, none, False, values)
    first = [] if not note else [Segment(f"{template.system}\n\n", False)]
    said = [*first, *instruction, Segment("\n\n" + before, False)]
    while begins and said[0].text != (text := said[0].text.lstrip()):
        said = [*_joined(Segment(text, False)), *said[1:]]
    return Layout(
        _joined(*_segments(turns.head), *said),
        _joined(asked, Segment(turns.bridge, True), begun),
        _joined(Segment(turns.after, True), later),
        _joined(asked, Segment(turns.opening, True), begun),
        (begins and not later.text, ends and not asked.text, later_ends and not asked.text),
        "chat",
        turns.thinking,
        f"as the prompt's mode says{note}",
        None if turns.last == turns.after else _joined(*_segments(turns.last), later),
    )


class _Turns(NamedTuple):
    """The chat template's own texts around the turns of a conversation; see `Layout`."""

    head: str
    bridge: str
    after: str
    last: str
    opening: str
    thinking: str
    trims: tuple[bool, bool, bool]


@lru_cache(maxsize=32)
def _turns(chat, system_text, n_turns):
    """Return the texts around a chat's turns, what was done about thinking, and what the template trims.

    They are the same for all questions of a prompt, whose number grows with the square of the labels.
    """
    # The text itself, too: some templates look for "/no_think" in it.
    system = [] if system_text is None else [{"role": "system", "content": f"{_SYSTEM}{system_text}{_SYSTEM}"}]
    head, turns, final = _take_apart(chat, system, n_turns)
    bridge, after = _take_apart(chat, system, 2)[1][0]
    bridges, afters = zip(*turns, strict=True) if turns else ((), ())
    if {bridge, *bridges} != {bridge} or {after, *afters[:-1]} != {after}:
        raise ValueError("The model's chat template writes later turns otherwise than the first one.")
    if not (bridge.strip() and after.strip()):
        raise ValueError("The model's chat template does not show where a turn ends.")
    last = afters[-1] if turns else after
    if system and (head + last).count(_SYSTEM) != 2:
        raise ValueError("The model's chat template does not keep the system text.")
    opening, thinking = _open_answer(chat, system, bridge, final)
    return _Turns(head, bridge, after, last, opening, thinking, _trims(chat, system))


def _segments(text):
    """Divide one of the template's own texts where the system text stands in it, which is text, whatever it holds."""
    return [Segment(piece, i % 2 == 0) for i, piece in enumerate(text.split(_SYSTEM))]


def _take_apart(chat, system, n_turns):
    r"""Render a conversation of marks; return what stands before, around past answers, and behind the last text.

    With ChatML and one past turn: head ``<|im_start|>user\n``, turns ``[(bridge, after)]`` where the bridge is
    ``<|im_end|>\n<|im_start|>assistant\n``, and the same as the final text.
    """
    marks = [f"skmlmc{role}{k}" for k in range(n_turns) for role in ("User", "Answer")] + [f"skmlmcUser{n_turns}"]
    messages = [{"role": ("user", "assistant")[i % 2], "content": mark} for i, mark in enumerate(marks)]
    head, *parts, final = _split_at(chat.render([*system, *messages]), marks)
    return head, list(zip(parts[::2], parts[1::2], strict=True)), final


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


def _trims(chat, system):
    """Whether the template takes spaces off the begin of a later turn, off the end of the first, and of later ones.

    ValueError: it changes texts inside, too.
    """
    marks = [f"skmlmc{name}" for name in ("User0", "Answer0", "User1", "Inside1")]
    texts = [f"   {marks[0]}   ", marks[1], f"   {marks[2]}  \n\n {marks[3]}   "]
    messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
    _, end, begin, inside, end_later = _split_at(chat.render([*system, *messages]), marks)
    if inside != "  \n\n ":
        raise ValueError("The model's chat template changes the line breaks or spaces within messages.")
    return not begin.endswith("   "), not end.startswith("   "), not end_later.startswith("   ")


def _open_answer(chat, system, past, final):
    """Return what must stand before an answer, and what was done about thinking.

    `past` is what the template writes between a past question and its answer, `final` what it writes where the answer
    is asked for. Where the past has more, the model would write that itself first: ``<|channel|>final<|message|>``
    of gpt-oss, ``<think></think>`` of GLM 4.6. Where `final` begins a thought, it is ended as past turns end theirs.
    """
    opened, shown, asked = open_thought(final), past.rstrip(), final.rstrip()
    as_asked = "switched off" if chat.switches else "closed" if ends_thought(final) else "none"
    if shown.startswith(asked) and not open_thought(past):
        return past, "closed" if opened or ends_thought(shown.removeprefix(asked)) else as_asked
    if opened:
        return final + _close_thought(chat, system, opened), "closed"
    if asked.startswith(shown) and _THINKING.search(asked.removeprefix(shown)):
        return past, "closed"  # words that begin a thought, such as "Here are my reasoning steps:"
    return final, as_asked


def _close_thought(chat, system, opened):
    """Return what ends a thought: as the template ends one of a past answer, else the mark's counterpart."""
    thought, said = "skmlmcThought", "skmlmcAnswer"
    answer = {"role": "assistant", "content": said, "reasoning_content": thought}
    try:
        text = chat.render([*system, {"role": "user", "content": "skmlmcUser"}, answer], ask=False)
    except ValueError:
        text = ""
    _, found, rest = text.partition(thought)
    if found and said in rest:
        return rest[: rest.index(said)]
    for start, end in (("<|START_", "<|END_"), ("<|begin_", "<|end_"), ("<|", "<|/"), ("<", "</"), ("[", "[/")):
        if opened.startswith(start):
            return f"\n{end}{opened[len(start) :]}\n\n"
    raise ValueError(f"The model's chat template begins a thought with {opened!r}, and how to end it is not known.")


@lru_cache(maxsize=8)
def _compiled(source, special_texts):
    return ChatTemplate(source, dict(special_texts))


def _warn_of_plain(reason):
    warn(
        f"The prompt is laid out as plain text, not as a chat: {reason} A chat-tuned model may answer worse. Give "
        'prompt=PromptTemplate(mode="plain") to say that this is wanted, or use a model file with a sound template.',
    )


def make_layout(
    template,
    words,
    none,
    chat_template,
    special_texts,
    values=MappingProxyType({}),
    n_demonstrations: int = 0,
    quiet: bool = False,
) -> Layout:
    """Choose and make the layout that `template.mode` asks for.

    Parameters
    ----------
    template : PromptTemplate or QuestionTemplate
        The template.
    words : sequence of str
        Wordings of the labels, in the prompt's order.
    none : str
        Word for the empty answer.
    chat_template : str or None
        The model's own template.
    special_texts : dict
        ``bos_token`` and ``eos_token``.
    values : dict of str to str
        What a question's own placeholders stand for.
    n_demonstrations : int, default=0
        Past turns that there will be.
    quiet : bool, default=False
        Leave the warning to another call, with another question of the same prompt.

    Returns
    -------
    Layout
        Chat, or plain: so too, with a warning, where ``mode="auto"`` and the chat template cannot be used.

    Raises
    ------
    ValueError
        ``mode="chat"`` and the model has no usable chat template.
    """
    if template.mode == "plain":
        return plain_layout(template, words, none, values)
    if template.mode == "auto" and not chat_template:
        return replace(plain_layout(template, words, none, values), reason="the model file has no chat template")
    if not chat_template:
        raise ValueError("Got mode='chat' but this model file has no chat template: use mode='plain' or 'auto'.")
    try:
        chat = _compiled(chat_template, tuple(special_texts.items()))
        layout = chat_layout(template, words, none, chat, values, n_demonstrations)
        if template.mode == "chat":
            return layout
        note = layout.reason.removeprefix("as the prompt's mode says")
        return replace(layout, reason=f"the model file has a chat template{note}")
    except ValueError as error:
        if template.mode == "auto":
            if not quiet:
                _warn_of_plain(str(error))
            return replace(plain_layout(template, words, none, values), reason=str(error))
        raise ValueError(f"{error} Use mode='plain'.") from error
