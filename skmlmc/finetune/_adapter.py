"""LoRA adapters in GGUF form, as llama.cpp reads them, written from weights as another program knows them.

llama.cpp adds ``scale * alpha / rank * B A x`` to what a matrix makes of x; of the matrix ``blk.0.attn_q.weight`` the
factors are ``blk.0.attn_q.weight.lora_a`` (rank, in) and ``.lora_b`` (out, rank). A GGUF file may hold a matrix's rows
in another order than its source: those of queries and keys of the Llama kind are interleaved, as its rotary embedding
wants them. The rows of B need the same order.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from .._models.header import GGUFFile

COLUMNS = 256  # of a matrix that are compared
STEP, STEPS, LOSSES = "skmlmc.finetune.step", "skmlmc.finetune.steps", "skmlmc.finetune.losses"


def row_order(stored: np.ndarray, loaded: np.ndarray, heads: Sequence[int]) -> np.ndarray | None:
    """Return which row of a stored matrix each row of the loaded one is; None where neither order fits.

    Examples
    --------
    >>> import numpy as np
    >>> stored = np.arange(8.0)[:, None]
    >>> row_order(stored, stored[[0, 2, 1, 3, 4, 6, 5, 7]], heads=[2]).tolist()
    [0, 2, 1, 3, 4, 6, 5, 7]
    """
    rows = np.arange(len(stored))
    orders = [rows]
    for n in heads:
        if len(rows) % (2 * n) == 0:
            orders.append(rows.reshape(n, -1, 2).swapaxes(1, 2).ravel())
    return next((order for order in orders if np.array_equal(stored[order], loaded)), None)


class StoredWeights:
    """The matrices of a GGUF model file."""

    def __init__(self, path: Path):
        import gguf

        self._gguf = gguf
        reader = gguf.GGUFReader(os.fspath(path))
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        field = reader.fields["general.architecture"]
        self.arch: str = field.contents()
        self.n_layers: int = int(reader.fields[f"{self.arch}.block_count"].contents())

    def name_of(self, module: str) -> str | None:
        """Return what the file calls the weights of a transformers module; None where it has none."""
        kinds = {name: kind for kind, name in self._gguf.MODEL_ARCH_NAMES.items()}
        if self.arch not in kinds:
            return None
        name = self._gguf.get_tensor_name_map(kinds[self.arch], self.n_layers).get_name(module)
        return f"{name}.weight" if f"{name}.weight" in self._tensors else None

    def first_columns(self, name: str) -> np.ndarray:
        """Return the first columns of a matrix, as float32."""
        tensor = self._tensors[name]
        block, n_bytes = self._gguf.GGML_QUANT_SIZES[tensor.tensor_type]
        stored = tensor.data
        most = max(1, COLUMNS // block) * (n_bytes if stored.dtype == np.uint8 else block)
        return self._gguf.dequantize(np.ascontiguousarray(stored[:, :most]), tensor.tensor_type)


def write_adapter(
    path: Path,
    arch: str,
    factors: Mapping[str, tuple[np.ndarray, np.ndarray]],
    alpha: float,
    step: int,
    history: Sequence[tuple[int, float]],
) -> None:
    """Write a LoRA adapter, whole or not at all.

    Parameters
    ----------
    path : Path
        File to write.
    arch : str
        The model's architecture, as its file calls it.
    factors : mapping of str to (ndarray of shape (r, in), ndarray of shape (out, r))
        A and B of each matrix, float32, rows of B in the file's order.
    alpha : float
        llama.cpp multiplies by ``alpha / r``.
    step : int
        Steps after which the factors were what they are, noted in the file.
    history : sequence of (int, float)
        Steps and held-out losses, noted in the file.
    """
    import gguf

    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    writer = gguf.GGUFWriter(os.fspath(beside), arch)
    try:
        writer.add_type("adapter")
        writer.add_string("adapter.type", "lora")
        writer.add_float32("adapter.lora.alpha", float(alpha))
        writer.add_uint32(STEP, int(step))
        writer.add_array(STEPS, [int(step) for step, _ in history])
        writer.add_array(LOSSES, [float(loss) for _, loss in history])
        for name, (a, b) in factors.items():
            writer.add_tensor(f"{name}.lora_a", np.ascontiguousarray(a, np.float32))
            writer.add_tensor(f"{name}.lora_b", np.ascontiguousarray(b, np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        os.replace(beside, path)
    finally:
        writer.close()
        beside.unlink(missing_ok=True)


def read_factors(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return A and B of each matrix of an adapter, as `write_adapter` takes them."""
    import gguf

    tensors = {tensor.name: np.array(tensor.data) for tensor in gguf.GGUFReader(os.fspath(path)).tensors}
    names = [name.removesuffix(".lora_a") for name in tensors if name.endswith(".lora_a")]
    return {name: (tensors[f"{name}.lora_a"], tensors[f"{name}.lora_b"]) for name in names}


def read_history(path: Path) -> tuple[int, list[tuple[int, float]]]:
    """Return the step and the history that `write_adapter` noted in an adapter."""
    with GGUFFile(path) as file:
        values = file.read().values
    return values[STEP], list(zip(values[STEPS], values[LOSSES], strict=True))
