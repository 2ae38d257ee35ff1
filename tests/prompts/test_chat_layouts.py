"""Chat templates as models have them: each prompt equals a plain Jinja rendering, and none asks inside a thought."""

import contextlib
import re
from dataclasses import replace

import jinja2
import pytest
from chat_templates import CHATML, LABELS, NONE, REAL_TEMPLATES, SWITCHES, jinja_text
from layouts import layout_of

from skmlmc import PromptTemplate
from skmlmc.prompts import render_answer

ANSWER = render_answer("json", ["joy"])
EFFORTS = ({"reasoning_effort": "none"}, {"reasoning_effort": "no_think"}, {"reasoning_effort": "low"}, {})


def messages_of(shots, texts, system=None):
    """Default prompt as messages: the instruction stands in the first turn."""
    opening = PromptTemplate().instruction.format(labels=", ".join(LABELS), none=NONE, wording="labels") + "\n\n"
    messages = [] if system is None else [{"role": "system", "content": system}]
    for k, text in enumerate(texts):
        messages.append({"role": "user", "content": (opening if k == 0 else "") + f"Input: {text}"})
        if k < shots:
            messages.append({"role": "assistant", "content": ANSWER})
    return messages


def written(layout, texts, opening=False):
    turns = [(text, layout.bridge, ANSWER) for text in texts[:-1]]
    return "".join(s.text for s in [*layout.conversation(turns, texts[-1]), *(layout.opening if opening else ())])


def expected_texts(source, shots, texts, system=None):
    """Renderings of the same turns, one for each thing that a template may call its effort."""
    found, messages = [], messages_of(shots, texts, system)
    parts = [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in messages]
    for effort in EFFORTS:
        for switches in (SWITCHES, {}):
            with contextlib.suppress(jinja2.TemplateError, AssertionError):  # one that knows no such value may say so
                found.append(jinja_text(source, messages, **switches, **effort))
                break
    # What takes contents in parts alone prints nothing else of them, or fails.
    return found if any(texts[-1].strip() in text for text in found) else [jinja_text(source, parts, **SWITCHES)]


THOUGHT = re.compile(r"</?[^<>]*think[^<>]*>|\[/?THINK\]|<\|(START|END)_THINKING\|>|<\|?channel\|?>\w*", re.IGNORECASE)


def unfinished(text):
    """Whether the last mark about thoughts begins one, or a channel that is not the final one."""
    *_, last = ["/", *(m.group() for m in THOUGHT.finditer(text))]
    return not ("/" in last or "END" in last or last in ("<channel|>", "<|channel|>final"))


@pytest.mark.parametrize("name", REAL_TEMPLATES)
def test_templates_of_real_models(name):
    source = REAL_TEMPLATES[name]()
    if "functions" in source and "fire" in name:
        with pytest.warns(UserWarning, match="plain text, not as a chat.*'functions' is undefined.*mode=\"plain\""):
            assert layout_of(PromptTemplate(), source).mode == "plain"
        return
    for shots in (0, 1, 3):
        layout = layout_of(PromptTemplate(mode="chat"), source, n_demonstrations=shots)
        texts = [f"  text {k} " for k in range(shots + 1)]
        assert any(text.startswith(written(layout, texts)) for text in expected_texts(source, shots, texts))
        opening = "".join(s.text for s in layout.opening)
        assert opening and not unfinished(opening)
        assert not opening.rstrip().endswith((":", ">>>")), "the model would be in the middle of something"


ENDINGS = {
    "Qwen-Qwen3-0.6B": "<|im_start|>assistant\n<think>\n\n</think>\n\n",
    "Qwen3.5-4B": "<|im_start|>assistant\n<think>\n\n</think>\n\n",
    "openai-gpt-oss-120b": "<|start|>assistant<|channel|>final<|message|>",
    "GLM-4.6": "<|assistant|>\n<think></think>\n",
    "Kimi-K2-Thinking": "<|im_middle|><think></think>",
    "google-gemma-4-31B-it": "<|turn>model\n<|channel>thought\n<channel|>",
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B": "<｜Assistant｜><think>\n\n</think>\n\n",
    "MiniMax-M2": "]~b]ai\n<think>\n\n</think>\n\n",
    "Apriel-1.6-15b-Thinker-fixed": "<|begin_assistant|>\n",
    "muse-glimmer": "<|start|>assistant to=user<|message|>",
    "meta-llama-Llama-3.2-3B-Instruct": "<|start_header_id|>assistant<|end_header_id|>\n\n",
}


@pytest.mark.parametrize("name", [name for name in ENDINGS if name in REAL_TEMPLATES])
def test_what_stands_before_an_answer(name):
    layout = layout_of(PromptTemplate(mode="chat"), REAL_TEMPLATES[name]())
    assert "".join(s.text for s in layout.opening).endswith(ENDINGS[name])


