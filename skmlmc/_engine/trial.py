"""A script that loads a model file and decodes a few tokens, to see whether llama.cpp ends the process.

`skmlmc._models.trial` starts it as a process of its own and tells it, as JSON on stdin, the model's ``path`` and size
(``n_bytes``), whether it ``embeds``, the ``seconds`` of the processor that it may take, where Python looks for modules
(``paths``), and the folder of ``llama_cpp``. It answers on stdout: `BEGUN`, then `SOUND`, or `REFUSED` where an
exception came.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType

BEGUN, SOUND, REFUSED = "begun", "sound", "refused"
# Several scripts, control characters, and the name of a control token.
TEXT = "A trial, n\u00e4mlich \u6f22\u5b57 \U0001f642 \x00\n\t<|end|> 12345"
# Memory that a trial may take: for the weights, a copy of them in another layout, and recurrent states.
FILE_TIMES, SPARE_BYTES = 3, 1 << 33


def try_model(path: Path, embeds: bool = False) -> None:
    """Do once what answers are made of: words, a prefix, two documents that fork, several logits of one call."""
    import numpy as np

    if embeds:
        _try_embedding(path)
        return
    from skmlmc._engine.context import Settings
    from skmlmc._engine.forest import Ask, Branch, Read
    from skmlmc._engine.model import Model

    model, columns = Model(path), np.arange(1)
    model.text_of(model.tokenize(TEXT))
    tokens = [k % model.n_vocab for k in range(7)]

    def document():
        yield Ask((Branch("document", tokens[:2], None, (Read(1, columns, True),)),))
        ends = (Read(0, columns, True), Read(1, columns, True))
        yield Ask(tuple(Branch(k, tokens[k : k + 2], "document", ends) for k in (2, 3)))

    list(model.run(tokens, lambda _: document(), [[0], [1]], Settings(n_ctx=256)))


def _try_embedding(path):
    """Do once what embeddings are made of: words, what stands around a text, two texts in one call, each pooling."""
    import numpy as np

    from skmlmc._engine.context import POOLINGS, Pooled, Settings
    from skmlmc._engine.embedding import EmbeddingModel
    from skmlmc._engine.forest import Ask, Branch, Read

    model = EmbeddingModel(path)
    begin, end = model.ends
    tokens = [*begin, *model.tokenize(TEXT), *(k % model.n_vocab for k in range(7)), *end]
    tokens = tokens[-min(250, model.n_ctx_train) :]

    def document():
        yield Ask((Branch("text", tokens, None, (Read(0, np.arange(0), tap=True),)),))

    for pooling in POOLINGS:
        list(model.run([], lambda _: document(), [[0, 1]], Settings(n_ctx=512, tap=Pooled(pooling))))


def main() -> None:
    """Try the model that stdin names."""
    told = json.load(sys.stdin)
    sys.path[:] = told["paths"]
    # Both packages import much that a trial has no use for: stand-ins find their modules and run nothing else.
    _stand_in("skmlmc", str(Path(__file__).parents[1]))
    _stand_in("llama_cpp", told["llama_cpp"])
    sys.modules["llama_cpp"] = import_module("llama_cpp.llama_cpp")
    import_module("skmlmc._engine.model").uses_amx()  # has llama.cpp look at all devices
    _set_limits(told["seconds"], told["n_bytes"])
    print(BEGUN, flush=True)
    try:
        try_model(Path(told["path"]), told["embeds"])
        result = SOUND
    except Exception:  # as it will come to the caller, who loads the file next
        result = REFUSED
    print(result, flush=True)
    os._exit(0)  # frees gigabytes faster than llama.cpp does


def _stand_in(name, folder):
    module = sys.modules[name] = ModuleType(name)
    module.__path__ = [folder]


def _set_limits(seconds, n_bytes):
    """Let neither a file that never ends nor one that asks for all memory harm others, as far as the system can."""
    with suppress(OSError):  # where memory runs out, Linux ends this process first
        Path("/proc/self/oom_score_adj").write_text("1000")
    with suppress(ImportError):
        import resource

        limits = {resource.RLIMIT_CORE: 0, resource.RLIMIT_CPU: seconds}
        with suppress(OSError):
            pages = int(Path("/proc/self/statm").read_text().split()[0])  # drivers of GPUs take thousands of gigabytes
            limits[resource.RLIMIT_AS] = pages * resource.getpagesize() + FILE_TIMES * n_bytes + SPARE_BYTES
        for what, limit in limits.items():
            soft, hard = resource.getrlimit(what)
            if soft == resource.RLIM_INFINITY or limit < soft:
                with suppress(OSError, ValueError):
                    resource.setrlimit(what, (limit, hard))


if __name__ == "__main__":
    main()
