"""How much a property test tries: a sample by default, all where campaigns are asked for (see pyproject.toml)."""

from hypothesis import settings

settings.register_profile("sample", max_examples=25, deadline=None)
settings.register_profile("campaign", max_examples=100, deadline=None)


def load_profile(markers):
    """Choose by pytest's option ``-m``; no example has a deadline, since other work on the machine is no failure."""
    settings.load_profile("sample" if markers == "not campaign" else "campaign")


def at_most(n):
    """Return settings for `n` examples in a campaign, and for a quarter of them in the sample."""
    return settings(max_examples=n * settings.default.max_examples // 100)
