"""The stack of thoughts: a ring buffer of the last S thoughts of each row, without a loop over slots or rows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class ThoughtStack:
    """The n-D tensor (slots and a thought's dims) that each row carries; a push gives a new stack and leaves the old.

    What was never written, or has been reset, is not valid; what it holds means nothing.

    Attributes:
        data: (B, S, *D), the slots in the order of the ring.
        head: (B,), the slot that is written next.
        count: (B,), valid thoughts, at most S.
    """

    data: Float[Tensor, "B S *D"]
    head: Int[Tensor, " B"]
    count: Int[Tensor, " B"]

    @staticmethod
    def empty(
        rows: int,
        slots: int,
        dims: tuple[int, ...],
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> "ThoughtStack":
        """No thoughts yet.

        Raises:
            ValueError: no slots, or a thought without dims.
        """
        if slots < 1 or not dims or min(dims) < 1:
            raise ValueError(
                f"a stack needs at least one slot and thoughts of at least one number, not {slots} x {dims}"
            )
        nothing = torch.zeros(rows, dtype=torch.long, device=device)
        return ThoughtStack(torch.zeros(rows, slots, *dims, device=device, dtype=dtype), nothing, nothing)

    @staticmethod
    def side_by_side(stacks: "Sequence[ThoughtStack]") -> "ThoughtStack":
        """K stacks of B rows as one of B K rows: each row's K one after the other."""
        return ThoughtStack(
            *(
                torch.stack([getattr(one, name) for one in stacks], 1).flatten(0, 1)
                for name in ("data", "head", "count")
            )
        )

    @property
    def slots(self) -> int:
        """S."""
        return self.data.shape[1]

    @property
    def dims(self) -> tuple[int, ...]:
        """The dims of one thought."""
        return tuple(self.data.shape[2:])

    @property
    def age(self) -> Int[Tensor, "B S"]:
        """How many pushes ago each slot of the ring was written: 0 is the newest; S or more where not valid."""
        slot = torch.arange(self.slots, device=self.head.device)
        age = (self.head[:, None] - 1 - slot) % self.slots
        return torch.where(age < self.count[:, None], age, self.slots)

    @property
    def valid(self) -> Bool[Tensor, "B S"]:
        """Which slots of the ring hold a thought."""
        return self.age < self.slots

    def push(self, thought: Float[Tensor, "B *D"], rows: Bool[Tensor, " B"] | None = None) -> "ThoughtStack":
        """The thought on top; the oldest falls off a full stack. With `rows`, the other rows stay as they are.

        Raises:
            ValueError: a thought of other dims.
        """
        if tuple(thought.shape[1:]) != self.dims:
            raise ValueError(f"a thought of {tuple(thought.shape[1:])} does not fit a stack of {self.dims}")
        place = torch.arange(len(self.head), device=self.head.device), self.head
        new = thought.to(self.data.dtype)
        if rows is not None:
            new = torch.where(rows.view(-1, *[1] * len(self.dims)), new, self.data[place])
        # not in place: gradients flow back through the pushes
        data = self.data.index_put(place, new)
        step = torch.ones_like(self.head) if rows is None else rows.long()
        return ThoughtStack(data, (self.head + step) % self.slots, (self.count + step).clamp(max=self.slots))

    def evolve(self, thought: Float[Tensor, "B *D"]) -> "ThoughtStack":
        """The newest thought replaced; rows without thoughts stay without."""
        return replace(
            self, data=torch.where(self._wide(self.age == 0), thought.to(self.data.dtype)[:, None], self.data)
        )

    def ordered(self) -> tuple[Float[Tensor, "B S *D"], Bool[Tensor, "B S"]]:
        """Thoughts from the oldest to the newest, and which places hold one: the first `count` of each row."""
        place = torch.arange(self.slots, device=self.head.device)
        slot = (self.head[:, None] - self.count[:, None] + place) % self.slots
        rows = torch.arange(len(self.head), device=self.head.device)[:, None]
        return self.data[rows, slot], place < self.count[:, None]

    def newest(self) -> Float[Tensor, "B *D"]:
        """The last thought of each row; zeros where there is none."""
        rows = torch.arange(len(self.head), device=self.head.device)
        last = self.data[rows, (self.head - 1) % self.slots]
        has = (self.count > 0).view(-1, *[1] * len(self.dims))
        return torch.where(has, last, torch.zeros_like(last))

    def merge(self, later: "ThoughtStack") -> "ThoughtStack":
        """As if the other's thoughts had been pushed onto this one, oldest first.

        Raises:
            ValueError: thoughts of other dims, or another number of rows.
        """
        if later.dims != self.dims or len(later.head) != len(self.head):
            raise ValueError(
                f"a stack of {len(later.head)} rows of {later.dims} cannot be merged into {len(self.head)} of {self.dims}"
            )
        (own, _), (other, _) = self.ordered(), later.ordered()
        total = self.count + later.count
        kept = total.clamp(max=self.slots)
        # the place of each kept thought in the two stacks laid end to end
        place = (total - kept)[:, None] + torch.arange(self.slots, device=self.head.device)
        rows = torch.arange(len(self.head), device=self.head.device)[:, None]
        first = own[rows, place.clamp(max=self.slots - 1)]
        second = other[rows, (place - self.count[:, None]).clamp(0, later.slots - 1)]
        data = torch.where(self._wide(place < self.count[:, None]), first, second.to(first.dtype))
        return ThoughtStack(data, kept % self.slots, kept)

    def reset(self, rows: Bool[Tensor, " B"]) -> "ThoughtStack":
        """Forget the thoughts of these rows; no gradient flows past it."""
        data = torch.where(rows.view(-1, *[1] * (self.data.ndim - 1)), torch.zeros_like(self.data), self.data)
        return ThoughtStack(data, self.head.masked_fill(rows, 0), self.count.masked_fill(rows, 0))

    def detach(self) -> "ThoughtStack":
        """The same thoughts, cut from what made them: the end of truncated back-propagation."""
        return replace(self, data=self.data.detach())

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "ThoughtStack":
        """The same on another device, or in another precision."""
        return ThoughtStack(self.data.to(device=device, dtype=dtype), self.head.to(device), self.count.to(device))

    def _wide(self, flags: Bool[Tensor, "B S"]) -> Tensor:
        return flags.view(*flags.shape, *[1] * len(self.dims))
