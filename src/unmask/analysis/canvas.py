"""A frame as styled text: the same cells for the terminal and for pictures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.text import Text

from unmask.sampling.frame import Frame, State
from unmask.text.tokenizer import Tokenizer

MASK_MARK = "░"
STYLES = {
    State.PROMPT: "bold cyan",
    State.MASKED: "bright_black",
    State.NEW: "bold yellow",
    State.KEPT: "",
    State.REMASKED: "bold red",
}


@dataclass(frozen=True)
class Cell:
    """A token's text and state."""

    text: str
    state: State


def cells(frame: Frame, tokenizer: Tokenizer, row: int = 0) -> list[Cell]:
    """One cell a token of a row."""
    length = int(frame.lengths[row])
    pieces = tokenizer.pieces(frame.tokens[row, :length].tolist(), MASK_MARK)
    states = frame.states[row, :length].tolist()
    return [Cell(printable(piece), State(state)) for piece, state in zip(pieces, states, strict=True)]


def printable(text: str) -> str:
    """Control characters as marks: a model may write any byte, and a terminal would obey it."""
    return "".join(character if character.isprintable() or character == "\n" else "\ufffd" for character in text)


def styled(frame: Frame, tokenizer: Tokenizer, row: int = 0) -> Text:
    """A row for the terminal."""
    text = Text()
    for cell in cells(frame, tokenizer, row):
        text.append(cell.text, STYLES[cell.state])
    return text


def wrapped(line_cells: Sequence[Cell], width: int) -> Iterator[list[Cell]]:
    """Cells broken into lines of at most `width` characters, at newlines and wherever a line is full."""
    line: list[Cell] = []
    used = 0
    for cell in line_cells:
        for number, part in enumerate(cell.text.split("\n")):
            if number:
                yield line
                line, used = [], 0
            while part:
                if used == width:
                    yield line
                    line, used = [], 0
                head, part = part[: width - used], part[width - used :]
                line.append(Cell(head, cell.state))
                used += len(head)
    yield line


def runs(line: Sequence[Cell]) -> list[Cell]:
    """Neighbours of one state as one cell."""
    groups = groupby(line, key=lambda cell: cell.state)
    return [Cell("".join(cell.text for cell in group), state) for state, group in groups]


def evenly(frames: Sequence[Frame], count: int) -> list[Frame]:
    """At most `count` frames, the first and the last among them."""
    if len(frames) <= count:
        return list(frames)
    return [frames[round(i * (len(frames) - 1) / (count - 1))] for i in range(count)]
