"""What is asked of a document: its answer step by step, all its answers, or questions; keys and cache entries.

`Task` and `Prepared` in ``run.py`` say what the methods of these classes are for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from .._cache.records import ROUNDING, DamagedEntryError, checked
from .._engine.context import Attention, Hidden, Pooled
from .._engine.forest import Ask, Branch, Read
from ..prompts._layouts import make_layout
from ..prompts._templates import PromptTemplate, QuestionTemplate, render_answer
from .beam import AnswerBeam, Marginal
from .compiled import CompiledPrompt, Encoder, compile_prefix, prepared_prompt, shared_opening
from .greedy import Answer, greedy_answer, read_beginning, read_log_probability, read_state
from .questions import Questionnaire

NO_TOKENS = np.empty(0, int)


def described(words: Sequence[str], descriptions: Sequence[str], labels: Sequence[int]) -> list[str]:
    """Write the wordings of some labels, given by their numbers, each with its description where it has one.

    Examples
    --------
    >>> described(["anger", "joy", "none"], ["", "happy, delighted"], [1, 0])
    ['joy (happy, delighted)', 'anger']
    """
    texts = dict(enumerate(descriptions))
    return [f"{words[k]} ({texts[k]})" if texts.get(k) else words[k] for k in labels]


@dataclass(frozen=True)
class PreparedSteps:
    """The stepwise prompt of one model, ready to answer documents."""

    compiled: CompiledPrompt
    max_labels: int
    tap: Hidden | Attention | None
    budget: int  # sequences beside the answer's own

    @property
    def prefix(self):
        return self.compiled.prefix

    @cached_property
    def sequences(self):
        """Sequences of a document: its trunk and the branches of a slot's trie."""
        return self.compiled.answers.sequences(self.max_labels, self.budget)

    @cached_property
    def cells(self):
        """Cells of the longest answer."""
        return self.compiled.answers.longest(self.max_labels, self.budget)

    @cached_property
    def first(self):
        """Tokens that are decoded together with the document."""
        slot = self.compiled.answers.slot()
        return len(slot.lead) + sum(len(branch.tokens) for branch in slot.trie.branches(None))

    def document(self, text):
        """Tokens of a document up to its answer."""
        return [*self.compiled.document(text), *self.compiled.bridge]

    def job(self, tokens):
        return greedy_answer(tokens, self.compiled.answers, max_labels=self.max_labels, sequences=self.budget)


@dataclass(frozen=True)
class StepsTask:
    """Ask for a document's answer, step by step.

    Parameters
    ----------
    template : PromptTemplate
        The prompt.
    words : tuple of str
        Wordings of the labels, the empty answer's word last.
    order : tuple of int
        The order in which the prompt names the labels.
    demonstrations : tuple of (str, tuple of int)
        Texts and label numbers.
    max_labels : int
        Most labels of an answer.
    whole : bool
        Whether a label's probability is that of all its tokens.
    descriptions : tuple of str
        What the instruction says about each label beside its wording; empty where it says nothing.
    n_beside : int
        Demonstrations that each document, a `Beside`, has of its own; others there are none then.
    """

    template: PromptTemplate
    words: tuple[str, ...]
    order: tuple[int, ...]
    demonstrations: tuple
    max_labels: int
    whole: bool = False
    descriptions: tuple[str, ...] = ()
    n_beside: int = 0
    tap = None

    def key(self):
        return ("steps", *self.asked(), self.max_labels, self.whole)

    def asked(self):
        """Return all that decides on the prompt up to the first label."""
        # What was kept without either is found again.
        more = ((self.descriptions,) if self.descriptions else ()) + ((self.n_beside,) if self.n_beside else ())
        return astuple(self.template), self.words, self.order, self.demonstrations, *more

    def compile(self, model):
        """Tokenise the prompt."""
        named = described(self.words, self.descriptions, self.order)
        template, encoder, chat = self.template, Encoder(model), (model.chat_template, model.special_texts)
        n_shown = len(self.demonstrations) + self.n_beside
        layout = make_layout(template, named, self.words[-1], *chat, n_demonstrations=n_shown)
        prefix = compile_prefix(encoder, layout, self._turns(layout, self.demonstrations), model.bos)

        def prefix_of(shown):
            return compile_prefix(encoder, layout, self._turns(layout, shown), behind=prefix)

        beside = prefix_of if self.n_beside else None
        form = template.answer_format
        return CompiledPrompt(encoder, prefix, layout, form, self.words, whole=self.whole, prefix_of=beside)

    def _turns(self, layout, demonstrations):
        form = self.template.answer_format
        return [
            (text, layout.bridge, render_answer(form, [self.words[k] for k in labels or (-1,)]))
            for text, labels in demonstrations
        ]

    def prepare(self, model):
        return PreparedSteps(self.compile(model), self.max_labels, None, model.sequences - 1)

    def to_arrays(self, result):
        return {"steps": result.steps, "written": result.written, "label_mass": np.array(result.label_mass)}

    def from_arrays(self, arrays):
        steps = checked(arrays, "steps", (None, len(self.words)))
        if len(steps) > self.max_labels or abs(steps.sum(axis=1) - 1).max() > ROUNDING:
            raise DamagedEntryError(f"expected up to {self.max_labels} distributions that sum to 1")
        written = checked(arrays, "written", steps.shape[:1], np.dtype(int).name, len(self.words) - 1)
        return Answer(steps, written, float(checked(arrays, "label_mass", ())))


