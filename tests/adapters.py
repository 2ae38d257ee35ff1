"""Random LoRA adapters."""

import gguf
import numpy as np


def write_adapter(path, *, arch="llama", n_embd=32, n_layer=2, rank=2, seed=0):
    """Write a random LoRA adapter for the tiny model's query and output projections."""
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, arch)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(rank))
    for layer in range(n_layer):
        for name in ("attn_q", "attn_output"):
            tensor = f"blk.{layer}.{name}.weight"
            writer.add_tensor(f"{tensor}.lora_a", rng.normal(size=(rank, n_embd)).astype(np.float32))
            writer.add_tensor(f"{tensor}.lora_b", rng.normal(size=(n_embd, rank)).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return str(path)