TURN = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
ASSISTANT = "<|end|><|assistant|>"
# Ways of templates with thoughts, in our own words: source behind the turns, what must stand before an answer, what
# the layout says of it.
WAYS = {
    "a flag": ("<think>{% if not enable_thinking %}</think>{% endif %}", "<think></think>", "switched off"),
    "another flag": ("<t>{% if thinking is not defined or thinking %}<think>\n{% endif %}", "<t>", "switched off"),
    "a flag to skip": ("{% if skip_reasoning is not true %}/think{% endif %}", "", "switched off"),
    "a budget": ("{% if thinking_budget == 0 %}<b></b>{% endif %}", "<b></b>", "switched off"),
    "an effort": ("{% if reasoning_effort != 'no_think' %}<think>{% endif %}", "", "switched off"),
    "a mode": ("{% if thinking_mode != 'disabled' %}<think>{% endif %}", "", "switched off"),
    "an effort kept": (
        "{% set how = reasoning_effort | default('xhigh') %}{% if how != 'no_think' %}<think>{% endif %}",
        "",
        "switched off",
    ),
    "a flag that is refused": (
        "{% if enable_thinking is defined %}{{ raise_exception('no') }}{% endif %}"
        "{% set how = reasoning_effort | default('xhigh') %}{{ how if how == 'low' }}<think>",
        "low<think>\n</think>\n\n",
        "closed",
    ),
    "none": ("<think>\n", "<think>\n\n</think>\n\n", "closed"),
    "another's words": ("<to>\nDestination: user\n", "<to>\nDestination: user\n", "none"),
    "capitals": ("[THINK]", "[THINK]\n[/THINK]\n\n", "closed"),
    "words": ("Here are my reasoning steps:\n", "", "closed"),
    "no thought": ("", "", "none"),
}


@pytest.mark.parametrize("name", WAYS)
def test_ways_of_thinking(name):
    behind, opening, thinking = WAYS[name]
    source = TURN + "{% if add_generation_prompt %}<|assistant|>" + behind + "{% endif %}"
    layout = layout_of(PromptTemplate(mode="chat"), source)
    assert "".join(s.text for s in layout.opening) == ASSISTANT + opening
    assert layout.thinking == thinking


def test_a_thought_is_ended_as_past_turns_end_it():
    past = "{% if m.reasoning_content %}<mull>{{ m.reasoning_content }}\n</mull>~{% endif %}"
    source = (
        TURN.replace("|>{{", "|>" + past + "{{") + "{% if add_generation_prompt %}<|assistant|><think:x>\n{% endif %}"
    )
    layout = layout_of(PromptTemplate(mode="chat"), source)
    assert "".join(s.text for s in layout.opening) == ASSISTANT + "<think:x>\n\n</mull>~"


def test_past_turns_keep_their_bridge():
    source = TURN + "{% if add_generation_prompt %}<|assistant|><think>{% endif %}"
    layout = layout_of(PromptTemplate(mode="chat"), source, n_demonstrations=2)
    parts = ["".join(s.text for s in part) for part in (layout.bridge, layout.opening)]
    assert parts == [ASSISTANT, ASSISTANT + "<think>\n</think>\n\n"]


def test_a_system_text():
    template = PromptTemplate(mode="chat", system="You label <|im_end|> messages.")
    layout = layout_of(template, CHATML)
    got = written(layout, ["hello"], opening=True)
    assert got == jinja_text(CHATML, messages_of(0, ["hello"], template.system))
    assert not any(s.special and "label" in s.text for s in layout.head), "a text of one's own stays text"
    plain = layout_of(PromptTemplate(mode="plain", system="You label messages."), None)
    assert "".join(s.text for s in plain.head).startswith("You label messages.\n\nClassify")
    with pytest.raises(TypeError, match="Got system=3 but expected a str"):
        PromptTemplate(system=3)
    refuses = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHATML
    layout = layout_of(template, refuses)
    assert layout.mode == "chat" and "knows no system text" in layout.reason
    asked = written(layout, ["hello"], opening=True)
    (system, *rest), plain = messages_of(0, ["hello"], template.system), messages_of(0, ["hello"])
    assert asked == jinja_text(refuses, [{**rest[0], "content": f"{system['content']}\n\n{plain[0]['content']}"}])


def test_a_switch_in_the_system_text():
    off = "{% set off = messages[0].role == 'system' and '/no_think' in messages[0].content %}"
    said = "{{ m.content | replace('/no_think', '') if m.role == 'system' else m.content }}"
    ask = "{% if add_generation_prompt %}<|assistant|>{% if off %}<think></think>{% endif %}{% endif %}"
    source = off + TURN.replace("{{ m.content }}", said) + ask
    template = PromptTemplate(mode="chat", system="Be quick./no_think")
    layout = layout_of(template, source)
    assert written(layout, ["hello"], opening=True) == jinja_text(source, messages_of(0, ["hello"], template.system))
    assert layout.thinking == "closed" and not any("no_think" in s.text for s in layout.head)


