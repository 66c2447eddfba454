"""What watches a run: the metrics file and the progress bar. A callback sees numbers, never the trainer."""

import json
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from unmask.analysis.metrics import metric_rows
from unmask.evaluation.likelihood import Likelihood


class Callback:
    """Does nothing; override what is of interest."""

    def started(self, step: int, steps: int, facts: dict[str, Any]) -> None:
        """Training begins, or goes on, at `step`; `facts` names parameters, tokens, device and precision."""

    def logged(self, step: int, metrics: dict[str, float]) -> None:
        """Averages since the last call."""

    def evaluated(self, step: int, likelihood: Likelihood) -> None:
        """A validation."""

    def saved(self, step: int, folder: Path) -> None:
        """A checkpoint."""

    def finished(self, step: int) -> None:
        """Training ended, completed or not."""


class MetricsFile(Callback):
    """One JSON object a line in metrics.jsonl; a resumed run drops the lines that are about to be made again."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def started(self, step: int, steps: int, facts: dict[str, Any]) -> None:
        """Keep what lies before `step`."""
        if self.path.is_file():
            kept = [json.dumps(row) + "\n" for row in metric_rows(self.path) if row["step"] <= step]
            self.path.write_text("".join(kept) if step else "", "utf-8")

    def logged(self, step: int, metrics: dict[str, float]) -> None:
        """A training line."""
        self._append({"phase": "train", "step": step, **metrics})

    def evaluated(self, step: int, likelihood: Likelihood) -> None:
        """A validation line."""
        self._append({"phase": "val", "step": step, **likelihood.to_dict()})

    def _append(self, row: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


WATCHED_FROM = 100
COLLAPSED = {"thought_rank": 1.5, "thought_spread": 0.05}


def collapse(metrics: dict[str, float]) -> str | None:
    """What to say when thoughts have become one: they differ in hardly a direction, or by hardly anything."""
    low = [f"{name} {metrics[name]:.2f}" for name, least in COLLAPSED.items() if metrics.get(name, least) < least]
    if not low:
        return None
    return f"thoughts are collapsing ({', '.join(low)}): raise thinking.diversity, or lower thinking.consistency"


class ProgressBar(Callback):
    """Loss, bound in bits a byte, tokens a second and time left; plain lines where there is no terminal."""

    def __init__(self, stream: TextIO | None = None, plain_every: float = 15.0) -> None:
        self.console = Console(file=stream or sys.stderr, highlight=False)
        self.plain_every = plain_every
        self.last_line = 0.0
        self.steps = 0
        self.warned = False
        self.progress: Progress | None = None
        self.task = TaskID(0)

    def started(self, step: int, steps: int, facts: dict[str, Any]) -> None:
        """Say what is trained, and draw the bar."""
        self.steps = steps
        self.console.print("  ".join(f"{name} [bold]{value}[/bold]" for name, value in facts.items()))
        if self.console.is_terminal:
            self.progress = Progress(
                TextColumn("training"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[numbers]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=self.console,
            )
            self.task = self.progress.add_task("training", total=steps, completed=step, numbers="")
            self.progress.start()

    def logged(self, step: int, metrics: dict[str, float]) -> None:
        """Move the bar."""
        bound = (
            f"{metrics['bits_per_byte']:.3f} bits/byte"
            if "bits_per_byte" in metrics
            else f"{metrics['nelbo']:.3f} nats"
        )
        warning = None if self.warned or step < WATCHED_FROM else collapse(metrics)
        if warning:
            self.warned = True
            self.console.print(f"step {step}: {warning}")
        numbers = f"loss {metrics['loss']:.3f}  bound {bound}  {metrics['tokens_per_second']:,.0f} tokens/s"
        if self.progress is not None:
            self.progress.update(self.task, completed=step, numbers=numbers)
        elif time.monotonic() - self.last_line >= self.plain_every or step == self.steps:
            self.last_line = time.monotonic()
            left = (self.steps - step) * metrics["seconds_per_step"]
            self.console.print(f"step {step}/{self.steps}  {numbers}  {left:.0f} s left")

    def evaluated(self, step: int, likelihood: Likelihood) -> None:
        """A line above the bar."""
        bits = f" = {likelihood.bits_per_byte.mean:.3f} bits/byte" if likelihood.bits_per_byte else ""
        self.console.print(f"step {step}: validation bound {likelihood.nelbo} nats/token{bits}")

    def finished(self, step: int) -> None:
        """Take the bar down."""
        if self.progress is not None:
            self.progress.stop()
            self.progress = None
