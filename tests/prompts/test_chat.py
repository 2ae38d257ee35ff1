"""Chat templates of model files: real ones render as ever, hostile ones end quickly, small and inside."""

import json
import resource
import sys
import threading
import time
import tracemalloc

import numpy as np
import pytest
from campaigns import at_most, sampled
from chat_templates import CHATS, SPECIAL_TEXTS, jinja_text
from hypothesis import given
from hypothesis import strategies as st
from inside import loaded
from jinja2.sandbox import ImmutableSandboxedEnvironment
from scripts import run_script
from tiny_gguf import CHATML, write_tiny_gguf

from skmlmc import StepwiseExtractor, clear_models
from skmlmc.prompts import PromptTemplate
from skmlmc.prompts import _chat as room
from skmlmc.prompts._chat import BUDGET, FILTERS, MAX_SOURCE, ChatTemplate

MESSAGES = [
    {"role": "user", "content": "hello {{ 1 }}\n"},
    {"role": "assistant", "content": "  <think>hm</think> yes "},
    {"role": "user", "content": "and now?"},
]

# In the manner of the model families: namespaces, slices, macros, methods, tool branches that are not taken.
QWEN = """
{%- if tools %}{{- '<|im_start|>system\\n' }}{%- for tool in tools %}{{- tool | tojson }}{%- endfor %}
{%- elif messages[0].role == 'system' %}{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool>') and message.content.endswith('</tool>')) %}
        {%- set ns.multi_step_tool = false %}{%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}{%- set content = message.content %}{%- else %}{%- set content = '' %}{%- endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning = '' %}
        {%- if '</think>' in content %}
            {%- set reasoning = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index and (loop.last or (not loop.last and reasoning)) %}
            {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning.strip('\\n') + '\\n</think>\\n\\n' + content }}
        {%- else %}{{- '<|im_start|>' + message.role + '\\n' + content }}{%- endif %}
        {%- if message.tool_calls %}{%- for call in message.tool_calls %}{{- call.arguments | tojson }}{%- endfor %}{%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""  # noqa: E501
MISTRAL_TOOLS = """
{%- if messages[0]["role"] == "system" %}{%- set loop_messages = messages[1:] %}{%- else %}{%- set loop_messages = messages %}{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{{- bos_token }}
{%- for message in loop_messages | rejectattr("role", "equalto", "tool") %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}{{- "[TOOLS][" }}
            {%- for tool in tools %}{%- for key, val in tool.items() if key != "return" %}{{- '"' + key + '": ' + val|tojson }}{%- if not loop.last %}, {%- endif %}{%- endfor %}{%- endfor %}
        {%- endif %}
        {{- "[INST] " + message["content"] + "[/INST]" }}
    {%- elif message["role"] == "assistant" %}{{- " " + message["content"]|trim + eos_token }}
    {%- else %}{{- raise_exception("Only user and assistant roles are supported!") }}{%- endif %}
{%- endfor %}
"""  # noqa: E501
MACROS = """
{%- macro turn(role, content, last=false) -%}<|{{ role }}|>
{{ content | trim | replace('\\r\\n', '\\n') }}<|end|>{% if not last %}{{ '\\n' }}{% endif %}{%- endmacro -%}
{%- set names = {'user': 'User', 'assistant': 'Assistant'} -%}
{%- for m in messages -%}{{ turn(names[m.role] or m.role | title, m['content'], last=loop.last) }}
{%- if loop.index is even %}{{ '~' ~ loop.index ~ '/' ~ loop.length }}{% endif -%}{%- endfor -%}
{%- set tail %}{{ '%' }}{{ 3 * 2 + 7 // 2 - 1 }}{{ ['a', 'b'] | join('-') }}{{ 'x' * 3 }}{{ 7 % 4 }}{{ 2 ** 3 }}{% endset -%}
{{ tail | upper }}{{ messages | map(attribute='role') | unique | list | tojson }}{{ {'a': [1, none]} | tojson(indent=2) }}
{%- if add_generation_prompt %}{{ '<|assistant|>' | e }}{% endif %}{% for i in range(3) %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% endfor %}
"""  # noqa: E501
REAL = {**CHATS, "tiny": CHATML, "qwen": QWEN, "mistral tools": MISTRAL_TOOLS, "macros": MACROS}


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("n", [1, 3])
def test_real_templates_render_as_in_jinja(name, n):
    source = REAL[name]
    assert ChatTemplate(source, SPECIAL_TEXTS).render(MESSAGES[:n]) == jinja_text(source, MESSAGES[:n])


@pytest.mark.parametrize("name", REAL)
def test_real_templates_spend_little(name, monkeypatch):
    monkeypatch.setattr(room, "BUDGET", BUDGET // 200)
    ChatTemplate(REAL[name], SPECIAL_TEXTS).render(MESSAGES)


@pytest.mark.model
def test_the_template_of_a_real_file(embedded_model):
    source = loaded(embedded_model).chat_template
    assert ChatTemplate(source, SPECIAL_TEXTS).render(MESSAGES) == jinja_text(source, MESSAGES)


expressions = st.recursive(
    st.sampled_from(
        ["1", "2.5", "'ab'", "none", "true", "messages", "messages[0]", "messages[1].role", "[]", "{}", "x.y", "''"]
    ),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "//", "~", "==", "in", "and", "or", "<"]), inner).map(
            lambda parts: f"({' '.join(parts)})"
        ),
        st.tuples(
            inner, st.sampled_from(["length", "list", "string", "upper", "trim", "first", "tojson", "d('z')"])
        ).map(lambda parts: f"({parts[0]} | {parts[1]})"),
        st.lists(inner, max_size=3).map(lambda parts: f"[{', '.join(parts)}]"),
        inner.map(lambda part: f"({part} if true else 0)"),
    ),
    max_leaves=8,
)


@given(st.lists(expressions, min_size=1, max_size=3))
@at_most(300)
def test_any_expression_gives_what_jinja_gives(parts):
    source = "".join(f"{{% for i in [1, 2] %}}{{{{ {part} }}}}|{{% endfor %}}" for part in parts)
    try:
        expected = jinja_text(source, MESSAGES)
    except Exception:
        with pytest.raises(ValueError, match="chat template"):
            ChatTemplate(source, SPECIAL_TEXTS).render(MESSAGES)
        return
    assert ChatTemplate(source, SPECIAL_TEXTS).render(MESSAGES) == expected


def grow(start, step, use, n=60):
    return f"{{% set a = {start} %}}{{% set b = {start} %}}" + f"{{% set a = {step} %}}{{% set b = b %}}" * n + use


def in_namespace(step):
    return (
        "{% set n = namespace(s='aaaaaaaa') %}{% for i in range(60) %}{% set n.s = " + step + " %}{% endfor %}{{ n.s }}"
    )


LAUGHS = ("['l']", "[a, a]")
NAMES = ("namespace(x=1)", "namespace(x=a, y=a)")
COSTLY = "is refused: it takes too many steps or too much memory"
CLOSED = "fails: SecurityError|fails: UndefinedError|No filter named|is refused: it formats text"
HOSTILE = {
    # attributes and formats
    "classes": ("{{ ''.__class__.__mro__ }}", CLOSED),
    "globals": ("{{ cycler.__init__.__globals__.os }}", CLOSED),
    "functions": ("{{ raise_exception.__globals__.os }}", CLOSED),
    "macros": ("{% macro m() %}{% endmacro %}{{ m._func.__globals__ }}", CLOSED),
    "loops' own": ("{% for i in [1] %}{{ loop._iterator.x }}{% endfor %}", CLOSED),
    "frames": ("{{ ([1] | map('string')).gi_frame.f_back }}", CLOSED),
    "context": ("{{ self._TemplateReference__context.x }}", CLOSED),
    "by filter": ("{{ ('' | attr('__class__')).x }}", CLOSED),
    "by map": ("{{ ([''] | map(attribute='__class__') | list)[0].x }}", CLOSED),
    "format filter": ("{{ '%s' | format(1) }}", CLOSED),
    "wide format": ("{{ '{:999999999}'.format(1) }}", CLOSED),
    "computed width": ("{{ '{:>{}}'.format(1, 999999999) }}", CLOSED),
    "percent": ("{{ '%999999999d' % 1 }}", CLOSED),
    "percent of markup": ("{{ ('%999999999d' | e) % 1 }}", CLOSED),
    "appends": ("{{ messages.append(1) }}", CLOSED),
    "updates": ("{{ messages[0].update({}) }}", CLOSED),
    # other files
    **{
        word: (f"{{% {word} '/etc/passwd' {rest} %}}", "is refused: it wants another file .line 1.")
        for word, rest in {"include": "", "import": "as x", "from": "import y", "extends": ""}.items()
    },
    # one costly step
    "text times": ("{{ 'a' * 10**10 }}", COSTLY),
    "text times, constant": ("{{ ('a' * 10000000000) | length }}", COSTLY),
    "times text": ("{{ 10000000000 * 'a' }}", COSTLY),
    "list times": ("{% set x = [1] * 10**10 %}", COSTLY),
    "markup times": ("{{ ('a' | e) * 10**10 }}", COSTLY),
    "power": ("{{ 2 ** (2 ** 40) }}", COSTLY),
    "powers": ("{{ 10 ** 10 ** 10 ** 10 ** 10 }}", COSTLY),
    "products": ("{% set n = namespace(x=9) %}{% for i in range(99) %}{% set n.x = n.x * n.x %}{% endfor %}", COSTLY),
    "center": ("{{ 'a' | center(10**10) }}", CLOSED),
    **{name: (f"{{{{ 'a'.{name}(10**10) }}}}", CLOSED) for name in ("center", "ljust", "zfill", "expandtabs")},
    "center of markup": ("{{ ('a' | e).center(10**10) }}", CLOSED),
    "to_bytes": ("{{ (5).to_bytes(10**10, 'big') }}", CLOSED),
    "indent": ("{{ 'a\n' | indent(10**10) }}", "is refused: it indents text by more than 1000"),
    "format laughs": (in_namespace("'{0}{0}'.format(n.s)"), COSTLY),
    "formats at once": ("{{ ('{0}' * 99999).format('a' * 99999) }}", COSTLY),
    "wordwrap": ("{{ 'a' | wordwrap(1, wrapstring='b') }}", CLOSED),
    "lipsum": ("{{ lipsum(n=10**9) }}", CLOSED),
    "json": ("{{ [1] | tojson(indent=10**9) }}", "is refused: it indents JSON"),
    "replace": ("{{ ('a' * 90000).replace('a', 'b' * 90000) }}", COSTLY),
    "replace by keyword": ("{{ ('a' * 90000) | replace('a', new='b' * 90000) }}", COSTLY),
    "join": ("{{ ('a' * 90000).join('b' * 90000) }}", COSTLY),
    "join by filter": ("{{ range(90000) | join('a' * 90000) }}", COSTLY),
    "digits": ("{{ " + "9" * 100_000 + " }}", "does not compile|" + COSTLY),
    # many steps
    "range": ("{% for i in range(10**9) %}{% endfor %}", "fails: OverflowError"),
    "loops": ("{% for a in range(99999) %}" * 3 + "{% endfor %}" * 3, COSTLY),
    "long loop": ("{% for i in range(99999) %}" + "{% if i == 1 %}{% endif %}" * 999 + "{% endfor %}", COSTLY),
    "recursive loop": ("{% for i in [1] recursive %}{{ loop([1, 1]) }}{% endfor %}", "is refused: it has a recursive"),
    "macro": ("{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}", "fails: RecursionError|" + COSTLY),
    "macro tree": ("{% macro m(n) %}{% if n %}{{ m(n-1) }}{{ m(n-1) }}{% endif %}{% endmacro %}{{ m(40) }}", COSTLY),
    "block": ("{% block a %}{{ self.a() }}{{ self.a() }}{% endblock %}", "fails: RecursionError|" + COSTLY),
    "calls": (
        "{% macro m(n) %}{% if n %}{% call m(n-1) %}{% endcall %}{{ m(n-1) }}{% endif %}{{ caller }}{% endmacro %}"
        "{{ m(40) }}",
        COSTLY + "|fails",
    ),
    "maps": ("{% for i in range(99999) %}{{ range(99999) | map('string') | list | length }}{% endfor %}", COSTLY),
    # growth by doubling
    "add": (in_namespace("n.s + n.s"), COSTLY),
    "concatenate": (in_namespace("n.s ~ n.s"), COSTLY),
    "list of text": (in_namespace("[n.s, n.s] | join"), COSTLY),
    "blocks": ("{% set s = 'aaaaaaaa' %}" + "{% set s %}{{ s }}{{ s }}{% endset %}" * 60, COSTLY),
    "filter blocks": (
        "{% set s = 'aaaaaaaa' %}" + "{% set s %}{% filter upper %}{{ s }}{{ s }}{% endfilter %}{% endset %}" * 60,
        COSTLY,
    ),
    "print laughs": (grow(*LAUGHS, "{{ a }}"), COSTLY),
    "json laughs": (grow(*LAUGHS, "{{ a | tojson }}"), COSTLY),
    "join laughs": (grow(*LAUGHS, "{{ [[a]] | map(attribute=0) | join }}"), COSTLY),
    "map laughs": (grow(*LAUGHS, "{{ [a] | map('string') | list }}"), COSTLY),
    "concatenate laughs": (grow(*LAUGHS, "{{ a ~ '' }}"), COSTLY),
    "compare laughs": (grow(*LAUGHS, "{{ a == b }}").replace("set b = b ", "set b = [b, b] "), COSTLY),
    "test laughs": (grow(*LAUGHS, "{{ a is eq b }}").replace("set b = b ", "set b = [b, b] "), COSTLY),
    "sort laughs": (grow(*LAUGHS, "{{ [a, b] | sort }}").replace("set b = b ", "set b = [b, b] "), COSTLY),
    "hash laughs": (grow("(1,)", "(a, a)", "{{ {a: 1} }}"), COSTLY),
    "look up laughs": (grow("(1,)", "(a, a)", "{{ {}[a] }}"), COSTLY),
    "unique laughs": (grow("(1,)", "(a, a)", "{{ [a] | unique | list }}"), COSTLY),
    "dict laughs": (grow("dict(x=1)", "dict(x=a, y=a)", "{{ a }}"), COSTLY),
    "views": (grow("dict(x=1)", "dict(x=a, y=a)", "{{ a.items() }}"), COSTLY),
    # the source itself
    "long": ("a" * (MAX_SOURCE + 1), f"characters, expected at most {MAX_SOURCE}"),
    "parentheses": ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "does not compile"),
    "minuses": ("{{ " + "-" * 5000 + "1 }}", "does not compile"),
    "nested": ("{% if 1 %}" * 3000 + "{% endif %}" * 3000, "does not compile"),
    "nested lists": ("{{ " + "[" * 3000 + "]" * 3000 + " }}", "does not compile"),
}


@pytest.mark.parametrize("name", sampled(HOSTILE, 3))
def test_hostile_templates_end_quickly_and_small(name):
    source, match = HOSTILE[name]
    begin, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=f"The model's chat template .*({match})"):
        ChatTemplate(source, SPECIAL_TEXTS).render(MESSAGES)
    assert time.process_time() - begin < 10, "about half a second on an idle machine"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000, "kilobytes"


@pytest.mark.parametrize(
    "source",
    ["{{ '{0.__class__}'.format(1) }}", "{{ '{a.__class__}'.format(a=1) }}", "{{ '{0.__class__}'['format'](1) }}"],
)
def test_formatted_text_shows_no_classes(source):
    assert ChatTemplate(source, SPECIAL_TEXTS).render(MESSAGES) == ""


@pytest.mark.parametrize("use", ["{{ a }}", "{{ [a] }}", "{{ a | string }}", "{{ a | upper }}", "{{ a ~ '' }}"])
def test_namespaces_within_namespaces_print_nothing(use):
    assert len(ChatTemplate(grow(*NAMES, use), SPECIAL_TEXTS).render(MESSAGES)) < 20


def test_a_date_stays_short():
    assert len(ChatTemplate("{{ strftime_now('%A' * 99999) }}", SPECIAL_TEXTS).render(MESSAGES)) < 2000
    assert len(ChatTemplate("{{ strftime_now('%999999999d' * 9) }}", SPECIAL_TEXTS).render(MESSAGES)) < 100_000


def test_a_message_of_the_template_is_cut():
    with pytest.raises(ValueError) as caught:
        ChatTemplate("{{ raise_exception('x' * 100000) }}", SPECIAL_TEXTS).render(MESSAGES)
    assert len(str(caught.value)) < 400


def test_nothing_is_evaluated_while_compiling():
    """Jinja folds constants when it compiles, where no step would be counted."""
    tracemalloc.start()
    ChatTemplate(
        "{% if false %}{{ ('a' * 10000000) | upper | length }}{{ 'a' ~ 'b' * 99999999 }}{% endif %}", SPECIAL_TEXTS
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


def test_every_allowed_filter_is_jinjas():
    assert set(FILTERS) <= set(ImmutableSandboxedEnvironment().filters)


def test_a_render_starts_with_the_whole_budget():
    render = ChatTemplate("{% for i in range(90000) %}{% endfor %}ok", SPECIAL_TEXTS).render
    assert [render(MESSAGES) for _ in range(5)] == ["ok"] * 5


def test_threads_do_not_spend_each_others_budget():
    render, got = ChatTemplate("{% for i in range(90000) %}{% endfor %}ok", SPECIAL_TEXTS).render, []
    threads = [threading.Thread(target=lambda: got.append(render(MESSAGES))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == ["ok"] * 4


@pytest.mark.parametrize("name", ["text times", "concatenate", "include"])
def test_a_model_file_with_a_hostile_template(name, tmp_path):
    path = write_tiny_gguf(tmp_path / "m.gguf", chat_template=HOSTILE[name][0])
    with pytest.warns(UserWarning, match="plain text, not as a chat"):
        plain = StepwiseExtractor(path, labels=["joy", "anger"], n_threads=1).fit().transform(["We won!!!"])
    assert np.isfinite(plain[:, 0]).all()
    with pytest.raises(ValueError, match="chat template"):
        template = PromptTemplate(mode="chat")
        StepwiseExtractor(path, labels=["joy", "anger"], n_threads=1, prompt=template).fit().transform(["We won!!!"])
    clear_models()


@pytest.mark.campaign
def test_nothing_reaches_the_outside(tmp_path):
    """In a process that tells of every file and process opened while templates render."""
    sources = [source for source, _ in HOSTILE.values()]
    code = """
    import json, pathlib
    from skmlmc.prompts._chat import ChatTemplate
    ChatTemplate("{{ 1 }}", {}).render([])
    seen, watching = [], False
    sys.addaudithook(lambda event, args: seen.append((event, str(args[:1]))) if watching else None)
    sources = json.loads(pathlib.Path(sys.argv[1]).read_text())
    # What Jinja and Python import at their first failure is not the templates' doing.
    for source in [*sources, None, *sources]:
        if source is None:
            seen.clear()
            continue
        try:
            watching = True
            ChatTemplate(source, {}).render([{"role": "user", "content": "x"}])
        except ValueError:
            pass
        finally:
            watching = False
    bad = ("open", "os.", "subprocess", "socket", "import", "ctypes", "shutil")
    print([event for event in seen if event[0].startswith(bad)])
    """
    (tmp_path / "sources.json").write_text(json.dumps(sources))
    run = run_script(code, tmp_path / "sources.json", timeout=120)
    assert run.stdout == "[]\n", run.stdout + run.stderr
    assert sys.getrecursionlimit() >= 1000
