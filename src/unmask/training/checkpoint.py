"""Checkpoints of a run: `checkpoints/step-000500/`, and `last` and `best` that point to them.

A checkpoint is written under another name and renamed when it is whole, and the pointers are swapped in one system call,
so whatever happens (Ctrl-C, kill -9, a full disk) `last` stays loadable.
"""

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from unmask.config import RunConfig
from unmask.pretrained import (
    atomic_folder,
    read_model_config,
    read_tensors,
    save_pretrained,
    weights_file,
    write_tensors,
)
from unmask.text.tokenizer import Tokenizer

STATE_FILES = ("state.json", "weights.safetensors", "optimizer.safetensors", "learner.safetensors")


@dataclass
class TrainerState:
    """Where a run stands.

    Attributes:
        step: optimizer steps done.
        best_step: the step of the best validation so far.
        best_nelbo: its bound, nats a token.
        seconds: training time so far.
    """

    step: int = 0
    best_step: int = 0
    best_nelbo: float = float("inf")
    seconds: float = 0.0


def save_checkpoint(
    run: Path,
    state: TrainerState,
    *,
    config: RunConfig,
    tokenizer: Tokenizer,
    weights: dict[str, Tensor],
    averaged: dict[str, Tensor] | None,
    optimizers: list[Optimizer],
    learned: dict[str, Tensor],
    architecture: dict[str, Any] | None = None,
) -> Path:
    """Write the checkpoint of a step, point `last` (and `best`, if it is) at it, and drop what nothing points at."""
    root = run / "checkpoints"
    target = root / f"step-{state.step:06d}"
    with atomic_folder(target) as folder:
        save_pretrained(folder, weights if averaged is None else averaged, tokenizer, config, architecture)
        trainer = folder / "trainer"
        trainer.mkdir()
        (trainer / "state.json").write_text(json.dumps(asdict(state)), "utf-8")
        if averaged is not None:
            write_tensors(weights, trainer / STATE_FILES[1])
        write_tensors(optimizer_tensors(optimizers), trainer / STATE_FILES[2])
        write_tensors(learned, trainer / STATE_FILES[3])
    point(root / "last", target)
    if state.best_step == state.step:
        point(root / "best", target)
    pointed = {(root / name).resolve() for name in ("last", "best")}
    for old in root.glob("step-*"):
        if old.resolve() not in pointed:
            shutil.rmtree(old, ignore_errors=True)
    return target


def load_trainer(folder: Path) -> tuple[TrainerState, dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """State, raw weights, optimizer tensors and what the learner keeps, of a checkpoint.

    Raises:
        ValueError: the folder was not written by training, or is damaged.
    """
    trainer = folder / "trainer"
    try:
        state = TrainerState(**json.loads((trainer / "state.json").read_text("utf-8")))
    except (OSError, json.JSONDecodeError, TypeError) as error:
        raise ValueError(f"{folder} cannot be resumed: trainer/state.json: {error}") from None
    raw = trainer / STATE_FILES[1]
    weights = read_tensors(raw if raw.is_file() else weights_file(folder))
    return state, weights, read_tensors(trainer / STATE_FILES[2]), read_tensors(trainer / STATE_FILES[3])


def find_checkpoint(folder: Path) -> Path:
    """The checkpoint folder itself, or a run's last."""
    found = folder if (folder / "trainer").is_dir() else folder / "checkpoints" / "last"
    if not (found / "trainer").is_dir():
        raise ValueError(f"{folder} holds nothing to resume: no trainer/ and no checkpoints/last/")
    return found


def check_resumable(source: Path, config: RunConfig) -> None:
    """Refuse a checkpoint of another model or optimizer, before anything is written."""
    saved, _, _ = read_model_config(source)
    if saved.model != config.model or saved.thought != config.thought:
        raise ValueError(f"{source} cannot be resumed: it has another model shape than the config")
    for name in ("corruption", "prediction", "begin"):
        old, new = getattr(saved.diffusion, name), getattr(config.diffusion, name)
        if old != new:
            raise ValueError(f"{source} cannot be resumed: its diffusion.{name} is {old}, the config's {new}")
    if saved.adapt.lora != config.adapt.lora:
        raise ValueError(
            f"{source} cannot be resumed: its adapt.lora is {saved.adapt.lora}, the config's {config.adapt.lora}"
        )
    if saved.optim.name != config.optim.name:
        raise ValueError(f"{source} cannot be resumed: it was trained with {saved.optim.name}, not {config.optim.name}")


def optimizer_tensors(optimizers: list[Optimizer]) -> dict[str, Tensor]:
    """Every state tensor, named `optimizer.parameter.name`."""
    return {
        f"{i}.{index}.{name}": tensor.detach().contiguous().cpu()
        for i, optimizer in enumerate(optimizers)
        for index, values in optimizer.state_dict()["state"].items()
        for name, tensor in values.items()
    }


def load_optimizers(optimizers: list[Optimizer], tensors: dict[str, Tensor]) -> None:
    """The inverse of `optimizer_tensors`, into optimizers over the same parameters."""
    for i, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            owner, index, name = key.split(".", 2)
            if int(owner) == i:
                state.setdefault(int(index), {})[name] = tensor
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def point(link: Path, target: Path) -> None:
    """Let a relative symbolic link point at a sibling, atomically."""
    partial = link.with_name(f".{link.name}.partial")
    partial.unlink(missing_ok=True)
    partial.symlink_to(target.name, target_is_directory=True)
    os.replace(partial, link)


class Average:
    """An exponential moving average of the weights."""

    def __init__(self, weights: dict[str, Tensor], decay: float) -> None:
        self.decay = decay
        self.weights = {name: tensor.detach().clone() for name, tensor in weights.items()}

    def update(self, weights: dict[str, Tensor], step: int) -> None:
        """Move toward the current weights; early on faster, so that the start is forgotten."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, average in self.weights.items():
            average.lerp_(weights[name], 1 - decay)
