"""Tiny random models of some twenty architectures, each for something that another has not."""

import zlib
from typing import NamedTuple

import gguf
import numpy as np
from tiny_gguf import CONTROL_TOKENS, WORDS, add_byte_pairs, add_special

KINDS = {bool: gguf.GGUFValueType.BOOL, int: gguf.GGUFValueType.UINT32, float: gguf.GGUFValueType.FLOAT32}
# Width, inner width of the feed-forward part, of a state space.
SIZES = {"D": 64, "F": 96, "I": 128}
KEYS = {
    "context_length": 2048,
    "embedding_length": 64,
    "feed_forward_length": 96,
    "attention.head_count": 2,
    "attention.head_count_kv": 2,
    "attention.key_length": 32,
    "attention.value_length": 32,
    "attention.layer_norm_rms_epsilon": 1e-5,
    "attention.layer_norm_epsilon": 1e-5,
    "rope.dimension_count": 32,
}
# Tensors are written "name shape", in llama.cpp's order of axes; "!" stands at names without the ending ".weight".
QKV = "attn_q D D; attn_k D D; attn_v D D; attn_output D D"
QK_NORMS = "attn_q_norm 32; attn_k_norm 32"
ATTENTION = f"attn_norm D; {QKV}"
FFN = "ffn_norm D; ffn_gate D F; ffn_up D F; ffn_down F D"
EXPERTS = "ffn_gate_inp D 2; ffn_gate_exps D F 2; ffn_up_exps D F 2; ffn_down_exps F D 2"
SHARED_EXPERT = "ffn_gate_shexp D F; ffn_up_shexp D F; ffn_down_shexp F D"
FUSED = "attn_norm D; attn_norm.bias! D; attn_qkv D 192; attn_qkv.bias! 192; attn_output D D; attn_output.bias! D"
GPT_FFN = "ffn_norm D; ffn_norm.bias! D; ffn_up D F; ffn_up.bias! F; ffn_down F D; ffn_down.bias! D"
MAMBA2 = (
    "ssm_in D 322; ssm_conv1d 4 192; ssm_conv1d.bias! 192; ssm_dt.bias! 2; ssm_a! 1 2; ssm_d! 1 2; ssm_norm 64 2;"
    "ssm_out I D"
)
STATE_SPACE = {"ssm.inner_size": 128, "ssm.conv_kernel": 4, "ssm.state_size": 16, "ssm.time_step_rank": 2}
MAMBA2_KEYS = {**STATE_SPACE, "ssm.group_count": 2}
EXPERT_KEYS = {"expert_count": 2, "expert_used_count": 2, "expert_feed_forward_length": 96}
WINDOWS = {"attention.sliding_window": 32, "attention.sliding_window_pattern": [True, False]}
SHORT_CONVOLUTION = "shortconv.in_proj D 192; shortconv.conv 3 D; shortconv.out_proj D D"
RWKV = (
    "attn_norm D; attn_norm.bias! D; attn_norm_2 D; attn_norm_2.bias! D; time_mix_w1 D 80; time_mix_w2 16 D 5;"
    "time_mix_lerp_x D; time_mix_lerp_fused D 1 1 5; time_mix_first 32 2; time_mix_decay D; time_mix_decay_w1 D 16;"
    "time_mix_decay_w2 16 D; time_mix_key D D; time_mix_value D D; time_mix_receptance D D; time_mix_gate D D;"
    "time_mix_ln D; time_mix_ln.bias! D; time_mix_output D D; channel_mix_lerp_k D; channel_mix_lerp_r D;"
    "channel_mix_key D F; channel_mix_receptance D D; channel_mix_value F D"
)
# Queries and keys through narrow layers (multi-head latent attention): 32 + 16 rotated columns a head.
MLA = (
    "attn_norm D; attn_q_a D 48; attn_q_a_norm 48; attn_q_b 48 96; attn_kv_a_mqa D 64; attn_kv_a_norm 48;"
    "attn_k_b 32 48 2; attn_v_b 48 32 2; attn_output D D"
)
MLA_KEYS = {
    **EXPERT_KEYS,
    "attention.head_count_kv": 1,
    "attention.q_lora_rank": 48,
    "attention.kv_lora_rank": 48,
    "attention.key_length": 64,
    "attention.value_length": 48,
    "attention.key_length_mla": 48,
    "attention.value_length_mla": 32,
    "rope.dimension_count": 16,
    "leading_dense_block_count": 1,
    "expert_shared_count": 1,
    "expert_gating_func": 2,
    "expert_weights_norm": True,
    "expert_weights_scale": 1.0,
}
STREAMS = "hc_attn_fn 256 8; hc_attn_base 8; hc_attn_scale 2; hc_ffn_fn 256 8; hc_ffn_base 8; hc_ffn_scale 2"
INDEXER = (
    "indexer.k_norm 128; indexer.k_norm.bias! 128; indexer.proj D 64; indexer.attn_k D 128; indexer.attn_q_b 48 8192"
)


