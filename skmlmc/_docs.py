"""Docstrings that say the same thing, written once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

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