@dataclass(frozen=True)
class PreparedStates(PreparedSteps):
    """The stepwise prompt of one model, ready to read hidden states where the first label is predicted."""

    sequences = 1

    @property
    def cells(self):
        """Cells of what leads to the first label."""
        return len(self.compiled.answers.slot().lead)

    @property
    def first(self):
        return self.cells

    def job(self, tokens):
        return read_state(tokens, self.compiled.answers)


@dataclass(frozen=True)
class StatesTask:
    """Read hidden states of a document, and write no answer.

    Parameters
    ----------
    answer : StepsTask
        How the answer would be asked for.
    tap : Hidden
        Which states; a call ends at the deepest of them.
    """

    answer: StepsTask
    tap: Hidden

    @property
    def words(self):
        return self.answer.words

    def key(self):
        return ("states", *self.answer.asked(), self.tap)

    def prepare(self, model):
        steps = prepared_prompt(self.answer, model)
        return PreparedStates(steps.compiled, steps.max_labels, self.tap, steps.budget)

    def to_arrays(self, result):
        return {"hidden": result}

    def from_arrays(self, arrays):
        return checked(arrays, "hidden", (None,), "float32", None)


@dataclass(frozen=True)
class PreparedBeginning(PreparedSteps):
    """The stepwise prompt of one model, ready to read how probable the answer's beginning is."""

    def job(self, tokens):
        return read_beginning(tokens, self.compiled.answers)


@dataclass(frozen=True)
class BeginningTask:
    """Ask how probable it is that the model begins its answer by itself as it is made to.

    Parameters
    ----------
    answer : StepsTask
        How the answer is asked for.
    """

    answer: StepsTask
    tap = None

    @property
    def words(self):
        return self.answer.words

    def key(self):
        return ("beginning", *self.answer.key())

    def prepare(self, model):
        steps = prepared_prompt(self.answer, model)
        return PreparedBeginning(steps.compiled, steps.max_labels, None, steps.budget)

    def to_arrays(self, result):
        return {"mass": np.array(result)}

    def from_arrays(self, arrays):
        return float(checked(arrays, "mass", ()))


@dataclass(frozen=True)
class PreparedWritten(PreparedSteps):
    """The stepwise prompt of one model, ready to read how probable a given answer is."""

    written: tuple[int, ...]
    sequences = 1

    @property
    def cells(self):
        """Cells of the answer."""
        return len(self.written)

    @property
    def first(self):
        return self.cells

    def job(self, tokens):
        start = len(tokens) + self.compiled.answers.begins_at()
        return read_log_probability([*tokens, *self.written], start)


@dataclass(frozen=True)
class WrittenTask:
    """Ask how probable it is that the model writes a given answer, in the prompt's spelling, and then ends.

    Parameters
    ----------
    answer : StepsTask
        How the answer is asked for.
    labels : tuple of int
        The labels of it, in the order in which they are written.
    """

    answer: StepsTask
    labels: tuple[int, ...]
    tap = None

    @property
    def words(self):
        return self.answer.words

    def key(self):
        return ("written", self.labels, *self.answer.key())

    def prepare(self, model):
        steps = prepared_prompt(self.answer, model)
        written = tuple(written_tokens(self.answer, steps, self.labels))
        return PreparedWritten(steps.compiled, steps.max_labels, None, steps.budget, written)

    def to_arrays(self, result):
        return {"log_probability": np.array(result)}

    def from_arrays(self, arrays):
        return float(checked(arrays, "log_probability", (), most=None))


