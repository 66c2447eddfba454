"""Texts with holes: "To be, or [MASK:9] to be"; [MASK:4-9] leaves the length to the model."""

import re
from dataclasses import dataclass

HOLE = re.compile(r"\[MASK(?::([^\]\s\[]*))?\]")
SIZE = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?")
OPEN = "[MASK"


@dataclass(frozen=True)
class Template:
    """Text and holes in turn.

    Attributes:
        texts: what is given; one more than there are holes, perhaps empty.
        holes: tokens to fill in each hole; the most, where the length is left open.
        least: the fewest tokens of each hole; None where every length is given.
    """

    texts: tuple[str, ...]
    holes: tuple[int, ...]
    least: tuple[int, ...] | None = None


def parse_template(text: str, *, need_hole: bool = True) -> Template:
    """Read `[MASK]` as a hole of one token, `[MASK:n]` as one of n, `[MASK:m-n]` as one of m to n.

    Raises:
        ValueError: a hole that is unclosed, empty or not a number, or no hole at all.
    """
    texts: list[str] = []
    holes: list[tuple[int, int]] = []
    end = 0
    for match in HOLE.finditer(text):
        texts.append(text[end : match.start()])
        holes.append(_size(match))
        end = match.end()
    texts.append(text[end:])
    for part in texts:
        if OPEN in part:
            raise ValueError(f"the hole {part[part.index(OPEN) :][:20]!r} is not closed: write [MASK] or [MASK:9]")
    if not holes and need_hole:
        raise ValueError("there is no hole to fill: write [MASK] for one token or [MASK:9] for nine")
    least, most = (tuple(sizes[i] for sizes in holes) for i in range(2))
    return Template(tuple(texts), most, None if least == most else least)


def _size(match: re.Match[str]) -> tuple[int, int]:
    digits = match[1]
    if digits is None:
        return 1, 1
    size = SIZE.fullmatch(digits)
    least, most = (int(size[1]), int(size[2] or size[1])) if size else (0, 0)
    if not 1 <= least <= most:
        raise ValueError(f"the hole {match[0]} must have a length of at least 1, as in [MASK:9] or [MASK:4-9]")
    return least, most
