"""Run a model file's chat template: somebody else's program, so it gets no way out, little memory and little time.

Jinja's sandbox closes the ways out. What it leaves open is cost: ``'a' * 10**10``, nested loops, macros that call
themselves. So every step of a template, and every value that a single step could make large, is paid for from a
budget, in steps rather than seconds: the same template is accepted or refused on every machine.
"""

from __future__ import annotations

import json
import re
import threading
from datetime import date
from typing import Any

MAX_SOURCE = 1 << 17
# Less than a second. The templates of real models need some thousands for the few short turns they are given.
BUDGET = 1_000_000
MAX_BITS = 4096
# Bytes of text that cost as much as a step.
BYTES_A_STEP = 8

# What templates of real models use, and what is as harmless. Left out is what makes large values from small ones.
FILTERS = (
    "abs attr batch capitalize count d default dictsort e escape first float groupby indent int items join last length "
    "list lower map max min reject rejectattr replace reverse round safe select selectattr slice sort string striptags "
    "sum title tojson trim unique upper wordcount"
).split()
GLOBALS = ("cycler", "dict", "joiner", "range")
ALLOWED_METHODS = {
    str: frozenset(
        "capitalize casefold count endswith find format index isalnum isalpha isdecimal isdigit islower isnumeric "
        "isspace istitle isupper join lower lstrip partition removeprefix removesuffix replace rfind rindex rpartition "
        "rsplit rstrip split splitlines startswith strip swapcase title upper".split()
    ),
    dict: frozenset(["get", "items", "keys", "values"]),
    list: frozenset(["count", "index"]),
    tuple: frozenset(["count", "index"]),
}
_MARK = "skmlmcText"
_COSTLY = "it takes too many steps or too much memory"
# A width of four digits, or one that is computed: what makes long texts from short ones when values are formatted.
_WIDE = re.compile(r"\d{4}|:[^}]*\{")

# Variables by which templates are told whether to think: enable_thinking, thinking, reasoning_effort, skip_reasoning...
_SWITCH = re.compile(
    r"((?P<off>skip|no|disable)_|(enable|use|force)_)?(think|thinking|thought|reason|reasoning)(_(enabled|mode|effort|level|strength|budget))?"
)
# What such a variable is compared with where it is a text, the least thought first.
_LEAST = ("none", "no_think", "/no_think", "nothink", "no", "off", "disabled", "disable", "false", "minimal", "low")
# Begin and end of a thought, or of a channel that is not the answer's, in the manner of many models.
_THOUGHT = re.compile(
    r"(?P<close></[^<>\s]*think[^<>\s]*>|<\|?(end|/)_?[^<>\s]*think[^<>\s]*>|\[/\w*think\w*\]|<channel\|>|<\|channel\|>final\b)"
    r"|(?P<open><[^<>\s]*(think|thought|reason)[^<>\s]*>|\[\w*think\w*\]|<\|channel\|?>\s*\w+)",
    re.IGNORECASE,
)


class _RefusedError(Exception):
    """The template does something that no chat template needs: it is refused."""


