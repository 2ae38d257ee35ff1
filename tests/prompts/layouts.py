"""Layouts as an extractor makes them, for a few labels."""

import json
from datetime import datetime

import jinja2
from chat_templates import LABELS, NONE, SPECIAL_TEXTS
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

from skmlmc.prompts._layouts import make_layout


def layout_of(template, chat=None, labels=LABELS, none=NONE, *, n_demonstrations=0):
    return make_layout(template, labels, none, chat, SPECIAL_TEXTS, n_demonstrations=n_demonstrations)


class Generation(Extension):
    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(["name:endgeneration"], drop_needle=True)


def jinja_text(source, messages, **values):
    """As the ecosystem renders chat templates; shares nothing with the product."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )

    def fail(message):
        raise jinja2.TemplateError(message)

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    environment.filters["tojson"] = tojson
    environment.globals.update(raise_exception=fail, strftime_now=lambda form: datetime(2025, 1, 1).strftime(form))
    template = environment.from_string(source)
    for more in ({"tools": None, "documents": None, **values}, values):
        try:
            return template.render(messages=messages, add_generation_prompt=True, **SPECIAL_TEXTS, **more)
        except (TypeError, jinja2.UndefinedError) as error:
            failure = error
    raise AssertionError("the template fails in plain Jinja too") from failure