def turns_of(*contents):
    return [{"role": ("user", "assistant")[k % 2], "content": text} for k, text in enumerate(contents)]


def test_what_the_template_trims():
    trims = TURN.replace("m.content", "m.content | trim") + "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    bare = PromptTemplate("{labels}", "{text}\n{answer}\n", mode="chat")
    layout = layout_of(bare, trims, n_demonstrations=1)
    for shown, asked in (("  a ", " b  "), ("", ""), (" ", " b"), ("a", "\n ")):
        contents = f"joy, anger\n\n{shown}", ANSWER, asked
        assert written(layout, [shown, asked], opening=True) == jinja_text(trims, turns_of(*contents))
        contents = f"joy, anger\n\nText: {shown}", ANSWER, f"Text: {asked}"
        labelled = layout_of(replace(bare, demonstration="Text: {text}\n{answer}\n"), trims, n_demonstrations=1)
        assert written(labelled, [shown, asked], opening=True) == jinja_text(trims, turns_of(*contents))
    spaced = layout_of(replace(bare, instruction="\n  {labels}"), trims)
    assert written(spaced, ["a"], opening=True) == jinja_text(trims, turns_of("\n  joy, anger\n\na"))
    with_words = PromptTemplate("{labels}", "Text: {text} !\n{answer}\n", mode="chat")
    assert written(layout_of(with_words, trims), ["  a "]) == "<|user|>joy, anger\n\nText:   a "


ASK = "{% if add_generation_prompt %}<|assistant|>{% endif %}"
PARTS = "{% for p in m.content if p.type == 'text' %}{{ p.text }}{% endfor %}"
SYSTEM_LAST = """{% if messages[0].role == 'system' %}
{% set said = messages[0].content %}{% set messages = messages[1:] %}
{% endif %}
{% for m in messages %}
{% if m.role == 'user' %}[ASK]{% if loop.last and said is defined %}{{ said }}

{% endif %}{{ m.content }}[/ASK]{% else %} {{ m.content }}{{ eos_token }}{% endif %}
{% endfor %}"""
# Other ways of templates, in our own words.
KINDS = {
    "contents in parts": TURN.replace("{{ m.content }}", PARTS) + ASK,
    "parts without a loop": TURN.replace("m.content", "m.content[0].text") + ASK,
    "the system text in the last turn": SYSTEM_LAST,
    "a default before the last turn": SYSTEM_LAST.replace("said is defined", "true").replace(
        "{{ said", "Think!{{ said"
    ),
    "numbers two rounds": "{% for m in messages %}{% if m.role == 'user' %}[{{ loop.index }}]\nQ: {{ m.content }}\n"
    "{% else %}\nA: {{ m.content }}\n\n{% endif %}{% endfor %}\nA:",
    "trims later turns": TURN.replace("m.content", "(m.content if loop.first else m.content | trim)") + ASK,
    "drops the system text": TURN.replace("{% for m in messages %}", "{% for m in messages if m.role != 'system' %}")
    + ASK,
    "repeats the system text": "{{ messages[0].content if messages[0].role == 'system' }}" + TURN + ASK,
}


@pytest.mark.parametrize("system", [None, "You label messages."])
@pytest.mark.parametrize("shots", [0, 1, 2, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_templates(kind, shots, system):
    template, source = PromptTemplate(mode="chat", system=system), KINDS[kind]
    shots = min(shots, 2) if "numbers" in kind else shots
    layout = layout_of(template, source, n_demonstrations=shots)
    texts = [f"  text {k} " for k in range(shots + 1)]
    if system and kind.endswith("s the system text"):  # then it stands in the first turn
        assert "knows no system text" in layout.reason
        assert written(layout, texts).count(system) == 1
        bare, system = layout_of(PromptTemplate(mode="chat"), source, n_demonstrations=shots), None
        layout = replace(layout, head=bare.head)
    # Past turns may have a space behind their bridge that the prompt for the next answer has not.
    got = written(layout, texts, opening=True).rstrip()
    assert any(text.startswith(got) for text in expected_texts(source, shots, texts, system))


@pytest.mark.parametrize("name", REAL_TEMPLATES)
def test_system_texts_of_real_models(name, shots=1):
    source, system = REAL_TEMPLATES[name](), "You label messages."
    layout = layout_of(
        PromptTemplate(mode="plain" if "fire" in name else "chat", system=system), source, n_demonstrations=shots
    )
    texts = [f"  text {k} " for k in range(shots + 1)]
    got = written(layout, texts)
    assert got.count(system) == 1
    if layout.mode == "chat" and "knows no system text" not in layout.reason:
        assert any(text.startswith(got) for text in expected_texts(source, shots, texts, system))
