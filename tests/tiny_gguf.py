"""Random models of a few hundred kilobytes that llama.cpp really loads: real tests in milliseconds.

The weights are noise, the tokenizer is designed: one token a byte, plus the whole words that a test asks for.
"""

import zlib

import gguf
import numpy as np

CONTROL_TOKENS = ("<|end|>", "<|im_start|>", "<|im_end|>")

# What the chat templates of the model families are made of.
FAMILY_TOKENS = (
    *("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>"),
    *("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>"),
    *("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
    *("<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
)

# "joy" and " joy" are one token each, "joyful" continues "joy"; "sadness" and "surprise" both start with "s".
WORDS = ("th", "in", "an", "ing", " a", " t", "joy", " joy", "none")

CHATML = (
    "{%- for turn in messages -%}<|im_start|>{{ turn['role'] }}\n{{ turn['content'] }}<|im_end|>\n{% endfor -%}"
    "{%- if add_generation_prompt -%}<|im_start|>assistant\n{% endif -%}"
)


def byte_letters():
    """Printable stand-in of every byte, in byte order, as byte-level BPE vocabularies write them."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    stand_ins = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(stand_ins)) for byte in range(256)]


def apply_merges(pieces, merges):
    """Segment `pieces` as byte-pair encoding does: the earliest merge that fits, until none does."""
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    pieces = list(pieces)
    while True:
        pairs = [(ranks[pair], i) for i, pair in enumerate(zip(pieces, pieces[1:], strict=False)) if pair in ranks]
        if not pairs:
            return pieces
        _, i = min(pairs)
        pieces[i : i + 2] = [pieces[i] + pieces[i + 1]]


def merges_for(words):
    """Merges, in rank order, under which each of `words` is one token.

    A word is first segmented with the merges that its predecessors brought, then glued from the left: "joy" gives
    ``j o`` and ``jo y``. Later words never break earlier ones, because their merges rank behind.
    """
    letters = byte_letters()
    merges = []
    for word in words:
        spelled = [letters[byte] for byte in word.encode()]
        while len(pieces := apply_merges(spelled, merges)) > 1:
            merges.append((pieces[0], pieces[1]))
    return merges


def write_tiny_gguf(
    path,
    *,
    seed=0,
    words=WORDS,
    chat_template=None,
    n_ctx=2048,
    arch="llama",
    add_bos=False,
    controls=CONTROL_TOKENS,
    control_type=gguf.TokenType.CONTROL,
    pre="gpt-2",
    sentencepiece=False,
    bos="<|end|>",
    n_embd=32,
    n_layer=2,
    n_head=4,
    n_ff=64,
    scale=0.5,
):
    """Write a random F32 model.

    Parameters
    ----------
    path : path-like
        File to write.
    seed : int
        Of the weights. Each tensor draws for itself, so models that differ only in `words` share their layers.
    words : iterable of str
        Texts that are one token each. The tokenizer never joins letters with punctuation, and a space only at the
        start of a word.
    chat_template : str or None
        Jinja source for the metadata, such as `CHATML`.
    n_ctx : int
        Context length that the model claims to be trained for.
    arch : {"llama", "gemma3", "mamba"}
        Plain attention, sliding-window attention (window of 16), or a recurrent model.
    add_bos : bool
        Whether the tokenizer asks for `bos` at the start.
    controls : iterable of str
        Control tokens; `CONTROL_TOKENS` come first.
    control_type : gguf.TokenType
        What the file calls them: CONTROL, or as older files do USER_DEFINED.
    pre : str
        How byte-level vocabularies split words.
    sentencepiece : bool
        Whether the vocabulary is one of SentencePiece, as Llama 2 and Gemma have it: no merges but scores, bytes for
        letters it lacks, and a space before every text.
    bos : str
        The begin token, one of `controls`.
    n_embd, n_layer, n_head, n_ff : int
        Sizes.
    scale : float
        Standard deviation of the weights. Larger ones make more decided models.

    Returns
    -------
    str
        `path` as a string.
    """
    writer = gguf.GGUFWriter(str(path), arch)
    writer.add_name("tiny random model")
    writer.add_context_length(n_ctx)
    writer.add_embedding_length(n_embd)
    writer.add_block_count(n_layer)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    add_tokens = _add_sentencepiece if sentencepiece else add_byte_pairs
    tokens = add_tokens(writer, words, list(controls), control_type, pre)
    add_special(writer, tokens, chat_template, bos, add_bos)
    n_vocab = len(tokens)

    def noise(name, *shape):
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        writer.add_tensor(name, (rng.normal(size=shape) * scale).astype(np.float32))

    def ones(name, *shape):
        writer.add_tensor(name, np.ones(shape, np.float32))

    noise("token_embd.weight", n_vocab, n_embd)
    noise("output.weight", n_vocab, n_embd)
    ones("output_norm.weight", n_embd)
    if arch == "mamba":
        _add_recurrent(writer, noise, ones, n_embd, n_layer)
    else:
        _add_attention(writer, noise, ones, arch, n_embd, n_layer, n_head, n_ff)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return str(path)


def add_byte_pairs(writer, words, controls, control_type, pre):
    merges = merges_for(words)
    plain = byte_letters() + list(dict.fromkeys(left + right for left, right in merges))
    tokens = [*plain, *controls]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.NORMAL] * len(plain) + [control_type] * len(controls))
    writer.add_token_merges([f"{left} {right}" for left, right in merges])
    return tokens


def _add_sentencepiece(writer, words, controls, control_type, pre):
    """Every beginning of a word is a token too, for llama.cpp merges two pieces where both together are one."""
    raw = [f"<0x{byte:02X}>" for byte in range(256)]
    spelled = [word.replace(" ", "\u2581") for word in words]
    letters = [chr(code) for code in range(33, 127)] + ["\u2581"]
    plain = list(dict.fromkeys([*letters, *(word[:n] for word in spelled for n in range(1, len(word) + 1))]))
    tokens = ["<unk>", *raw, *plain, *controls]
    kinds = [(gguf.TokenType.UNKNOWN, 1), (gguf.TokenType.BYTE, 256), (gguf.TokenType.NORMAL, len(plain))]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([float(len(token)) for token in tokens])
    writer.add_token_types([kind for kind, n in [*kinds, (control_type, len(controls))] for _ in range(n)])
    writer.add_unk_token_id(0)
    return tokens


def add_special(writer, tokens, chat_template, bos, add_bos):
    writer.add_vocab_size(len(tokens))
    writer.add_bos_token_id(tokens.index(bos))
    writer.add_eos_token_id(tokens.index("<|end|>"))
    writer.add_eot_token_id(tokens.index("<|im_end|>"))
    writer.add_add_bos_token(add_bos)
    if chat_template is not None:
        writer.add_chat_template(chat_template)


def _add_attention(writer, noise, ones, arch, n_embd, n_layer, n_head, n_ff):
    writer.add_feed_forward_length(n_ff)
    writer.add_head_count(n_head)
    writer.add_head_count_kv(n_head)
    writer.add_rope_dimension_count(n_embd // n_head)
    norms = ["attn_norm", "ffn_norm"]
    head_norms = []
    if arch == "gemma3":
        writer.add_key_length(n_embd // n_head)
        writer.add_value_length(n_embd // n_head)
        writer.add_sliding_window(16)
        norms += ["post_attention_norm", "post_ffw_norm"]
        head_norms = ["attn_q_norm", "attn_k_norm"]
    for i in range(n_layer):
        for norm in norms:
            ones(f"blk.{i}.{norm}.weight", n_embd)
        for norm in head_norms:
            ones(f"blk.{i}.{norm}.weight", n_embd // n_head)
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            noise(f"blk.{i}.{name}.weight", n_embd, n_embd)
        noise(f"blk.{i}.ffn_gate.weight", n_ff, n_embd)
        noise(f"blk.{i}.ffn_up.weight", n_ff, n_embd)
        noise(f"blk.{i}.ffn_down.weight", n_embd, n_ff)


def _add_recurrent(writer, noise, ones, n_embd, n_layer):
    n_inner, n_state, n_conv, rank = 2 * n_embd, 16, 4, 4
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_ssm_conv_kernel(n_conv)
    writer.add_ssm_inner_size(n_inner)
    writer.add_ssm_state_size(n_state)
    writer.add_ssm_time_step_rank(rank)
    for i in range(n_layer):
        block = f"blk.{i}."
        ones(f"{block}attn_norm.weight", n_embd)
        noise(f"{block}ssm_in.weight", 2 * n_inner, n_embd)
        noise(f"{block}ssm_conv1d.weight", n_inner, n_conv)
        noise(f"{block}ssm_conv1d.bias", n_inner)
        noise(f"{block}ssm_x.weight", rank + 2 * n_state, n_inner)
        noise(f"{block}ssm_dt.weight", n_inner, rank)
        noise(f"{block}ssm_dt.bias", n_inner)
        # Decay rates must be negative: a state that grows ends in infinities.
        rates = -np.tile(np.arange(1, n_state + 1, dtype=np.float32), (n_inner, 1))
        writer.add_tensor(f"{block}ssm_a", rates)
        ones(f"{block}ssm_d", n_inner)
        noise(f"{block}ssm_out.weight", n_embd, n_inner)
