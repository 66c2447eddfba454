"""Documents in consecutive pieces: row r of one batch goes on where row r of the batch before ended."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int
from numpy.typing import NDArray
from torch import Tensor

from unmask.text.shards import TokenSplit


@dataclass(frozen=True)
class Pieces:
    """One batch.

    Attributes:
        tokens: (B, K, L), K consecutive segments of a document a row.
        fresh: (B,), rows that do not go on from the batch before.
    """

    tokens: Int[Tensor, "B K L"]
    fresh: Bool[Tensor, " B"]


class SegmentBatches:
    """Windows of K segments, each document's in order; documents in a new order each epoch. A pure function of the step.

    Args:
        split: the tokens; a document that is shorter than a window is left out, and so is the rest after its last window.
        rows: rows a batch on one rank.
        length: L, tokens of a segment.
        segments: K.
        seed: of the order.
        rank, world: this process among how many; ranks see disjoint windows.

    Raises:
        ValueError: no document is as long as a window, or there are fewer windows than rows.
    """

    def __init__(
        self,
        split: TokenSplit,
        rows: int,
        length: int,
        segments: int,
        *,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.split, self.rows, self.length, self.segments = split, rows, length, segments
        self.seed, self.rank, self.world = seed, rank, world
        self.starts = split.starts
        self.sizes = np.diff(np.append(split.starts, len(split)))
        self.windows = self.sizes // (length * segments)
        if not self.windows.any():
            raise ValueError(
                f"no document has the {segments} segments of {length} tokens that a thought is trained on: "
                "give longer documents, or a smaller model.length or thinking.segments"
            )
        self.steps = int(self.windows.sum()) // (rows * world)
        if not self.steps:
            raise ValueError(
                f"the corpus has {int(self.windows.sum())} windows of {segments} x {length} tokens, fewer than the "
                f"{rows * world} rows of a batch: give more text or a smaller train.batch_size"
            )
        self._epoch: tuple[int, NDArray[np.int64], NDArray[np.bool_]] | None = None

    def at(self, step: int) -> Pieces:
        """The batch of a step."""
        epoch, offset = divmod(step, self.steps)
        starts, first = self._order(epoch)
        lanes = (self.rank * self.rows + np.arange(self.rows)) * self.steps + offset
        size = self.length * self.segments
        tokens = np.stack([self.split.window(int(start), size) for start in starts[lanes]])
        fresh = first[lanes] | (offset == 0)
        return Pieces(torch.from_numpy(tokens).unflatten(1, (self.segments, self.length)), torch.from_numpy(fresh))

    def _order(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Where each window of an epoch starts, and whether its document does."""
        if self._epoch is None or self._epoch[0] != epoch:
            random = np.random.default_rng((self.seed, epoch))
            size = self.length * self.segments
            # a document's windows begin anywhere in what is left over, so that segments end elsewhere each time
            phase = random.integers(0, self.sizes - self.windows * size, endpoint=True)
            order = random.permutation(np.flatnonzero(self.windows))
            counts = self.windows[order]
            number = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
            starts = np.repeat((self.starts + phase)[order], counts) + number * size
            self._epoch = epoch, starts, number == 0
        return self._epoch[1], self._epoch[2]


def document_windows(split: TokenSplit, length: int, segments: int, most: int) -> Int[Tensor, "N K L"]:
    """Up to `most` windows of K segments from the documents' beginnings on, spread evenly.

    Raises:
        ValueError: no document is that long.
    """
    sizes = np.diff(np.append(split.starts, len(split)))
    size = length * segments
    starts = [
        int(start) + number * size
        for start, count in zip(split.starts, sizes // size, strict=True)
        for number in range(int(count))
    ]
    if not starts:
        raise ValueError(
            f"no document has {segments} segments of {length} tokens: give longer documents, or a smaller model.length or "
            "thinking.segments"
        )
    chosen = np.unique(np.linspace(0, len(starts) - 1, min(most, len(starts))).round().astype(int))
    return torch.from_numpy(np.stack([split.window(starts[i], size) for i in chosen])).unflatten(1, (segments, length))