def written_tokens(task: StepsTask, prepared: PreparedSteps, labels: Sequence[int]) -> list[int]:
    """Return the tokens of an answer that names these labels, none where there are none, behind a document."""
    return prepared.compiled.answer([task.words[k] for k in labels or (-1,)])


@dataclass(frozen=True)
class PreparedBeam(PreparedSteps):
    """The stepwise prompt of one model, ready to follow all answers."""

    beam: AnswerBeam

    @property
    def sequences(self):
        """Sequences of a document: its own, and those that the beam may use."""
        return 1 + self.beam.sequences

    @cached_property
    def cells(self):
        """Cells of all answers that are followed at one time."""
        return self.compiled.answers.longest(1, self.budget) * self.sequences

    def job(self, tokens):
        return self.beam.answer(tokens)


@dataclass(frozen=True)
class BeamTask(StepsTask):
    """Follow all answers of a document whose probability stays above a bound; parameters as for `StepsTask`.

    Parameters
    ----------
    min_probability : float
        Answers in progress below it are not followed.
    """

    min_probability: float = 0.002

    def key(self):
        return ("beam", self.min_probability, *super().key())

    def prepare(self, model):
        compiled = self.compile(model)
        limits: dict[str, Any] = {"max_labels": self.max_labels, "min_probability": self.min_probability}
        beam = AnswerBeam(compiled.answers, **limits, sequences=model.sequences - 1)
        return PreparedBeam(compiled, self.max_labels, None, model.sequences - 1, beam)

    def to_arrays(self, result):
        return {"labels": result.labels, "mass": np.array(result.mass)}

    def from_arrays(self, arrays):
        labels = checked(arrays, "labels", (len(self.words) - 1,))
        return Marginal(labels, float(checked(arrays, "mass", ())))


@dataclass(frozen=True)
class PreparedQuestions:
    """The questions of one model, ready to be asked."""

    compiled: CompiledPrompt
    questionnaire: Questionnaire
    tap = None

    @property
    def prefix(self):
        return self.compiled.prefix

    @property
    def sequences(self):
        return self.questionnaire.sequences

    @property
    def cells(self):
        """Cells of all questions."""
        return len(self.questionnaire.common) + self.questionnaire.cells

    @property
    def first(self):
        """Tokens that are decoded together with the document: of all questions."""
        return self.cells

    def document(self, text):
        return self.compiled.document(text)

    def job(self, tokens):
        return self.questionnaire.answer(tokens)


@dataclass(frozen=True)
class QuestionsTask:
    """Ask a document questions that have two answers.

    Parameters
    ----------
    template : QuestionTemplate
        The prompt.
    words : tuple of str
        Wordings of the labels, the empty answer's word last.
    order : tuple of int
        The order in which the prompt names the labels.
    questions : tuple of tuple of int
        Numbers of the labels that fill the template's placeholders, a question each.
    demonstrations : tuple of (str, tuple of int, bool)
        Text, question and whether the first answer word is right.
    answers : (str, str)
        The two answer words.
    descriptions : tuple of str
        What is said about each label, empty where nothing is: in a question about one label, and in the instruction for
        questions about two, where it lists the labels.
    """

    template: QuestionTemplate
    words: tuple[str, ...]
    order: tuple[int, ...]
    questions: tuple[tuple[int, ...], ...]
    demonstrations: tuple
    answers: tuple[str, str]
    descriptions: tuple[str, ...] = ()
    tap = None

    def key(self):
        asked = astuple(self.template), self.words, self.order, self.questions, self.demonstrations, self.answers
        return ("questions", *asked, *([self.descriptions] if self.descriptions else []))

    def layout(self, model, question, quiet=True):
        """Lay one question's prompt out; `quiet` where another one has told what there is to tell."""
        # Of pairs there are many: the instruction, which is decoded once, tells for all.
        once = len(question) > 1 and self.template.lists_labels
        here, there = ((), self.descriptions) if once else (self.descriptions, ())
        values = dict(zip(self.template.fields, described(self.words, here, question), strict=True))
        values |= dict(zip(("yes", "no"), self.answers, strict=True))
        named, none = described(self.words, there, self.order), self.words[-1]
        shown = len(self.demonstrations)
        chat = model.chat_template, model.special_texts
        return make_layout(self.template, named, none, *chat, values, shown, quiet)

    def compile(self, model):
        """Tokenise the prompt of each question."""
        encoder, layouts = Encoder(model), [self.layout(model, q, k > 0) for k, q in enumerate(self.questions)]
        turns = [
            (text, self.layout(model, question).bridge, self.answers[0 if right else 1])
            for text, question, right in self.demonstrations
        ]
        prefix = compile_prefix(encoder, layouts[0], turns, model.bos)
        shared = shared_opening(encoder, layouts)
        return [CompiledPrompt(encoder, prefix, layout, "list", self.answers, shared) for layout in layouts]

    def prepare(self, model):
        compiled = self.compile(model)
        slots = [each.answers.slot() for each in compiled]
        tokens = [each.bridge + slot.lead for each, slot in zip(compiled, slots, strict=True)]
        return PreparedQuestions(compiled[0], Questionnaire(tokens, [s.trie for s in slots], model.sequences))

    def to_arrays(self, result):
        return {"first": result}

    def from_arrays(self, arrays):
        return checked(arrays, "first", (len(self.questions),))


