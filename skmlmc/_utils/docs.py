"""Docstrings that say the same thing, written once."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeVar

T = TypeVar("T")


def documented(**texts: str) -> Callable[[T], T]:
    """Make a decorator that writes shared texts where a docstring names them in braces.

    Parameters
    ----------
    **texts : str
        What to write for ``{name}``; later lines indented as in a docstring.

    Returns
    -------
    callable
        Decorator of a class or function, which it returns.

    Examples
    --------
    >>> @documented(who="the caller")
    ... def f():
    ...     'Ask {who}.'
    >>> f.__doc__
    'Ask the caller.'
    """

    def fill(described: T) -> T:
        for name, text in texts.items():
            if described.__doc__:  # python -OO drops it
                described.__doc__ = described.__doc__.replace(f"{{{name}}}", text)
        return described

    return fill


def publish(module: str, names: dict[str, Any]) -> None:
    """Let public classes and functions say the path that users import them from, not the private file they stand in.

    Pickles and the lists of trusted types that skops asks for hold that path: it stays when a file is renamed.

    Parameters
    ----------
    module : str
        The public path, ``__name__`` of a room's face.
    names : dict of str to object
        ``globals()`` of that face, with its ``__all__``.
    """
    for name in names["__all__"]:
        if isinstance(names[name], (type, FunctionType)):
            names[name].__module__ = module
