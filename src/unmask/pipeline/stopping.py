"""Where a text ends early: at an end-of-text token, or at a stop text."""

from dataclasses import dataclass

import torch

from unmask.text.tokenizer import Tokenizer
from unmask.types import Lengths, Positions, Tokens


@dataclass(frozen=True)
class Ending:
    """One row's ends; they count in its last hole, if nothing is given after it.

    Attributes:
        start: where that hole begins; None where text is given at the end.
        texts: stop texts.
        end_id: the end-of-text token; None to ignore it.
    """

    start: int | None
    texts: tuple[str, ...] = ()
    end_id: int | None = None


class Stopper:
    """Looks at what is settled from the left; a text ends when its end is among it, whatever else is open.

    Attributes:
        finished: "end" or "stop" for the rows that ended early.
    """

    def __init__(self, tokenizer: Tokenizer, endings: list[Ending]) -> None:
        self.tokenizer, self.endings = tokenizer, endings
        self.finished: dict[int, str] = {}

    def __call__(self, tokens: Tokens, masked: Positions, lengths: Lengths) -> Lengths:
        """The lengths at which the texts end."""
        inside = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
        # the first open position, or the end
        settled = torch.where(masked | ~inside, 0, 1).cumprod(-1).sum(-1).tolist()
        result = lengths.clone()
        for row, ending in enumerate(self.endings):
            if ending.start is None or row in self.finished or settled[row] <= ending.start:
                continue
            found = self._end(tokens[row, ending.start : settled[row]].tolist(), ending)
            if found is not None:
                self.finished[row] = found[1]
                result[row] = ending.start + found[0]
        return result

    def _end(self, ids: list[int], ending: Ending) -> tuple[int, str] | None:
        """How many tokens there are up to the end, and which kind of end it is."""
        size, reason = len(ids), ""
        if ending.end_id is not None and ending.end_id in ids:
            size, reason = ids.index(ending.end_id), "end"
        if any(stop in self.tokenizer.decode(ids[:size]) for stop in ending.texts):
            # the fewest tokens whose text has a stop in it: half a character is none
            texts = ((n, self.tokenizer.decode(ids[:n])) for n in range(1, size + 1))
            size = next(n for n, text in texts if any(stop in text for stop in ending.texts))
            reason = "stop"
        return (size, reason) if reason else None


def trimmed(text: str, stops: tuple[str, ...]) -> str:
    """The text before the first stop."""
    ends = [text.index(stop) for stop in stops if stop in text]
    return text[: min(ends)] if ends else text
