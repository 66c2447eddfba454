"""A cache for repeated conditioning: the same stack is encoded once."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable

from torch import Tensor

from unmask.thought.memory import Memory
from unmask.thought.stack import ThoughtStack


def digest(stack: ThoughtStack) -> str:
    """What a stack holds, as a short name: its thoughts by age, whatever the ring looks like."""
    thoughts, valid = stack.ordered()
    shown = thoughts * valid.view(*valid.shape, *[1] * len(stack.dims))
    return fingerprint(shown, stack.count)


def fingerprint(*tensors: Tensor) -> str:
    """A hash of shapes, kinds and contents."""
    found = hashlib.blake2b(digest_size=16)
    for tensor in tensors:
        array = tensor.detach().cpu().contiguous()
        found.update(f"{array.dtype}{tuple(array.shape)}".encode())
        found.update(
            array.flatten().float().numpy().tobytes() if array.is_floating_point() else array.numpy().tobytes()
        )
    return found.hexdigest()


class MemoryCache:
    """At most `limit` encoded stacks, the least recently used dropped first.

    Attributes:
        hits, misses: how often a stack was known, and was not.
    """

    def __init__(self, encode: Callable[[ThoughtStack], Memory], limit: int = 64) -> None:
        if limit < 1:
            raise ValueError(f"a cache must hold at least 1 entry, not {limit}")
        self.encode, self.limit = encode, limit
        self.hits = self.misses = 0
        self._known: OrderedDict[str, Memory] = OrderedDict()

    def __call__(self, stack: ThoughtStack) -> Memory:
        """The memory of a stack."""
        key = digest(stack)
        if key in self._known:
            self.hits += 1
            self._known.move_to_end(key)
            return self._known[key]
        self.misses += 1
        self._known[key] = memory = self.encode(stack)
        if len(self._known) > self.limit:
            self._known.popitem(last=False)
        return memory

    @property
    def hit_rate(self) -> float:
        """Hits over calls, in [0, 1]; 0 before the first call."""
        calls = self.hits + self.misses
        return self.hits / calls if calls else 0.0
