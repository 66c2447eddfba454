"""Sessions in files, and the cache of encoded stacks."""

from pathlib import Path

import pytest
import torch

from unmask.thought.conditioning import MemoryCache, digest
from unmask.thought.memory import Memory
from unmask.thought.session import Session, load_session, save_session
from unmask.thought.stack import ThoughtStack


def filled(pushes: int, slots: int = 3) -> ThoughtStack:
    stack = ThoughtStack.empty(2, slots, (2, 3))
    for number in range(pushes):
        stack = stack.push(torch.full((2, 2, 3), float(number + 1)))
    return stack


def test_a_session_comes_back_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "mind.safetensors"
    save_session(Session(filled(5), "abc", {"text": "To be"}), file)
    back = load_session(file, "abc")
    assert back.notes == {"text": "To be"}
    for name in ("data", "head", "count"):
        assert getattr(back.stack, name).equal(getattr(filled(5), name))
    assert list(tmp_path.iterdir()) == [file]


def test_another_models_session_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mind.safetensors"
    save_session(Session(filled(1), "abc"), file)
    with pytest.raises(ValueError, match="thoughts of another model"):
        load_session(file, "xyz")


def test_what_is_no_session_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no session file"):
        load_session(tmp_path / "none")
    broken = tmp_path / "broken"
    broken.write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="is not a session"):
        load_session(broken)
    file = tmp_path / "cut"
    save_session(Session(filled(1), "abc"), file)
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(ValueError, match="is not a session"):
        load_session(file)


def test_the_same_thoughts_are_encoded_once_whatever_the_ring_looks_like() -> None:
    calls: list[ThoughtStack] = []

    def encode(stack: ThoughtStack) -> Memory:
        calls.append(stack)
        return Memory(stack.data.flatten(2), stack.valid)

    cache = MemoryCache(encode, limit=2)
    first = filled(4)
    turned = ThoughtStack(first.data.roll(1, 1), (first.head + 1) % 3, first.count)
    assert digest(turned) == digest(first) != digest(filled(3))
    assert cache(first) is cache(turned)
    assert (cache.hits, cache.misses, cache.hit_rate) == (1, 1, 0.5)
    cache(filled(1))
    cache(filled(2))
    cache(first)
    assert len(calls) == 4  # the least recently used was dropped
    with pytest.raises(ValueError, match="at least 1"):
        MemoryCache(encode, limit=0)
