"""Training of LoRA factors with torch, which is imported when it is needed and not before.

The model is read from its GGUF file by transformers, as float32. Its own weights stay as they are; beside every linear
layer stand two small matrices A and B, and ``B A x`` is added to what the layer makes of x.
"""

from __future__ import annotations

import contextlib
import gc
import io
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm.auto import tqdm

from ._adapter import StoredWeights, read_factors, row_order
from ._packs import Example, Pack, divide, make_pack

SAVE_SECONDS = 60.0
WARM_UP, LAST_RATE = 0.1, 0.05  # part of the steps in which the rate grows, and what is left of it at the end
CHECKS_A_PASS = 2  # how often held-out documents are looked at


@dataclass(frozen=True)
class Settings:
    """How to train; as the parameters of `FinetunedClassifier`, with `steps` for all passes together.

    `beta`: how much a difference of one nat between a preferred answer and another one counts, where such pairs are
    trained on (direct preference optimisation); None: answers are.
    """

    rank: int
    learning_rate: float
    batch_size: int
    steps: int
    patience: int
    seed: int
    n_threads: int
    verbose: int
    device: str = "cpu"
    beta: float | None = None

    @property
    def alpha(self) -> float:
        """What llama.cpp divides by the rank: the factors' product counts twice, as is usual."""
        return 2.0 * self.rank

    def rate(self, step: int) -> float:
        """Part of the learning rate at a step: it grows for a while, then falls to almost nothing."""
        warm = max(1, int(WARM_UP * self.steps))
        if step < warm:
            return (step + 1) / warm
        return 1 - (1 - LAST_RATE) * (step - warm) / max(1, self.steps - warm)


