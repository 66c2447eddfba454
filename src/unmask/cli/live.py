"""A canvas denoising in the terminal."""

import sys
import time
from collections.abc import Iterable

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from unmask.analysis.canvas import styled
from unmask.sampling.frame import Frame, State
from unmask.text.tokenizer import Tokenizer


def watch(frames: Iterable[Frame], tokenizer: Tokenizer, *, seconds: float = 0.06) -> list[Frame]:
    """Show the first row of each frame for at least `seconds`, on stderr; without a terminal, show nothing."""
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        return list(frames)
    seen: list[Frame] = []
    with Live(console=console, auto_refresh=False) as live:
        for frame in frames:
            began = time.monotonic()
            seen.append(frame)
            live.update(panel(frame, tokenizer), refresh=True)
            time.sleep(max(0.0, seconds - (time.monotonic() - began)))
    return seen


def panel(frame: Frame, tokenizer: Tokenizer) -> Panel:
    """The canvas with its step, open positions and forward passes."""
    states = frame.states[0, : int(frame.lengths[0])]
    left = int(((states == State.MASKED) | (states == State.REMASKED)).sum())
    foot = Text(f"step {frame.step}  masked {left}  forward passes {int(frame.nfe[0])}", style="dim")
    return Panel(Group(styled(frame, tokenizer), Text(), foot), border_style="dim", padding=(1, 2))