class Spec(NamedTuple):
    """An architecture's keys beside `KEYS`, the tensors of each block, and those outside of blocks."""

    blocks: tuple[str, ...]
    keys: dict = {}
    outside: str = "output_norm D; output D V"


def hybrid(attention, other, keys):
    """A model of three blocks, whose second one has no attention heads."""
    heads = {"attention.head_count": [2, 0, 2], "attention.head_count_kv": [2, 0, 2]}
    return Spec((attention, other, attention), {**heads, **keys})


LAYER_NORM = "output_norm D; output_norm.bias! D; output D V"
MLA_EXPERTS = f"{EXPERTS}; {SHARED_EXPERT}; exp_probs_b.bias! 2"
GATED_EXPERTS = f"post_attention_norm D; {EXPERTS}; {SHARED_EXPERT}; ffn_gate_inp_shexp D"
PLAMO_FFN = "post_attention_norm! D; ffn_norm D; ffn_up D 192; ffn_down F D; post_ffw_norm! D"
SPECS = {
    "llama": Spec((f"{ATTENTION}; {FFN}",) * 3),
    "gpt2": Spec((f"{FUSED}; {GPT_FFN}",) * 2, {}, f"{LAYER_NORM}; position_embd D 2048"),
    "falcon": Spec(
        ("attn_norm D; attn_norm.bias! D; attn_qkv D 192; attn_output D D; ffn_up D F; ffn_down F D",) * 2,
        outside=LAYER_NORM,
    ),
    "plamo3": Spec((f"attn_norm D; attn_qkv D 192; {QK_NORMS}; attn_output D D; {PLAMO_FFN}",) * 2, WINDOWS),
    "gemma2": Spec((f"{ATTENTION}; post_attention_norm D; {FFN}; post_ffw_norm D",) * 2, WINDOWS, "output_norm D"),
    "gemma3n": Spec(
        (
            f"{ATTENTION}; {QK_NORMS}; post_attention_norm D; {FFN}; post_ffw_norm D; inp_gate D 256; proj 256 D;"
            "post_norm D; altup_correct_coef 4 4; altup_correct_scale D; altup_predict_coef 4 16; altup_router D 4;"
            "altup_router_norm D; laurel_l D 64; laurel_r 64 D; laurel_post_norm D",
        )
        * 2,
        {**WINDOWS, "embedding_length_per_layer_input": 256},
        "output_norm D; altup_proj D D 3; altup_unembd_proj D D 3; per_layer_token_embd 512 V;"
        "per_layer_model_proj D 512; per_layer_proj_norm 256",
    ),
    "qwen3moe": Spec((f"{ATTENTION}; {QK_NORMS}; ffn_norm D; {EXPERTS}",) * 2, EXPERT_KEYS),
    "gpt-oss": Spec(
        (
            f"{ATTENTION}; attn_sinks 2; post_attention_norm D; {EXPERTS}; ffn_gate_inp.bias! 2; attn_output.bias! D;"
            "attn_q.bias! D; attn_k.bias! D; attn_v.bias! D;"
            "ffn_gate_exps.bias! F 2; ffn_up_exps.bias! F 2; ffn_down_exps.bias! D 2",
        )
        * 2,
        {**EXPERT_KEYS, **WINDOWS},
    ),
    "deepseek2": Spec((f"{MLA}; {FFN}", f"{MLA}; ffn_norm D; {MLA_EXPERTS}"), MLA_KEYS),
    "mamba2": Spec((f"attn_norm D; {MAMBA2}",) * 2, MAMBA2_KEYS),
    "rwkv6": Spec(
        (RWKV,) * 2,
        {"wkv.head_size": 32, "time_mix_extra_dim": 16, "time_decay_extra_dim": 16, "rescale_every_n_layers": 0},
        f"token_embd_norm D; token_embd_norm.bias! D; {LAYER_NORM}",
    ),
    "lfm2": Spec(
        (f"{ATTENTION}; {QK_NORMS}; {FFN}", f"attn_norm D; {SHORT_CONVOLUTION}; {FFN}"),
        {"attention.head_count_kv": [2, 0], "shortconv.l_cache": 3},
        "token_embd_norm D; output D V",
    ),
    "jamba": hybrid(
        f"{ATTENTION}; {FFN}",
        "attn_norm D; ssm_in D 256; ssm_conv1d 4 I; ssm_conv1d.bias! I; ssm_x I 34; ssm_dt_norm 2; ssm_b_norm 16;"
        f"ssm_c_norm 16; ssm_dt 2 I; ssm_dt.bias! I; ssm_a! 16 I; ssm_d! I; ssm_out I D; {FFN}",
        STATE_SPACE,
    ),
    "falcon-h1": Spec((f"{ATTENTION}; {MAMBA2}; {FFN.replace('ffn_norm', 'ffn_norm!')}",) * 2, MAMBA2_KEYS),
    "nemotron_h": Spec(  # half blocks
        (ATTENTION, f"attn_norm D; {MAMBA2}", "attn_norm D; ffn_up D F; ffn_down F D", ATTENTION),
        {
            **MAMBA2_KEYS,
            "attention.head_count": [2, 0, 0, 2],
            "attention.head_count_kv": [2, 0, 0, 2],
            "feed_forward_length": [0, 0, 96, 0],
        },
    ),
    "qwen3next": Spec(
        (
            "attn_norm D; attn_qkv D 192; attn_gate D D; ssm_conv1d 4 192; ssm_dt.bias! 2; ssm_a! 2; ssm_ba D 4;"
            f"ssm_norm 32; ssm_out D D; {GATED_EXPERTS}",
            f"attn_norm D; attn_q D 128; attn_k D D; attn_v D D; attn_output D D; {QK_NORMS}; {GATED_EXPERTS}",
        ),
        {
            **MAMBA2_KEYS,
            **EXPERT_KEYS,
            "expert_shared_feed_forward_length": 96,
            "full_attention_interval": 2,
            "ssm.inner_size": 64,
            "ssm.state_size": 32,
        },
    ),
    "plamo2": hybrid(
        f"attn_norm D; attn_qkv D 192; attn_q_norm 32 2; attn_k_norm 32 2; attn_output D D; {PLAMO_FFN}",
        "attn_norm D; ssm_in D 256; ssm_conv1d 4 I; ssm_x I 96; ssm_dt 64 2; ssm_dt.bias! 2; ssm_a! 2; ssm_d! 2;"
        f"ssm_dt_norm! 64; ssm_b_norm! 16; ssm_c_norm! 16; ssm_out I D; {PLAMO_FFN}",
        {**STATE_SPACE, "ssm.group_count": 0},
    ),
    "hy_v4": Spec(
        (
            f"{MLA}; attn_gate D D; attn_sinks 2; {STREAMS}; {INDEXER}; {FFN}",
            f"{MLA}; attn_gate D D; attn_sinks 2; {STREAMS}; ffn_norm D; {MLA_EXPERTS}",
        ),
        {
            **MLA_KEYS,
            "attention.indexer.head_count": 64,
            "attention.indexer.key_length": 128,
            "attention.indexer.top_k": 1 << 17,
            "attention.indexer.types": [1, 0],
            "attention.compress_ratios": [0, 0],
            "swiglu_clamp_exp": [10.0, 10.0],
            "swiglu_clamp_shexp": [0.0, 0.0],
            "hyper_connection.count": 4,
            "hyper_connection.epsilon": 1e-6,
            "hyper_connection.magnitude": 2.0,
        },
        "output_norm D; output D V; output_hc_fn 256 4; output_hc_base 4; output_hc_scale 1",
    ),
    "chameleon": Spec((f"{ATTENTION}; attn_q_norm 32 2; attn_k_norm 32 2; {FFN}",) * 2),
    "cogvlm": Spec((ATTENTION,)),
    "modern-bert": Spec((ATTENTION,)),
    "llada": Spec((f"{ATTENTION}; {FFN}",)),
    "wavtokenizer-dec": Spec((FFN,)),
}


