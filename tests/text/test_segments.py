"""Consecutive segments: each row walks through documents, every window once an epoch."""

import numpy as np
import pytest
import torch

from unmask.text.segments import SegmentBatches, document_windows
from unmask.text.shards import TokenSplit


def split(*sizes: int) -> TokenSplit:
    """Documents whose tokens say where they stand: 1000 * document + place."""
    tokens = np.concatenate([1000 * number + np.arange(size) for number, size in enumerate(sizes)]).astype(np.uint16)
    starts = np.cumsum([0, *sizes[:-1]]).astype(np.int64)
    return TokenSplit([tokens], starts, None)


def test_rows_go_on_where_they_were_unless_they_are_fresh() -> None:
    batches = SegmentBatches(split(50, 33, 7, 64, 41), rows=3, length=4, segments=2, seed=1)
    last = None
    seen: list[tuple[int, ...]] = []
    for step in range(batches.steps):
        pieces = batches.at(step)
        assert pieces.tokens.shape == (3, 2, 4)
        flat = pieces.tokens.flatten(1)
        assert (flat.diff(dim=1) == 1).all()  # never across documents
        if last is not None:
            goes_on = flat[:, 0] == last + 1
            assert (goes_on | pieces.fresh).all()
            assert not (goes_on & pieces.fresh).any()
        else:
            assert pieces.fresh.all()
        last = flat[:, -1]
        seen += map(tuple, flat.tolist())
    assert len(set(seen)) == len(seen)  # no window twice
    assert not any(token // 1000 == 2 for window in seen for token in window)  # too short for a window


def test_a_batch_is_a_function_of_the_step_and_epochs_differ() -> None:
    one, other = (SegmentBatches(split(90, 80, 70), rows=2, length=4, segments=2, seed=3) for _ in range(2))
    later = other.at(one.steps + 1)
    assert torch.equal(one.at(2).tokens, other.at(2).tokens)
    assert torch.equal(one.at(one.steps + 1).tokens, later.tokens)
    epochs = [one.at(epoch * one.steps).tokens for epoch in range(4)]
    assert not all(torch.equal(epochs[0], tokens) for tokens in epochs[1:])
    assert one.at(one.steps).fresh.all()


def test_ranks_see_different_windows() -> None:
    documents = split(90, 80, 70, 60)
    batches = [SegmentBatches(documents, 2, 4, 2, rank=rank, world=2) for rank in range(2)]
    seen = [
        {tuple(window) for step in range(batch.steps) for window in batch.at(step).tokens.flatten(1).tolist()}
        for batch in batches
    ]
    assert not seen[0] & seen[1]


def test_too_little_text_is_refused() -> None:
    with pytest.raises(ValueError, match="no document has the 4 segments of 8 tokens"):
        SegmentBatches(split(31, 20), 1, 8, 4)
    with pytest.raises(ValueError, match="fewer than the 3 rows of a batch"):
        SegmentBatches(split(16, 16), 3, 8, 2)
    with pytest.raises(ValueError, match="no document has 4 segments"):
        document_windows(split(31), 8, 4, 10)


def test_windows_for_evaluation_start_where_documents_do() -> None:
    windows = document_windows(split(35, 5, 18), 4, 2, 10)
    assert windows[:, 0, 0].tolist() == [0, 8, 16, 24, 2000, 2008]
    assert len(document_windows(split(35, 5, 18), 4, 2, 3)) == 3
