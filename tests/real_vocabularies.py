"""Vocabularies of real models, where they are at hand: what they are tried on, and small models that have them."""

import gguf
import numpy as np
from gguf_bytes import F32, STR, U32, take_apart
from shared_data import SHARED

from skmlmc import PromptTemplate

DOCUMENTS = [
    "I miss her so much.",
    "We won!!!",
    "it rained",
    'She said "no".',
    "Prix : 3 € ! C'est cher !",
    "我今天很高兴。",
    "Привет, как дела?",
    "  x = f(a)[0]; // ok ",
    "🙂🙂 wow\n\nnew line\n",
    "",
]
LABEL_SETS = {
    "words": ["joy", "anger", "sadness"],
    "prefixes": ["sad", "sadness", "sa"],
    "digits": ["1", "12", "123"],
    "symbols": ["a/b", "a-b", "a.b"],
    "scripts": ["радость", "怒り", "حزن", "χαρά", "기쁨", "खुशी"],
    "quotes": ["it's", "\u201cyes\u201d", "d'oh"],
    "several words": ["joy division tickets", "sadness of it all", "anger"],
    "cases": ["JOY", "Joyful", "joyless"],
}
FORMS = {
    "json": PromptTemplate(),
    "list": PromptTemplate(demonstration="Text: {text}\nFeels: {answer}\n", answer_format="list"),
}
VOCABULARIES = sorted((SHARED / "vocabularies").glob("*.gguf"))
# Vocabularies without a template of their own get that of a model which has this vocabulary.
TEMPLATE_OF = {
    "llama-bpe": "meta-llama-Llama-3.1-8B-Instruct",
    "qwen2": "Qwen-Qwen2.5-7B-Instruct",
    "qwen35": "Qwen3.5-4B",
    "phi-3": "microsoft-Phi-3.5-mini-instruct",
    "gemma-4": "google-gemma-4-31B-it",
    "command-r": "CohereForAI-c4ai-command-r-plus-tool_use",
}
SIZES = {
    "context_length": 4096,
    "embedding_length": 32,
    "block_count": 1,
    "feed_forward_length": 64,
    "attention.head_count": 4,
    "attention.head_count_kv": 4,
    "rope.dimension_count": 8,
}


def write_model(vocabulary, path, chat_template=None, seed=0):
    """Write a random F32 Llama of one block with a real vocabulary, and its chat template or none; returns `path`.

    Column 0 of its states is the same everywhere, so that commas can be more likely than other tokens, and "none" less:
    answers have several labels then.
    """
    parts = take_apart(vocabulary)
    dropped = f"{parts.value('general.architecture').decode()}.", "tokenizer.chat_template"
    parts.keys = {key: value for key, value in parts.keys.items() if not key.startswith(dropped)}
    parts.set("general.architecture", STR, "llama").set("llama.attention.layer_norm_rms_epsilon", F32, 1e-5)
    for key, value in SIZES.items():
        parts.set(f"llama.{key}", U32, value)
    if chat_template is not None:
        parts.set("tokenizer.chat_template", STR, chat_template)
    for name, values in _weights(parts.value("tokenizer.ggml.tokens"), np.random.default_rng(seed)).items():
        kind = gguf.GGMLQuantizationType.F32
        parts.tensors[f"{name}.weight"] = [values.shape[::-1], kind, values.tobytes()]
    return str(parts.write(path))


def _weights(tokens, rng):
    shapes = {"token_embd": (len(tokens), 32), "output": (len(tokens), 32), "output_norm": (32,)}
    block = {"attn_norm": (32,), "ffn_norm": (32,), "ffn_gate": (64, 32), "ffn_up": (64, 32), "ffn_down": (32, 64)}
    block.update(dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output"), (32, 32)))
    shapes.update({f"blk.0.{name}": shape for name, shape in block.items()})
    made = {name: rng.standard_normal(shape, dtype=np.float32) * np.float32(0.5) for name, shape in shapes.items()}
    made["token_embd"][:, 0], made["output_norm"][0] = 2, 1
    made["blk.0.attn_output"][0] = made["blk.0.ffn_down"][0] = 0
    likely = [8 * token.startswith((b",", b'",')) - 4 * token.endswith((b"none", b"None")) for token in tokens]
    made["output"][:, 0] = likely
    return made
