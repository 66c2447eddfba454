"""Nothing is computed that is not needed: rows that are done, positions that are settled, padding, halts of the queue."""

import subprocess
import sys
from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from conftest import random_model
from unmask.config import build_sampler
from unmask.diffusion.denoiser import Denoised, Subs
from unmask.sampling.controls import Controls
from unmask.sampling.loop import denoise

VOCAB, MASK = 12, 11
MODEL = random_model(VOCAB, length=32)


class Watched:
    """A denoiser that notes what it is asked."""

    mask_id, time_dependent = MASK, False

    def __init__(self) -> None:
        self.calls: list[tuple[int, int, int]] = []

    def __call__(
        self, xt: torch.Tensor, t: torch.Tensor, *, lengths: torch.Tensor | None = None, select: torch.Tensor
    ) -> Denoised:
        self.calls.append((*xt.shape, int(select.sum())))
        return Subs(MODEL, MASK)(xt, t, lengths=lengths, select=select)


def fill(denoiser: Watched, canvas: list[list[int]], sampler: str, steps: list[int], revise: str = "") -> None:
    rows = len(canvas)
    list(
        denoise(
            denoiser,
            torch.tensor(canvas),
            build_sampler(sampler, "linear", revise),
            steps=torch.tensor(steps),
            seeds=torch.arange(rows),
            controls=Controls.of(rows),
        )
    )


def test_finished_rows_leave_and_only_open_positions_are_asked_for() -> None:
    watched = Watched()
    fill(watched, [[MASK] * 8, [1, MASK, MASK, 2, 3, 4, 5, 6], [0] * 8], "random", [8, 1, 5])
    assert watched.calls[0] == (2, 8, 10)
    assert watched.calls[1:] == [(1, 8, left) for left in range(7, 0, -1)]


def test_steps_that_reveal_nothing_cost_nothing() -> None:
    watched = Watched()
    fill(watched, [[MASK] * 4], "random", [40])
    assert len(watched.calls) == 4


def test_gibbs_asks_for_the_reopened_sites_only() -> None:
    watched = Watched()
    fill(watched, [[MASK] * 6], "random", [1], "gibbs:sites=2")
    assert watched.calls == [(1, 6, 6)] + [(1, 6, 2)] * 3


def test_padding_is_not_computed() -> None:
    """The network's linear layers see real tokens only."""
    seen: list[int] = []
    hook = MODEL.blocks[0].mlp.up.register_forward_hook(lambda module, args, out: seen.append(args[0].numel() // 32))
    tokens = torch.randint(0, MASK, (3, 20))
    select = torch.zeros(3, 20, dtype=torch.bool)
    select[:, 1] = True
    with torch.no_grad():
        MODEL(tokens, torch.ones(3), lengths=torch.tensor([20, 5, 2]), select=select)
    hook.remove()
    assert seen == [27]


class Halts(TorchDispatchMode):
    """Counts the operations for which a GPU's queue must run empty."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: object, types: object, args: tuple = (), kwargs: dict | None = None) -> object:
        name = func.overloadpacket.__name__
        if name in ("_local_scalar_dense", "nonzero"):
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("sampler", ["random", "confidence", "entropy_bound:gamma=0"])
def test_a_step_halts_a_gpus_queue_a_few_times_whatever_the_batch(sampler: str) -> None:
    """Which rows go on, and where the masks are, must be known; tokens, scores and probabilities never leave the device."""

    class Light:
        mask_id, time_dependent = MASK, False

        def __call__(self, xt: torch.Tensor, t: torch.Tensor, *, lengths: object, select: torch.Tensor) -> Denoised:
            flat = torch.zeros(xt.numel(), VOCAB)[: int(xt.numel())].view(*xt.shape, VOCAB)
            places = select.flatten().to(torch.int8).argsort(descending=True, stable=True)
            return Denoised(flat.flatten(0, 1)[places[: self.count]].log_softmax(-1), select)

    per_step = []
    for rows in (1, 8):
        light = Light()
        canvas = torch.full((rows, 6), MASK)
        with Halts() as halts:
            frames = denoise(
                light,
                canvas,
                build_sampler(sampler, "linear"),
                steps=torch.full((rows,), 6),
                seeds=torch.arange(rows),
                controls=Controls.of(rows),
            )
            next(frames)
            halts.counts.clear()
            for left in range(6, 0, -1):
                light.count = left * rows
                next(frames)
        per_step.append(sum(halts.counts.values()) / 6)
    assert per_step[0] == per_step[1]
    assert per_step[0] <= 8


COMPILED = """
from unmask.pipeline import Pipeline
plain, fast = (Pipeline.from_pretrained("shakespeare", "cpu", compile=compile) for compile in (False, True))
for length, seed in ((40, 0), (64, 1)):
    one, other = (pipe.generate("ROMEO:", length=length, steps=8, seed=seed)[0] for pipe in (plain, fast))
    assert one.tokens == other.tokens
"""


@pytest.mark.slow
def test_a_compiled_model_says_the_same() -> None:
    """In a process of its own: the tests' checks of shapes cannot be compiled."""
    subprocess.run([sys.executable, "-c", COMPILED], check=True)