class NoLayout(NamedTuple):
    """What a report says where there is no prompt."""

    mode: str = "document"
    reason: str = "documents are read alone"
    thinking: str = "none"


@dataclass(frozen=True)
class PreparedDocuments:
    """The vocabulary of one model, ready to read documents alone."""

    encoder: Encoder
    prefix: list[int]
    tap: Hidden
    layout = NoLayout()
    sequences = 1
    cells = first = 0

    def text(self, text):
        """Text of all that is read."""
        return "".join([*map(self.encoder.vocabulary.token_text, self.prefix), text, "\n"])

    def document(self, text):
        """Tokens of a document and of a line break, at which all end alike."""
        return self.encoder(text + "\n", True)

    def job(self, tokens):
        ((reading,),) = yield Ask((Branch("document", tokens, None, (Read(len(tokens) - 1, NO_TOKENS, tap=True),)),))
        return reading.tapped


@dataclass(frozen=True)
class DocumentsTask:
    """Read hidden states of documents alone, without a prompt.

    What stands first is no part of the mean: models put the attention that they have no use for there, and its states
    are hundreds of times as long as others. Where a model has no begin token, its end token stands there, as between
    the texts that it was trained on.

    Parameters
    ----------
    tap : Hidden
        Which states.
    """

    tap: Hidden
    words = ()

    def key(self):
        return ("documents", self.tap)

    def prepare(self, model):
        return PreparedDocuments(Encoder(model), model.bos or model.text_end, self.tap)

    def to_arrays(self, result):
        return {"hidden": result}

    def from_arrays(self, arrays):
        return checked(arrays, "hidden", (None,), "float32", None)


@dataclass(frozen=True)
class PreparedTexts:
    """The vocabulary of an embedding model, ready to read texts."""

    encoder: Encoder
    tap: Pooled
    width: int
    prefix = ()
    sequences = 1
    cells = first = 0

    def document(self, text):
        """Tokens of a text, with those that the model wants around it."""
        begin, end = self.encoder.vocabulary.ends
        return [*begin, *self.encoder(text, True), *end]

    def job(self, tokens):
        reads = (Read(0, np.arange(0), tap=True),) if tokens else ()
        (readings,) = yield Ask((Branch("text", tokens, None, reads),))
        # An empty text says nothing, where the model wants no tokens around it.
        return readings[0].tapped if readings else np.zeros(self.width, np.float32)


@dataclass(frozen=True)
class EmbeddingTask:
    """Ask an embedding model for the vector of a text.

    Parameters
    ----------
    tap : Pooled
        How it is pooled.
    width : int
        Its length.
    """

    tap: Pooled
    width: int
    words = ()

    def key(self):
        return ("embedding", self.tap.pooling)

    def prepare(self, model):
        return PreparedTexts(Encoder(model), self.tap, self.width)

    def to_arrays(self, result):
        return {"embedding": result}

    def from_arrays(self, arrays):
        return checked(arrays, "embedding", (self.width,), "float32", None)