class _Meter:
    """What a template may still spend."""

    def __init__(self):
        self.left = BUDGET

    def spend(self, steps):
        self.left -= steps
        if self.left < 0:
            raise _RefusedError(_COSTLY)

    def weigh(self, *values):
        """Pay for all that `values` hold, which one step may read, compare or print; return the first one."""
        waiting: list[Any] = list(values)
        while waiting:
            value = waiting.pop()
            self.spend(1)
            if isinstance(value, (str, bytes)):
                self.spend(len(value) // BYTES_A_STEP)
            elif isinstance(value, _SIZED):
                self.spend(len(value))
                waiting += value
                waiting += value.values() if isinstance(value, dict) else ()
        return values[0]

    def counted(self, values, steps):
        """Yield what a loop goes over and pay for each turn."""
        for value in values:
            self.spend(steps)
            yield value


_VIEWS = tuple(type(getattr({}, name)()) for name in ("keys", "values", "items"))
_SIZED: tuple[Any, ...] = (list, tuple, set, frozenset, dict, range, *_VIEWS)


def _check_operation(meter, operator, left, right):
    """Pay for an operation before it is made."""
    meter.spend(1)
    sized = [value for value in (left, right) if isinstance(value, (str, bytes, list, tuple))]
    numbers = [value for value in (left, right) if isinstance(value, int)]
    if operator == "%" and isinstance(left, (str, bytes)):
        meter.weigh(right)
        if re.search(r"\d{4}|\*", str(left)):
            raise _RefusedError("it formats text with a large width")
    if operator == "*" and sized and numbers:
        meter.spend(len(sized[0]) * max(numbers[0], 0) // BYTES_A_STEP)
    elif operator == "+" and sized:
        meter.spend(sum(map(len, sized)) // BYTES_A_STEP)
    elif operator in ("*", "**") and len(numbers) == 2:
        bits = left.bit_length()
        if (bits * right if operator == "**" else bits + right.bit_length()) > MAX_BITS:
            raise _RefusedError(_COSTLY)


def _check_method(meter, method, args):
    """Pay for what a text's method can make: `replace` and `join` multiply."""
    owner, name = getattr(method, "__self__", None), getattr(method, "__name__", "")
    if isinstance(owner, str) and args:
        meter.weigh(owner)
        if name == "replace":
            _check_product(meter, owner, args[1:2])
        elif name == "join":
            _check_product(meter, owner, args[:1])


def _check_product(meter, text, others):
    size = max((len(value) for value in others if hasattr(value, "__len__")), default=0)
    meter.spend((len(text) + 1) * size // BYTES_A_STEP)


def _paid_format(meter, text, format_text):
    """Make ``text.format`` pay for what it can make."""

    def paid(*args, **kwargs):
        if _WIDE.search(text):
            raise _RefusedError("it formats text with a large width")
        before = meter.left
        meter.weigh(text, *args, *kwargs.values())
        meter.spend((before - meter.left) * text.count("{"))  # each value may stand in each place
        return format_text(*args, **kwargs)

    return paid


def _sandbox(meter):
    """Make the class of sandboxes whose every step `meter` counts."""
    from jinja2.runtime import Macro
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Metered(ImmutableSandboxedEnvironment):
        macro_steps: int
        intercepted_binops = frozenset(ImmutableSandboxedEnvironment.default_binop_table)

        @staticmethod
        def concat(pieces):
            kept = []
            for piece in pieces:
                meter.spend(1 + len(piece) // BYTES_A_STEP)
                kept.append(piece)
            return "".join(kept)

        def call_binop(self, context, operator, left, right):
            _check_operation(meter, operator, left, right)
            return super().call_binop(context, operator, left, right)

        # Names as Jinja has them, so that no keyword argument of a template can be one of them.
        def call(__self, __context, __called, *args, **kwargs):  # noqa: B902, N805
            meter.spend(__self.macro_steps if isinstance(__called, Macro) else 1)
            meter.weigh(None, *args, *kwargs.values())
            _check_method(meter, __called, args)
            return super().call(__context, __called, *args, **kwargs)

        def getitem(self, obj, argument):
            return super().getitem(obj, meter.weigh(argument))

        def is_safe_attribute(self, obj, attr, value):
            # Markup is a str of another module.
            if isinstance(obj, str) or type(obj).__module__ == "builtins":
                return any(isinstance(obj, kind) and attr in names for kind, names in ALLOWED_METHODS.items())
            return super().is_safe_attribute(obj, attr, value)

        def wrap_str_format(self, value):
            format_text = super().wrap_str_format(value)
            return None if format_text is None else _paid_format(meter, value.__self__, format_text)

    return Metered


def _environment(meter):
    """Make a sandbox with what templates may use."""
    from jinja2.ext import Extension
    from jinja2.utils import Namespace

    class QuietNamespace(Namespace):
        def __repr__(self):
            # Namespaces within namespaces would print more than anyone can wait for.
            return "<namespace>"

    class Generation(Extension):
        """``{% generation %}...{% endgeneration %}`` marks the assistant's words for training: here it does nothing."""

        tags = {"generation"}

        def parse(self, parser):
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    environment = _sandbox(meter)(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", Generation], finalize=meter.weigh
    )
    environment.filters = _filters(environment, meter)
    environment.tests = {name: _paid(meter, test) for name, test in environment.tests.items()}
    environment.globals = {name: environment.globals[name] for name in GLOBALS}
    environment.globals["namespace"] = QuietNamespace
    return environment


def _paid(meter, function):
    """Make a filter or test pay for what it reads. Jinja evaluates none that wants the context while compiling."""
    from jinja2 import pass_context

    # Private: the public Environment.call_filter looks a filter up by name, and would find the paid one again.
    from jinja2.utils import _PassArg

    wants = _PassArg.from_obj(function)

    @pass_context
    def paid(context, *args, **kwargs):
        meter.weigh(None, *args, *kwargs.values())
        passed: dict[Any, Any] = {_PassArg.context: context, _PassArg.eval_context: context.eval_ctx}
        first = passed.get(wants, context.environment)
        return function(*([] if wants is None else [first]), *args, **kwargs)

    return paid


def _filters(environment, meter):
    from jinja2 import pass_context, pass_eval_context

    known = environment.filters

    def replace(eval_ctx, s, old, new, count=None):
        _check_product(meter, str(s), [str(new)])
        return known["replace"](eval_ctx, s, old, new, count)

    def join(eval_ctx, value, d="", attribute=None):
        pieces = [meter.weigh(piece) for piece in value] if attribute is None else list(value)
        meter.spend((len(str(d)) + 1) * len(pieces) // BYTES_A_STEP)
        return known["join"](eval_ctx, pieces, d, attribute)

    def tojson(eval_ctx, value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        """As transformers does; Jinja's own filter would write ``<`` as an escape, for web pages."""
        if not (indent is None or (isinstance(indent, int) and indent <= 16)):
            raise _RefusedError("it indents JSON by more than 16")
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def indent(eval_ctx, s, width=4, first=False, blank=False):
        if not isinstance(width, str) and int(width) > 1000:
            raise _RefusedError("it indents text by more than 1000")
        lead = width if isinstance(width, str) else " " * int(width)
        meter.spend((len(lead) + 1) * (str(s).count("\n") + 1) // BYTES_A_STEP)
        return known["indent"](s, lead, first, blank)

    own = {f.__name__: pass_eval_context(f) for f in (replace, join, tojson, indent)}
    filters = {name: _paid(meter, own.get(name, known[name])) for name in FILTERS}

    @pass_context
    def counted(context, values, steps):
        return meter.counted(values, steps)

    @pass_context
    def joined(context, values):
        return environment.concat(str(meter.weigh(value)) for value in values)

    @pass_context
    def weighed(context, value):
        return meter.weigh(value)

    return {**filters, "skmlmc counted": counted, "skmlmc joined": joined, "skmlmc weighed": weighed}


def _prepare(environment, source):
    """Parse a template and put what counts its steps into it."""
    from jinja2 import nodes

    def filtered(node, name, *args):
        return nodes.Filter(node, name, list(map(nodes.Const, args)), [], None, None, lineno=node.lineno)

    def size(node):
        return 1 + sum(map(size, node.iter_child_nodes()))

    tree = environment.parse(source)
    for node in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
        raise _RefusedError(f"it wants another file (line {node.lineno})")
    environment.macro_steps = 1 + max(map(size, tree.find_all((nodes.Macro, nodes.CallBlock, nodes.Block))), default=0)
    for loop in list(tree.find_all(nodes.For)):
        if loop.recursive:
            raise _RefusedError(f"it has a recursive loop (line {loop.lineno})")
        loop.iter = filtered(loop.iter, "skmlmc counted", size(loop))
    for comparison in list(tree.find_all(nodes.Compare)):
        comparison.expr = filtered(comparison.expr, "skmlmc weighed")
        for operand in comparison.ops:
            operand.expr = filtered(operand.expr, "skmlmc weighed")
    for pair in list(tree.find_all(nodes.Pair)):
        pair.key = filtered(pair.key, "skmlmc weighed")
    _replace_concatenations(tree, nodes, filtered)
    return tree


def _replace_concatenations(tree, nodes, filtered):
    """Let ``a ~ b`` be paid for; it is the one operator that Jinja does not let a sandbox see."""

    def replaced(value):
        if isinstance(value, nodes.Concat):
            return filtered(nodes.List(value.nodes, lineno=value.lineno), "skmlmc joined")
        return value

    waiting = [tree]
    while waiting:
        node = waiting.pop()
        for name, value in list(node.iter_fields()):
            setattr(node, name, list(map(replaced, value)) if isinstance(value, list) else replaced(value))
        waiting += node.iter_child_nodes()


def _in_parts(text):
    """Give a text in the form that templates of models with pictures take, some of them no other."""
    return [{"type": "text", "text": text}]


class ChatTemplate:
    """A model's chat template, compiled in a sandbox.

    `source` is Jinja from the model file, `special_texts` are its ``bos_token`` and ``eos_token``. `switches` are the
    variables of the template that decide about thinking, set so that the model thinks least. ValueError, from
    ``render`` too: the template does not compile, or does what no template needs: other files, too many steps.
    """

    def __init__(self, source: str, special_texts: dict[str, str]):
        from jinja2 import TemplateError

        def fail(message: Any) -> None:
            raise TemplateError(message)

        def strftime_now(form: str) -> str:
            # Some templates tell the model the date. A prompt that changes overnight would change results: time stands
            # still. Python's strftime may make 256 times as much of its format.
            return date(2025, 1, 1).strftime(str(form)[:200])

        if len(source) > MAX_SOURCE:
            raise ValueError(f"The model's chat template has {len(source)} characters, expected at most {MAX_SOURCE}.")
        self._special_texts, self._meter, self._lock = dict(special_texts), _Meter(), threading.Lock()
        try:
            environment = _environment(self._meter)
            environment.globals.update(raise_exception=fail, strftime_now=strftime_now)
            tree = _prepare(environment, source)
            self.switches = _find_switches(tree)
            self._compiled = environment.from_string(tree)
        except Exception as error:
            raise _failure(error, "does not compile") from error
        self._in_parts = False
        self._in_parts = not self._prints_text() and self._prints_text(_in_parts)

    def _prints_text(self, content=str):
        """Whether the template prints what users write; `content` makes a message's content of it."""
        try:
            return _MARK in self.render([{"role": "user", "content": content(_MARK)}])
        except ValueError:
            return False

    def render(self, messages: list[dict], *, ask: bool = True) -> str:
        """Return the text of a conversation, thinking switched off where the template knows how.

        `messages` have ``role`` and ``content``. With `ask` the prompt for the assistant's next turn follows.
        """
        if self._in_parts:
            messages = [{**message, "content": _in_parts(message["content"])} for message in messages]
        values = dict(self._special_texts, messages=messages, add_generation_prompt=ask)
        # As transformers does, which passes these two whether or not there are any; some templates want them undefined.
        nothing = {"tools": None, "documents": None}
        failure: Any = None
        # One that cannot but think may refuse the switch that says so, and know another.
        fewer = [{**nothing, **{k: v for k, v in self.switches.items() if k != name}} for name in self.switches]
        for more in ({**nothing, **self.switches}, self.switches, *(fewer if len(fewer) > 1 else ()), nothing, {}):
            with self._lock:
                self._meter.left = BUDGET
                try:
                    return self._compiled.render(values, **more)
                except _RefusedError as error:
                    raise _failure(error, "fails") from error
                except Exception as error:
                    failure = failure or error
        raise _failure(failure, "fails") from failure


def _find_switches(tree):
    """Return values for the template's variables about thinking, so that it thinks least.

    Whether a variable is a flag or a text is seen from what it is compared with:
    ``reasoning_effort == 'no_think'`` wants that text, ``enable_thinking is defined and not enable_thinking`` a flag.
    """
    from jinja2 import meta, nodes

    known = {name: _SWITCH.fullmatch(name) for name in sorted(meta.find_undeclared_variables(tree))}
    names = {name: bool(match["off"]) for name, match in known.items() if match}
    texts: dict[str, set] = {name: set() for name in names}
    means = {name: {name} for name in names}  # variables of the template's own may hold one: set x = name | default(y)
    for kept in tree.find_all(nodes.Assign):
        if isinstance(kept.target, nodes.Name):
            found = {node.name for node in nodes.Tuple([kept.node], "load").find_all(nodes.Name)}
            means.setdefault(kept.target.name, set()).update(found & names.keys())
    for comparison in tree.find_all(nodes.Compare):
        constants = {node.value for node in comparison.find_all(nodes.Const) if isinstance(node.value, str)}
        for name in {node.name for node in comparison.find_all(nodes.Name)} & means.keys():
            for switch in means[name]:
                texts[switch] |= constants
    least = {name: next((word for word in _LEAST if word in found), None) for name, found in texts.items()}
    flags = {name: 0 if name.endswith("budget") else off for name, off in names.items() if not texts[name]}
    # An effort or mode that is compared with nothing is printed: what it is called there, nobody can tell.
    flags = {name: value for name, value in flags.items() if not name.endswith(("effort", "mode", "level", "strength"))}
    return flags | {name: word for name, word in least.items() if word is not None}


def open_thought(text: str) -> str | None:
    r"""Return the mark that begins a thought, or a channel other than the answer's, which `text` does not end.

    Examples
    --------
    >>> open_thought("<|im_start|>assistant\n<think>\n"), open_thought("assistant\n<think></think>")
    ('<think>', None)
    >>> open_thought("<|start|>assistant<|channel|>analysis<|message|>")
    '<|channel|>analysis'
    """
    marks = list(_THOUGHT.finditer(text))
    return marks[-1]["open"] if marks else None


def ends_thought(text: str) -> bool:
    """Whether `text` has a mark that ends a thought, or begins the channel of the answer."""
    return any(mark["close"] for mark in _THOUGHT.finditer(text))


def _failure(error, what):
    if isinstance(error, _RefusedError):
        return ValueError(f"The model's chat template is refused: {error}.")
    return ValueError(f"The model's chat template {what}: {type(error).__name__}: {str(error)[:200]}")
