"""Write the page of messages: each error and warning that the package can raise, read off its source.

python docs/message_page.py prints the page; the handbook's build writes it. Every ``raise`` with a message and every
``warn`` is found by walking the syntax trees. Why they come and what to do stands in ``docs/message_notes.py``, by
file or by room of the package.
"""

import ast
import re
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from message_notes import NOTES

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "skmlmc"
DEEPEST = 4  # names and calls followed from a message to the texts that it is made of


class Message(NamedTuple):
    """One place where the package raises or warns."""

    path: str
    line: int
    kind: str
    text: str
    place: str
    about: str


class Source:
    """A parsed file: what stands at its top, and what encloses each line."""

    def __init__(self, path):
        self.path = path
        self.tree = ast.parse(path.read_text(encoding="utf-8"))
        self.values = dict(assignments([node for node in self.tree.body if isinstance(node, ast.Assign)]))
        self.scopes = [node for node in ast.walk(self.tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
        self.functions = {node.name: node for node in self.scopes if isinstance(node, ast.FunctionDef)}

    def enclosing(self, node):
        """Return functions and classes around a node, the innermost first."""
        around = [n for n in self.scopes if n.lineno <= node.lineno <= n.end_lineno]
        return sorted(around, key=lambda n: -n.lineno)


def assignments(body):
    """Yield pairs of a name and the expression that it is assigned, at any depth of a function."""
    for statement in body:
        for node in ast.walk(statement):
            if isinstance(node, ast.Assign) and len(node.targets) == 1:
                target, value = node.targets[0], node.value
                if isinstance(target, ast.Name):
                    yield target.id, value
                elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                    yield from (
                        (t.id, v) for t, v in zip(target.elts, value.elts, strict=False) if isinstance(t, ast.Name)
                    )


class Reader:
    """Turns the expression of a message into its text, with ‹names› where a value comes in."""

    def __init__(self, sources):
        self.constants = {name: value for source in sources for name, value in source.values.items() if name.isupper()}
        self.functions = {name: node for source in sources for name, node in source.functions.items()}

    def text(self, node, names, depth=0):
        """Return the text of an expression; `names` are those that are known where it stands."""
        if isinstance(node, ast.Constant):
            return str(node.value)
        if isinstance(node, ast.JoinedStr):
            return "".join(self.text(part, names, depth) for part in node.values)
        if isinstance(node, ast.FormattedValue):
            return self.value(node.value, names, depth)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return self.text(node.left, names, depth) + self.text(node.right, names, depth)
        return self.value(node, names, depth)

    def value(self, node, names, depth):
        """Return the text of a value: what it is made of where that is text, else its name."""
        if isinstance(node, ast.IfExp):
            either = [self.text(branch, names, depth) for branch in (node.body, node.orelse)]
            return "[" + " / ".join(text or "nothing" for text in either) + "]"
        if depth < DEEPEST and isinstance(node, ast.Name):
            found = names.get(node.id, self.constants.get(node.id))
            if found is not None and holds_text(found):
                return self.text(found, {k: v for k, v in names.items() if k != node.id}, depth + 1)
        if depth < DEEPEST and isinstance(node, ast.Call):
            found = [self.text(value, inner, depth + 1) for value, inner in self.returned(node)]
            if found:
                return found[0] if len(found) == 1 else "[" + " / ".join(found) + "]"
        return f"‹{name_of(node)}›"

    def returned(self, call):
        """Return pairs of a text that a function of the package returns, and of the names known there."""
        function = self.functions.get(called(call))
        if function is None:
            return []
        names = {**dict(assignments(function.body)), **given(function, call)}
        values = [node.value for node in ast.walk(function) if isinstance(node, ast.Return) and node.value]
        return [(value, names) for value in values if holds_text(value)]

    def made(self, call):
        """Return the call in a function of the package that makes an exception, where `call` is not that itself."""
        function = self.functions.get(called(call))
        values = [node.value for node in ast.walk(function) if isinstance(node, ast.Return)] if function else []
        return next((value for value in values if isinstance(value, ast.Call) and value.args), None)


def called(call):
    """Name of the function or method of the package that a call may be of."""
    of_self = isinstance(call.func, ast.Attribute) and getattr(call.func.value, "id", "") in ("self", "cls")
    return call.func.attr if of_self else getattr(call.func, "id", "")


def parameters(node):
    """Return the names of a function's parameters; a class has none."""
    return {argument.arg for argument in node.args.args + node.args.kwonlyargs} if hasattr(node, "args") else set()


def given(function, call):
    """Return the arguments of a call that are texts, by the function's names for them."""
    pairs = [*zip((argument.arg for argument in function.args.args), call.args, strict=False)]
    pairs += [(keyword.arg, keyword.value) for keyword in call.keywords]
    return {name: value for name, value in pairs if holds_text(value)}


def holds_text(node):
    """Say whether an expression is made of text that stands in the source."""
    if isinstance(node, ast.IfExp):
        return holds_text(node.body) and holds_text(node.orelse)
    if isinstance(node, ast.BinOp):
        return holds_text(node.left) or holds_text(node.right)
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def name_of(node):
    """Return a short name of a value for the reader: the last word that its expression has."""
    if isinstance(node, ast.Call) and node.args and getattr(node.func, "id", "") == "len":
        return f"number of {name_of(node.args[0])}"
    if isinstance(node, ast.Call) and node.args and not isinstance(node.func, ast.Attribute):
        return name_of(node.args[0])
    if isinstance(node, ast.Call):
        return name_of(node.args[-1] if getattr(node.func, "attr", "") == "join" and node.args else node.func)
    if isinstance(node, (ast.Subscript, ast.Starred)):
        return name_of(node.value)
    if isinstance(node, ast.Attribute) and node.attr in ("__name__", "name"):
        return name_of(node.value)
    words = re.findall(r"[A-Za-z_]\w*", ast.unparse(node))
    known = [word for word in words if not word.startswith("__")]
    known = ["estimator" if word == "self" else word for word in known]
    return (known or ["value"])[-1 if isinstance(node, (ast.Attribute, ast.Name)) else 0].strip("_") or "value"


def kind_of(call):
    """Name of what a call makes: an exception's class, or the category of a warning."""
    name = ast.unparse(call.func).rpartition(".")[2]
    if name == "warn":
        return ast.unparse(call.args[1]) if len(call.args) > 1 else "UserWarning"
    return {"kind": "FileNotFoundError or ValueError", "type(error)": "error of the same class"}.get(name, name)


def calls(source):
    """Yield the calls that make an error or a warning."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
            yield node.exc
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "warn":
            yield node


@cache
def read_messages():
    """Return all messages of the package, in the order of its files and lines."""
    sources = [Source(path) for path in sorted(PACKAGE.rglob("*.py")) if path.name != "warning.py"]
    reader, found = Reader(sources), []
    for source in sources:
        for call in sorted(calls(source), key=lambda call: call.lineno):
            around = source.enclosing(call)
            names = {**source.values}
            for outer in reversed(around):
                names.update(assignments(outer.body))
                names = {name: value for name, value in names.items() if name not in parameters(outer)}
            made = reader.made(call)
            if made is not None:
                function = reader.functions[called(call)]
                names = {**names, **dict(assignments(function.body)), **given(function, call)}
            text = reader.text((made or call).args[0], names)
            about = next(filter(None, map(ast.get_docstring, around)), "").split("\n\n")[0]
            place = next((node.name for node in around), source.path.stem)
            path = source.path.relative_to(ROOT).as_posix()
            found.append(Message(path, call.lineno, kind_of(made or call), " ".join(text.split()), place, flat(about)))
    return found


def flat(text):
    """Return text as one line."""
    return " ".join(text.split())


def note_of(path):
    """Key of the note that a file's messages have: its own, or that of its room."""
    file = path.removeprefix("skmlmc/")
    return file if file in NOTES else file.partition("/")[0]


def entries(messages):
    """Yield the lines of a section's messages; what a function does stands before the first one of it."""
    for about, group in groupby(messages, key=lambda message: message.about):
        if about:
            yield from (f"> {about}", "")
        for message in group:
            text = message.text.replace("`", "'")
            yield from (f"`` {text} ``", f": {message.kind}, from `{message.place}`", "")


HEAD = """# What messages mean

All errors and warnings of the package, as its source has them: {count} in all. Each says what was expected, what
came, and what to do. Here they stand with the place that says them, what that does and, for each group, why they come
and what helps.
A word in ‹brackets› stands for a value, `[one / the other]` for either of two. Search for words of the message that
you got, leaving out names and numbers.

Errors come before anything expensive: parameters, labels and data are looked at before a model is loaded, and the file
before it is decoded. Warnings are said once, at the line of your code that led to them.
"""


def page():
    """Return the page's text."""
    messages = read_messages()
    lines = [HEAD.format(count=len(messages))]
    for key, (title, why, remedy) in NOTES.items():
        group = [message for message in messages if note_of(message.path) == key]
        if group:
            lines += [f"## {title}", "", f"**Why.** {why}", "", f"**What to do.** {remedy}", ""]
            lines += entries(group)
    return "\n".join(lines)


def write(path):
    """Write the page."""
    path.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    print(page())
