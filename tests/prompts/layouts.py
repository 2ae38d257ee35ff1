"""Layouts as an extractor makes them, for a few labels."""

from chat_templates import LABELS, NONE, SPECIAL_TEXTS

from skmlmc.prompts._layouts import make_layout


def layout_of(template, chat=None, labels=LABELS, none=NONE, *, n_demonstrations=0):
    return make_layout(template, labels, none, chat, SPECIAL_TEXTS, n_demonstrations=n_demonstrations)
