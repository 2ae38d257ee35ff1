"""Tiny random embedding models: encoders of each kind with the vocabularies that they have, and a causal one."""

import gguf
from architecture_specs import ATTENTION, FFN, QK_NORMS, WINDOWS, Spec, write_architecture
from tiny_gguf import CONTROL_TOKENS, WORDS, add_byte_pairs, add_special

POOLINGS = {None: 0, "mean": 1, "cls": 2, "last": 3, "rank": 4}
WIDTH = 64


def biased(*texts):
    return "; ".join(f"{text}; {text.split()[0]}.bias! {text.split()[-1]}" for text in texts)


BERT_ATTENTION = biased("attn_q D D", "attn_k D D", "attn_v D D", "attn_output D D", "attn_output_norm D")
BERT = f"{BERT_ATTENTION}; {biased('ffn_up D F', 'ffn_down F D', 'layer_output_norm D')}"
BEGINNING = f"token_types D 2; {biased('token_embd_norm D')}"
MODERN = "attn_norm D; attn_qkv D 192; attn_output D D; ffn_norm D; ffn_up D 192; ffn_down F D"
GEMMA = f"{ATTENTION}; {QK_NORMS}; post_attention_norm D; {FFN}; post_ffw_norm D"
T5 = (
    "attn_norm D; attn_q D D; attn_k D D; attn_v D D; attn_o D D; attn_rel_b 2 8; "
    "ffn_norm D; ffn_gate D F; ffn_up D F; ffn_down F D"
)
EXPERTS = "ffn_gate_inp D 2; ffn_up_exps D F 2; ffn_down_exps F D 2"


def special_word_pieces(writer, _):
    """A vocabulary of BERT: letters that begin a word, letters within one, and the tokens around a text."""
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    words = ["\u2581the", "\u2581joy", "ful", "\u2581wo", "on", "ing"]
    tokens = [*specials, *words, *(f"\u2581{letter}" for letter in letters), *letters]
    writer.add_tokenizer_model("bert")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL] * 5 + [gguf.TokenType.NORMAL] * (len(tokens) - 5))
    for add, token in {"pad": 0, "unk": 1, "bos": 2, "sep": 3, "mask": 4}.items():
        getattr(writer, f"add_{add}_token_id")(token)
    writer.add_token_type_count(2)
    return tokens


def special_unigrams(writer, _):
    """A vocabulary as of XLM-RoBERTa and T5."""
    # llama.cpp's log shows the first ones, cut where a letter of several bytes may stand.
    letters = [*(chr(code) for code in range(33, 127)), "\u2581"]
    words = ["\u2581the", "\u2581joy", "ful", "\u2581w", "on", "ing"]
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *letters, *words]
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_tokenizer_model("t5")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * 4 + [-8.0] * len(letters) + [-5.0] * len(words))
    writer.add_token_types([control, control, control, gguf.TokenType.UNKNOWN] + [normal] * (len(letters) + len(words)))
    for add, token in {"bos": 0, "pad": 1, "eos": 2, "unk": 3}.items():
        getattr(writer, f"add_{add}_token_id")(token)
    writer.add_add_space_prefix(True)
    writer.add_remove_extra_whitespaces(True)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(True)
    writer.add_token_type_count(2)
    return tokens


def special_byte_pairs(writer, around=True):
    """A vocabulary of bytes, with a begin and an end token around each text or with nothing."""
    tokens = add_byte_pairs(writer, WORDS, list(CONTROL_TOKENS), gguf.TokenType.CONTROL, "gpt-2")
    add_special(writer, tokens, None, "<|end|>", around)
    writer.add_add_eos_token(around)
    writer.add_token_type_count(2)
    return tokens


SPECS = {
    "bert": (special_word_pieces, Spec((BERT,) * 2, {}, f"{BEGINNING}; position_embd D 256")),
    "nomic-bert": (special_word_pieces, Spec((f"{BERT}; ffn_gate D F",) * 2, {}, BEGINNING)),
    "nomic-bert-moe": (
        special_unigrams,
        Spec(
            (BERT, f"{BERT_ATTENTION}; {biased('layer_output_norm D')}; {EXPERTS}"),
            {"moe_every_n_layers": 2, "expert_count": 2, "expert_used_count": 1},
            BEGINNING,
        ),
    ),
    "jina-bert-v2": (special_byte_pairs, Spec((f"{BERT}; ffn_gate D F",) * 2, {}, BEGINNING)),
    "jina-bert-v3": (special_unigrams, Spec((BERT,) * 2, {}, BEGINNING)),
    "modern-bert": (
        special_byte_pairs,
        Spec((MODERN,) * 3, {"attention.sliding_window": 16}, "token_embd_norm D; output_norm D"),
    ),
    "neo-bert": (special_word_pieces, Spec((MODERN,) * 2, {}, "enc.output_norm D")),
    "eurobert": (special_byte_pairs, Spec((f"{ATTENTION}; {FFN}",) * 2, {}, "output_norm D")),
    "gemma-embedding": (special_byte_pairs, Spec((GEMMA,) * 2, WINDOWS, "output_norm D")),
    "llama-embed": (special_byte_pairs, Spec((f"{ATTENTION}; {FFN}",) * 2)),
    "t5encoder": (
        special_unigrams,
        Spec(
            (),
            {"block_count": 2, "attention.relative_buckets_count": 8},
            "; ".join(["enc.output_norm D", *(f"enc.blk.{i}.{text}" for i in (0, 1) for text in T5.split("; "))]),
        ),
    ),
    "qwen3": (special_byte_pairs, Spec((f"{ATTENTION}; {QK_NORMS}; {FFN}",) * 2, {"attention.causal": True})),
}


def write_encoder(path, arch="bert", pooling="mean", around=True, **keys):
    """Write a random embedding model; returns its path.

    `pooling` is what the file names, or None; `around` says whether a vocabulary of bytes puts tokens around texts.
    """
    tokenizer, spec = SPECS[arch]
    said = {"attention.causal": False, "context_length": 256, "pooling_type": POOLINGS[pooling]}
    spec = spec._replace(keys={**said, **spec.keys, **keys})
    return str(write_architecture(path, arch, spec=spec, add_tokens=lambda writer: tokenizer(writer, around)))
