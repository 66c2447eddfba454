"""Texts with holes: "To be, or [MASK:9] to be"."""

import re
from dataclasses import dataclass

HOLE = re.compile(r"\[MASK(?::([^\]\s\[]*))?\]")
OPEN = "[MASK"


@dataclass(frozen=True)
class Template:
    """Text and holes in turn.

    Attributes:
        texts: what is given; one more than there are holes, perhaps empty.
        holes: tokens to fill in each hole.
    """

    texts: tuple[str, ...]
    holes: tuple[int, ...]


def parse_template(text: str) -> Template:
    """Read `[MASK]` as a hole of one token and `[MASK:n]` as one of n.

    Raises:
        ValueError: a hole that is unclosed, empty or not a number, or no hole at all.
    """
    texts: list[str] = []
    holes: list[int] = []
    end = 0
    for match in HOLE.finditer(text):
        texts.append(text[end : match.start()])
        holes.append(_size(match))
        end = match.end()
    texts.append(text[end:])
    for part in texts:
        if OPEN in part:
            raise ValueError(f"the hole {part[part.index(OPEN) :][:20]!r} is not closed: write [MASK] or [MASK:9]")
    if not holes:
        raise ValueError("there is no hole to fill: write [MASK] for one token or [MASK:9] for nine")
    return Template(tuple(texts), tuple(holes))


def _size(match: re.Match[str]) -> int:
    digits = match[1]
    if digits is None:
        return 1
    if not digits.isascii() or not digits.isdigit() or int(digits) < 1:
        raise ValueError(f"the hole {match[0]} must have a length of at least 1, as in [MASK:9]")
    return int(digits)
