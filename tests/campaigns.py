"""How much is tried: a sample by default, all where campaigns are asked for (see pyproject.toml)."""

import os

import pytest
from hypothesis import settings

# With CI=1 the same examples are tried each time, as in Hypothesis's own profile for CI: what fails there fails here.
ALIKE = {"derandomize": bool(os.environ.get("CI")), "deadline": None}
settings.register_profile("sample", max_examples=25, **ALIKE)
settings.register_profile("campaign", max_examples=100, **ALIKE)


def load_profile(markers):
    """Choose by pytest's option ``-m``; no example has a deadline, since other work on the machine is no failure."""
    settings.load_profile("sample" if markers == "not campaign" else "campaign")


def at_most(n):
    """Return settings for `n` examples in a campaign, and for a quarter of them in the sample."""
    return settings(max_examples=n * settings.default.max_examples // 100)


def sampled(cases, every=4):
    """Return cases to parametrize by, of which a default run tries the first of each `every`."""
    return [case if i % every == 0 else in_campaigns(case) for i, case in enumerate(cases)]


def in_campaigns(case):
    """Return a case that only campaigns try; a tuple holds several arguments."""
    if not isinstance(case, type(pytest.param())):
        case = pytest.param(*case) if isinstance(case, tuple) else pytest.param(case)
    return pytest.param(*case.values, marks=[*case.marks, pytest.mark.campaign], id=case.id)
