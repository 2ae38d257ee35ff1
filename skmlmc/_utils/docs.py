"""Docstrings that say the same thing, written once."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import dedent, indent
from types import FunctionType
from typing import Any, TypeVar

T = TypeVar("T")

PAPER = 'Ma et al., "Large Language Models Do Multi-Label Classification Differently", EMNLP 2025'
ALWAYS = {"paper": PAPER, "section5": f"{PAPER},\n    section 5"}


def documented(**texts: str) -> Callable[[T], T]:
    """Make a decorator that writes shared texts where a docstring, or one of a class's methods, names them in braces.

    `texts` say what to write for ``{name}``, beside the names that are `ALWAYS` known; later lines indented as in the
    docstring of a function. Where the name stands deeper, as in a method, or less deep, as in docstrings of Python
    3.13, they follow it.

    Examples
    --------
    >>> @documented(who="the caller")
    ... def f():
    ...     'Ask {who}.'
    >>> f.__doc__
    'Ask the caller.'
    """

    def fill(described: T) -> T:
        _fill(described, texts)
        for method in vars(described).values() if isinstance(described, type) else ():
            method = getattr(method, "__func__", method)  # a class method has its function inside
            if isinstance(method, FunctionType):
                _fill(method, texts)
        return described

    return fill


def _fill(described, texts):
    for name, text in {**ALWAYS, **texts}.items():
        lines = (described.__doc__ or "").split("\n")  # python -OO drops it
        text = dedent(f"    {text}")
        margins = [line[: len(line) - len(line.lstrip())] for line in lines]
        filled = [s.replace(f"{{{name}}}", indent(text, m).lstrip()) for s, m in zip(lines, margins, strict=True)]
        described.__doc__ = "\n".join(filled) or None


def publish(module: str, names: dict[str, Any]) -> None:
    """Let public classes and functions say the path that users import them from, not the private file they stand in.

    Pickles and the lists of trusted types that skops asks for hold that path: it stays when a file is renamed. `module`
    and `names` are ``__name__`` and ``globals()`` of a room's face.
    """
    for name in names["__all__"]:
        if isinstance(names[name], (type, FunctionType)):
            names[name].__module__ = module
