"""From texts with holes, and from texts to be edited, to canvases."""

from collections.abc import Sequence
from typing import Any, TypeAlias

from unmask.pipeline.results import Layout
from unmask.text.template import Template
from unmask.text.tokenizer import Tokenizer

LENGTHS_TRIED = 8

Part: TypeAlias = str | tuple[int, int]
"""A part of a text: itself, or its first character and the one after its last."""


def parts(given: Part | Sequence[Part]) -> list[Part]:
    """One part or several, as several.

    Raises:
        ValueError: something that is no part.
    """
    one = isinstance(given, str) or (len(given) == 2 and all(isinstance(end, int) for end in given))
    found: list[Any] = [given] if one else list(given)
    for part in found:
        ranged = isinstance(part, Sequence) and len(part) == 2 and all(isinstance(end, int) for end in part)
        if not isinstance(part, str) and not ranged:
            raise ValueError(f"a part must be a text or a range (start, end) of characters, not {part!r}")
    return found


def lay_out(template: Template, tokenizer: Tokenizer, length: int) -> Layout:
    """The canvases of a template: one, or for holes of open length one for each of at most 8 sizes.

    Raises:
        ValueError: the longest does not fit into `length` tokens.
    """
    if sum(template.holes) > length:
        raise ValueError(f"the holes have {sum(template.holes)} tokens; the model's canvas has {length}")
    texts = tokenizer.encode_batch(template.texts)
    layout = Layout([], [], texts=template.texts)
    for sizes in hole_sizes(template):
        canvas: list[int] = []
        holes: list[tuple[int, int]] = []
        for ids, size in zip(texts, (*sizes, 0), strict=True):
            canvas += ids
            holes.append((len(canvas), size))
            canvas += [tokenizer.mask_id] * size
        if len(canvas) > length:
            raise ValueError(f"the text has {len(canvas)} tokens, holes included; the model's canvas has {length}")
        layout.canvases.append(canvas)
        layout.holes.append(holes[:-1])
    return layout


def hole_sizes(template: Template) -> list[tuple[int, ...]]:
    """The sizes to try: all holes from their least to their most together, in at most 8 even strides."""
    if template.least is None:
        return [template.holes]
    pairs = list(zip(template.least, template.holes, strict=True))
    count = min(LENGTHS_TRIED, max(most - least for least, most in pairs) + 1)
    tried = [tuple(round(least + (most - least) * i / (count - 1)) for least, most in pairs) for i in range(count)]
    return list(dict.fromkeys(tried))


def marked(text: str, parts: Sequence[Part], spans: Sequence[tuple[int, int]], what: str) -> set[int]:
    """The tokens that overlap some parts of a text: substrings that occur once, or character ranges.

    Raises:
        ValueError: a substring that does not occur, or occurs twice; a range outside the text.
    """
    found: set[int] = set()
    for part in parts:
        if isinstance(part, str):
            start = text.find(part)
            if not part or start < 0 or text.find(part, start + 1) >= 0:
                times = "is empty" if not part else "does not occur" if start < 0 else "occurs more than once"
                raise ValueError(f"{what}: {part!r} {times} in the text; give it whole, or as (start, end) characters")
            end = start + len(part)
        else:
            start, end = part
            if not 0 <= start < end <= len(text):
                raise ValueError(f"{what}: ({start}, {end}) is not a range of the text's {len(text)} characters")
        found |= {i for i, (a, b) in enumerate(spans) if a < end and b > start}
    return found


def reopened(
    ids: Sequence[int],
    chosen: set[int],
    mask_id: int,
    size: int | None = None,
    text: str = "",
    spans: Sequence[tuple[int, int]] = (),
) -> Layout:
    """A text's tokens with the chosen ones masked; with `size`, the first run of them becomes a hole of that size.

    With the text and the characters that each token stands for, what is between the holes stays as it was written.
    """
    canvas: list[int] = []
    holes: list[tuple[int, int]] = []
    texts: list[str] = []
    run = end = 0
    for i in range(len(ids) + 1):
        if i in chosen:
            run += 1
            continue
        if run:
            holes.append((len(canvas), run if size is None else size))
            canvas += [mask_id] * holes[-1][1]
            if spans:
                texts.append(text[end : spans[i - run][0]])
                end = spans[i - 1][1]
            run = 0
        if i < len(ids):
            canvas.append(ids[i])
    return Layout([canvas], [holes], texts=(*texts, text[end:]) if spans else ())
