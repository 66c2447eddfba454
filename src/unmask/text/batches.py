"""Batches as a pure function of (seed, step, rank): nothing to save, exact on resume, the same on any number of workers."""

import numpy as np
import torch
from numpy.typing import NDArray

from unmask.text.shards import TokenSplit
from unmask.types import Tokens


class Batches:
    """Rows of `length` consecutive tokens, every block once an epoch, in a new order and with a new phase each epoch.

    Args:
        split: the tokens; rows may run over document boundaries.
        rows: rows a batch on one rank.
        length: tokens a row.
        seed: of order and phase.
        rank, world: this process among how many; ranks see disjoint rows.

    Raises:
        ValueError: the split is shorter than one row.
    """

    def __init__(
        self, split: TokenSplit, rows: int, length: int, *, seed: int = 0, rank: int = 0, world: int = 1
    ) -> None:
        if len(split) < length:
            raise ValueError(
                f"the corpus has {len(split):,} tokens, fewer than one block of {length}: "
                "give more text or a shorter model.length"
            )
        self.split, self.rows, self.length = split, rows, length
        self.seed, self.rank, self.world = seed, rank, world
        # one block less than fit, when there is room, so that the phase can move
        self.blocks = max(1, (len(split) - length) // length)
        self._epoch: tuple[int, NDArray[np.int64]] | None = None

    @property
    def steps_per_epoch(self) -> float:
        """Batches (of all ranks together) in which every block is seen once."""
        return self.blocks / (self.rows * self.world)

    def at(self, step: int) -> Tokens:
        """The batch of a step, (rows, length)."""
        first = (step * self.world + self.rank) * self.rows
        starts = [self._start(first + row) for row in range(self.rows)]
        return torch.from_numpy(np.stack([self.split.window(start, self.length) for start in starts]))

    def _start(self, index: int) -> int:
        epoch, place = divmod(index, self.blocks)
        if self._epoch is None or self._epoch[0] != epoch:
            random = np.random.default_rng((self.seed, epoch))
            slack = len(self.split) - self.blocks * self.length
            phase = random.integers(0, min(slack, self.length), endpoint=slack < self.length)
            self._epoch = epoch, random.permutation(self.blocks) * self.length + phase
        return int(self._epoch[1][place])


def eval_blocks(split: TokenSplit, length: int, blocks: int) -> Tokens:
    """Up to `blocks` rows spread evenly over the split, without overlap."""
    fit = len(split) // length
    if fit == 0:
        raise ValueError(
            f"the text has {len(split):,} tokens, fewer than one block of {length}: give more text or a shorter model.length"
        )
    chosen = np.unique(np.linspace(0, fit - 1, min(blocks, fit)).round().astype(int))
    return torch.from_numpy(np.stack([split.window(int(i) * length, length) for i in chosen]))
