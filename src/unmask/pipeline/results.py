"""Requests and what comes of them."""

from dataclasses import dataclass, field

from unmask.pipeline.options import SamplingOptions


@dataclass(frozen=True)
class Layout:
    """Canvases to fill: one, or several that differ in the sizes of their holes.

    Attributes:
        canvases: token ids with masks.
        holes: for each canvas, the start and size of each hole.
        texts: what was given around the holes, as it was written; () where that is not kept.
        draft: positions of the (then only) canvas that hold a draft: tokens that a model trained to repair may reopen.
    """

    canvases: list[list[int]]
    holes: list[list[tuple[int, int]]]
    draft: frozenset[int] = frozenset()
    texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Request:
    """A layout with its options; made by `Pipeline.request_generate`, `request_infill` and `request_edit`."""

    layout: Layout
    options: SamplingOptions = field(default_factory=SamplingOptions)


@dataclass(frozen=True)
class Generation:
    """One finished text.

    Attributes:
        text: the whole text, what was given included.
        tokens: its token ids.
        fills: the text of each hole.
        confidence: for each token, the model's probability of it when it was drawn; 1 for what was given.
        nfe: network forward evaluations, those of candidates and scores included.
        seed: the seed that makes it again.
        finish: "length" when the canvas is full, "end" at an end-of-text token, "stop" at a stop text.
        bound: nats a token of -log p(fills | what was given), where it was needed to choose; else None.
        doubts: for a draft, the probability with which the model took each given token for wrong; else None.
    """

    text: str
    tokens: list[int]
    fills: list[str]
    confidence: list[float]
    nfe: int
    seed: int
    finish: str = "length"
    bound: float | None = None
    doubts: list[float] | None = None

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Repair:
    """A text after its repair, token by token.

    Attributes:
        text: the repaired text.
        before: the given tokens.
        tokens: the tokens now, as many as before.
        doubts: the probability with which the model, reading the given text, took each for wrong; 0 where protected.
        spans: the characters [start, end) of the given text that each given token stands for.
        nfe: network forward evaluations.
        seed: the seed that makes it again.
    """

    text: str
    before: list[int]
    tokens: list[int]
    doubts: list[float]
    spans: list[tuple[int, int]]
    nfe: int
    seed: int

    def __str__(self) -> str:
        return self.text

    @property
    def changed(self) -> list[int]:
        """The places of the tokens that are others now."""
        return [i for i, (old, new) in enumerate(zip(self.before, self.tokens, strict=True)) if old != new]


@dataclass(frozen=True)
class Score:
    """How likely the model finds what stands in some holes, given the rest.

    Attributes:
        text: the whole text.
        tokens: its token ids.
        nats: an upper bound on -log p(fills | rest), nats.
        ci95: half the width of its 95 % interval; None from one draw.
        per_token: nats / number of scored tokens.
        confidence: for each token, the geometric mean of its probabilities; 1 for what was given, None for a token that no
            draw has hidden (with few draws).
        nfe: network forward evaluations.
        seed: the seed that makes it again.
    """

    text: str
    tokens: list[int]
    nats: float
    ci95: float | None
    per_token: float
    confidence: list[float | None]
    nfe: int
    seed: int
