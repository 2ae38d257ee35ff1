"""Chat templates in the manner of the model families."""

import json
from datetime import datetime
from functools import partial

import jinja2
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment
from shared_data import SHARED

SPECIAL_TEXTS = {"bos_token": "<bos>", "eos_token": "<eos>"}
LABELS, NONE = ["joy", "anger"], "none"

# In the manner of the model families.
CHATML = (
    "{% for m in messages %}"
    "{% if loop.first and m.role != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA = (
    "{{- bos_token }}"
    "{{- '<|head|>system<|/head|>\n\nToday is ' + strftime_now('%d %b %Y') + '.\n\n<|eot|>' }}"
    "{%- if tools is not none %}{{ '<|tools|>' }}{% endif %}"
    "{%- for m in messages %}"
    "{{- '<|head|>' + m['role'] + '<|/head|>\n\n' + m['content'] | trim + '<|eot|>' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|head|>assistant<|/head|>\n\n' }}{%- endif %}"
)
GEMMA = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}"
    "{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + m['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
MISTRAL = (
    "{{- bos_token }}"
    "{%- for m in messages %}"
    "{%- if m.role == 'user' %}{{- '[INST] ' + m.content + ' [/INST]' }}"
    "{%- elif m.role == 'assistant' %}{{- ' ' + m.content + eos_token }}"
    "{%- else %}{{- raise_exception('Only user and assistant roles are supported!') }}{%- endif %}"
    "{%- endfor %}"
)
CHATS = {"chatml": CHATML, "llama": LLAMA, "gemma": GEMMA, "mistral": MISTRAL}


# Those of real models, where they are at hand: name -> function that reads it.
REAL_TEMPLATES = {path.stem: partial(path.read_text, "utf-8") for path in sorted(SHARED.glob("chat_templates/*.jinja"))}

# What switches thinking off, by the names that templates have for it.
FLAGS = ("enable_thinking", "thinking", "reasoning")
SWITCHES = {
    **dict.fromkeys(FLAGS, False),
    "skip_thinking": True,
    "skip_reasoning": True,
    "thinking_budget": 0,
    "thinking_mode": "disabled",
}


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
            return template.render(messages=messages, add_generation_prompt=True, **{**SPECIAL_TEXTS, **more})
        except (TypeError, jinja2.UndefinedError) as error:
            failure = error
    raise AssertionError("the template fails in plain Jinja too") from failure