class Material(NamedTuple):
    """What is trained on, and what is held out, behind one prefix; `begins` as for `make_pack`."""

    prefix: list[int]
    begins: int
    train: list[Example]
    held_out: list[Example]

    def packs(self, examples: Sequence[Example]) -> Iterator[Pack]:
        """Pack some examples."""
        for part in divide(examples, len(self.prefix)):
            yield make_pack(self.prefix, part, self.begins)

    def batch(self, step: int, settings: Settings) -> list[Example]:
        """Return the documents of a step: all of them come once in a pass, in an order of its own."""
        n = len(self.train)
        a_pass = math.ceil(n / settings.batch_size)
        order = np.random.default_rng([settings.seed, step // a_pass]).permutation(n)
        at = step % a_pass * settings.batch_size
        return [self.train[i] for i in order[at : at + settings.batch_size]]


class Trained(NamedTuple):
    """Factors (A, B) by the file's names, the step they are of, and the held-out loss after some steps."""

    factors: dict[str, tuple[np.ndarray, np.ndarray]]
    step: int
    history: list[tuple[int, float]]


class Model:
    """A language model in torch with factors beside its linear layers."""

    def __init__(self, path: Path, settings: Settings):
        import torch

        self._torch, self.name, self._beta, self._device = torch, path.name, settings.beta, settings.device
        self.model = _load(path, quiet=settings.verbose < 2)
        self.stored = StoredWeights(path)
        self.factors: dict[str, tuple[Any, Any]] = {}
        self._orders: dict[str, np.ndarray] = {}
        generator = torch.Generator().manual_seed(settings.seed)
        for name, layer in list(self.model.named_modules()):
            if isinstance(layer, torch.nn.Linear) and layer is not self.model.get_output_embeddings():
                self._adapt(name, layer, settings.rank, settings.alpha / settings.rank, generator)
        if not self.factors:
            raise ValueError(
                f"Found no linear layer of {str(path)!r} that can be fine-tuned: its architecture "
                f"{self.stored.arch!r} names or orders its weights in a way that is not known here. Expected a model "
                "such as SmolLM2, Llama, Qwen 2 and 3 or Gemma 3."
            )
        self.model.to(self._device)

    def _adapt(self, name, layer, rank, scale, generator):
        torch, stored = self._torch, self.stored.name_of(name)
        if stored is None:
            return
        columns, config = self.stored.first_columns(stored), self.model.config
        heads = [getattr(config, key, None) or 1 for key in ("num_attention_heads", "num_key_value_heads")]
        order = row_order(columns, layer.weight[:, : columns.shape[1]].detach().numpy(), heads)
        if order is None:
            return
        n_out, n_in = layer.weight.shape
        bound = 1 / math.sqrt(n_in)
        a = torch.nn.Parameter(torch.empty(rank, n_in).uniform_(-bound, bound, generator=generator).to(self._device))
        b = torch.nn.Parameter(torch.zeros(n_out, rank, device=self._device))
        self.factors[stored], self._orders[stored] = (a, b), order
        layer.register_forward_hook(lambda _, args, out: out + (args[0] @ a.T) @ (scale * b).T)

    def loss(self, pack: Pack) -> Any:
        """Loss in nats, the sum over a pack's documents: of answers their negative log-likelihood.

        Of pairs that of the preference, which counts how much more probable the preferred answer has become.
        """
        return self.losses(pack).sum()

    def losses(self, pack: Pack) -> Any:
        """Loss of each document of a pack, of shape (n,)."""
        sums = self.log_likelihoods(pack)
        if self._beta is None:
            return -sums
        gained = sums - self._on_device(pack.references)
        return -self._torch.nn.functional.logsigmoid(self._beta * gained)

    def log_likelihoods(self, pack: Pack) -> Any:
        """Weighted sum (n,) of the log-likelihoods of the answers to each document."""
        torch, put = self._torch, self._on_device
        mask = torch.where(put(pack.mask), 0.0, torch.finfo(torch.float32).min)
        logits = self.model(
            input_ids=put(pack.tokens)[None],
            position_ids=put(pack.positions)[None],
            attention_mask=self._masks(mask[None, None], pack.positions),
            logits_to_keep=put(pack.rows),
            use_cache=False,
        ).logits[0]
        chosen = logits.log_softmax(-1)[put(pack.which), put(pack.wanted)]
        sums = torch.zeros(len(pack.references), device=self._device)
        return sums.index_add(0, put(pack.owners), chosen * put(pack.weights))

    def _on_device(self, array):
        return self._torch.from_numpy(array).to(self._device)

    def _masks(self, mask, positions):
        """Return the mask, or one for each kind of layer where some look back no further than a window."""
        torch, config = self._torch, self.model.config
        kinds, window = set(getattr(config, "layer_types", None) or ()), getattr(config, "sliding_window", None)
        if "sliding_attention" not in kinds or not window:
            return mask
        near = self._on_device(positions[:, None] - positions[None, :] < window)
        return {kind: torch.where(near, mask, mask.min()) if "sliding" in kind else mask for kind in kinds}

    def parameters(self) -> list:
        """Return what is trained."""
        return [factor for pair in self.factors.values() for factor in pair]

    def state(self) -> dict[str, Any]:
        """Return a copy of the factors."""
        return {name: tuple(f.detach().clone() for f in pair) for name, pair in self.factors.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Put a copy of the factors back."""
        with self._torch.no_grad():
            for name, pair in self.factors.items():
                for factor, kept in zip(pair, state[name], strict=True):
                    factor.copy_(kept)

    def start_from(self, adapter: Path) -> None:
        """Begin with the factors of an adapter that was trained before."""
        kept = read_factors(adapter)
        found = {name: (kept[name][0], kept[name][1][order]) for name, order in self._orders.items()}
        self.restore({name: tuple(map(self._torch.from_numpy, pair)) for name, pair in found.items()})

    def stored_factors(self, state: dict[str, Any]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return factors as numpy arrays, rows of B in the order of the file."""
        found = {}
        for name, (a, b) in state.items():
            rows = np.empty(tuple(b.shape), np.float32)
            rows[self._orders[name]] = b.cpu().numpy()
            found[name] = a.cpu().numpy(), rows
        return found


def _load(path, quiet):
    """Read a model from its GGUF file, its weights fixed."""
    import torch
    from transformers import AutoModelForCausalLM

    hidden = contextlib.redirect_stderr(io.StringIO()) if quiet else contextlib.nullcontext()
    with hidden, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about what neither caller nor user can change
        model = AutoModelForCausalLM.from_pretrained(
            os.fspath(path.parent), gguf_file=path.name, dtype=torch.float32, local_files_only=True
        )
    return model.requires_grad_(False).eval()


@contextlib.contextmanager
def threads(n: int) -> Iterator[None]:
    """Let torch work with `n` threads for a while."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def held_out_losses(model: Model, material: Material) -> np.ndarray:
    """Loss of each held-out document, in nats."""
    import torch

    with torch.no_grad():
        return np.concatenate([model.losses(pack).cpu().numpy() for pack in material.packs(material.held_out)])


def is_near(losses: np.ndarray, best: np.ndarray) -> bool:
    """Whether losses of some documents are no more than one standard error above others of the same documents.

    >>> is_near(np.array([1.0, 3.0, 2.1]), np.array([1.2, 2.4, 2.2]))  # 0.1 more on average, give or take 0.25
    True
    >>> is_near(np.array([1.3, 2.6, 2.3]), np.array([1.2, 2.4, 2.2]))  # 0.13 more, give or take 0.03
    False
    """
    apart = losses - best
    error = apart.std(ddof=1) / math.sqrt(len(apart)) if len(apart) > 1 else 0.0
    return bool(apart.mean() <= error)


def _with_references(model, material):
    """Note how much more probable each preferred answer is now."""
    import torch

    found = []
    for examples in (material.train, material.held_out):
        with torch.no_grad():
            sums = torch.cat([model.log_likelihoods(pack) for pack in material.packs(examples)]).tolist()
        found.append([example._replace(reference=now) for example, now in zip(examples, sums, strict=True)])
    return material._replace(train=found[0], held_out=found[1])


class _Progress:
    """Where training stands; all of it goes into a checkpoint, so that an interrupted one ends as another would."""

    def __init__(self, model: Model, settings: Settings):
        import torch

        self._torch, self._model, self._settings = torch, model, settings
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate)
        self.step, self.waited = 0, 0
        self.history: list[tuple[int, float]] = []
        self.best: np.ndarray | None = None  # each held-out document's loss at the look with the least
        self.kept = 0, model.state()

    def save(self, path: Path) -> None:
        """Write a checkpoint, whole or not at all."""
        state = {
            "step": self.step,
            "waited": self.waited,
            "history": self.history,
            "best": self._torch.from_numpy(self.best),
            "kept": self.kept,
            "factors": self._model.state(),
            "optimizer": self.optimizer.state_dict(),
        }
        beside = path.with_name(f"{path.name}.{os.getpid()}.part")
        self._torch.save(state, beside)
        os.replace(beside, path)

    def load(self, path: Path) -> bool:
        """Read a checkpoint where there is a whole one."""
        try:
            state = self._torch.load(path, weights_only=True, map_location=self._settings.device)
            self.optimizer.load_state_dict(state["optimizer"])
        except FileNotFoundError:
            return False
        except Exception:  # torch says in many ways that a file is damaged: begin again
            return False
        self._model.restore(state["factors"])
        self.step, self.waited, self.kept = state["step"], state["waited"], state["kept"]
        self.best = state["best"].cpu().numpy()
        self.history = [(int(step), float(loss)) for step, loss in state["history"]]
        return True

    def look(self, losses: np.ndarray) -> None:
        """Note held-out documents' losses; the factors are kept of the last look that is no worse than the best one.

        Of a few documents the least mean is often one by chance, in the midst of training where the rate is high.
        """
        self.history.append((self.step, float(losses.mean())))
        if self.best is None or losses.mean() < self.best.mean():
            self.best = losses
        if is_near(losses, self.best):
            self.waited, self.kept = 0, (self.step, self._model.state())
        else:
            self.waited += 1

    def take_step(self, material: Material) -> float:
        """Train on one batch; returns its loss a document."""
        batch = material.batch(self.step, self._settings)
        for group in self.optimizer.param_groups:
            group["lr"] = self._settings.learning_rate * self._settings.rate(self.step)
        self.optimizer.zero_grad()
        total = 0.0
        for pack in material.packs(batch):
            loss = self._model.loss(pack) / len(batch)
            loss.backward()
            total += loss.item()
        self.optimizer.step()
        self.step += 1
        return total


def train(
    path: Path,
    material: Material,
    settings: Settings,
    checkpoint: Path,
    check: Callable[[Model], None] | None = None,
    start: Path | None = None,
) -> Trained:
    """Train factors for a model file until held-out documents gain no more.

    Parameters
    ----------
    path : Path
        The model.
    material : Material
        Documents with answers.
    settings : Settings
        How.
    checkpoint : Path
        Where the state of the work is kept until it is done; with such a file it goes on from there.
    check : callable or None, default=None
        Called with the model as it is read, before anything is trained.
    start : Path or None, default=None
        An adapter to begin with; where pairs are trained on, what was preferred before is what the model with it does.
    """
    with threads(settings.n_threads):
        model = Model(path, settings)
        if check is not None:
            check(model)
        if start is not None:
            model.start_from(start)
        if settings.beta is not None:
            material = _with_references(model, material)
        progress = _Progress(model, settings)
        if not progress.load(checkpoint):
            began = time.monotonic()
            progress.look(held_out_losses(model, material))
            if settings.verbose:
                _tell_time(material, settings, time.monotonic() - began)
        _train(model, material, settings, progress, checkpoint)
    step, state = progress.kept
    found = Trained(model.stored_factors(state), step, progress.history)
    del model, progress, check
    gc.collect()  # gigabytes that may hang in a cycle
    return found


def _train(model, material, settings, progress, checkpoint):
    every = max(1, math.ceil(len(material.train) / settings.batch_size) // CHECKS_A_PASS)
    saved = time.monotonic()
    bar = tqdm(total=settings.steps, initial=progress.step, disable=not settings.verbose, unit="step", desc="Fine-tune")
    with bar:
        while progress.step < settings.steps and progress.waited < settings.patience:
            loss = progress.take_step(material)
            if progress.step % every == 0 or progress.step == settings.steps:
                progress.look(held_out_losses(model, material))
            bar.update()
            bar.set_postfix(loss=f"{loss:.2f}", held_out=f"{progress.history[-1][1]:.2f}", refresh=False)
            if time.monotonic() - saved > SAVE_SECONDS and progress.step < settings.steps:
                progress.save(checkpoint)
                saved = time.monotonic()


def _tell_time(material, settings, seconds):
    """Say how long it will take: what the held-out documents took, and twice that again for the gradients."""
    share = settings.steps * settings.batch_size / len(material.held_out)
    minutes = 3 * seconds * share / 60
    tqdm.write(
        f"About {minutes:.0f} minutes at most ({settings.steps} steps)." if minutes >= 1 else "Less than a minute.",
        file=sys.stderr,
    )