def add_plain_tokens(writer):
    """A vocabulary of bytes, with nothing around texts."""
    tokens = add_byte_pairs(writer, WORDS, list(CONTROL_TOKENS), gguf.TokenType.CONTROL, "gpt-2")
    add_special(writer, tokens, None, "<|end|>", False)
    return tokens


def write_architecture(path, arch, n_blocks=None, spec=None, add_tokens=add_plain_tokens):
    """Write a random model of an architecture, or its first `n_blocks` blocks alone; returns `path`.

    Each tensor draws for itself, so these blocks are the same. `spec` and `add_tokens` are another model of that
    architecture, and another vocabulary.
    """
    spec, writer = spec or SPECS[arch], gguf.GGUFWriter(str(path), arch)
    blocks = spec.blocks[:n_blocks]
    for key, value in {**KEYS, "block_count": len(blocks), **spec.keys}.items():
        name = f"{arch}.{key}"
        if isinstance(value, list):
            kind = KINDS[type(value[0])]
            writer.add_key_value(name, value[: len(blocks)], gguf.GGUFValueType.ARRAY, sub_type=kind)
        else:
            writer.add_key_value(name, value, KINDS[type(value)])
    tokens = add_tokens(writer)
    sizes = {**SIZES, "V": len(tokens)}
    outside = [("", text) for text in ["token_embd D V", *spec.outside.split(";")]]
    inside = [(f"blk.{i}.", text) for i, block in enumerate(blocks) for text in block.split(";")]
    for prefix, text in outside + inside:
        name, *shape = text.split()
        name = prefix + (name[:-1] if name.endswith("!") else f"{name}.weight")
        writer.add_tensor(name, _values(name, [sizes.get(n) or int(n) for n in reversed(shape)]))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _values(name, shape):
    noise = np.random.default_rng(zlib.crc32(name.encode())).normal(scale=0.1, size=shape).astype(np.float32)
    if name.endswith("ssm_a"):  # rates of decay: a state that grows ends in infinities
        return -np.abs(noise)
    return 1 + noise if name.endswith("norm.weight") else noise
