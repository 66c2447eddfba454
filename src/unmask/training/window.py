"""Metrics between two log lines: summed on the device, read once."""

import math
import time

import torch
from torch import Tensor

NOT_A_NUMBER = "{} is not a number: lower optim.lr or optim.muon_lr; the last checkpoint is good"


class Window:
    """Sums of metrics since the last log line, on the device, and the clock that goes with them."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.reset()

    def reset(self) -> None:
        """Start a new window."""
        self.sums: dict[str, Tensor] = {}
        self.steps, self.timed, self.seconds = 0, 0, 0.0
        self.clock = time.monotonic()

    def restart(self) -> None:
        """Leave the time since the last step out of the speed."""
        self.clock = time.monotonic()

    def add(self, metrics: dict[str, Tensor]) -> None:
        """One step."""
        for name, value in metrics.items():
            self.sums[name] = self.sums.get(name, torch.zeros((), device=self.device)) + value
        now = time.monotonic()
        self.seconds, self.clock, self.steps = self.seconds + now - self.clock, now, self.steps + 1

    def check(self) -> None:
        """Refuse to go on, or to save, with a loss that is not a number."""
        if self.steps and not math.isfinite(float(self.sums["loss"])):
            raise FloatingPointError(NOT_A_NUMBER.format("the loss"))

    def means(self, tokens: int) -> dict[str, float]:
        """Averages over the window, and a new window."""
        self.check()
        values = {name: float(value) / self.steps for name, value in self.sums.items()}
        # reading the sums waits for the device: that time belongs to the steps
        self.seconds += time.monotonic() - self.clock
        values["tokens_per_second"] = tokens * self.steps / max(self.seconds, 1e-9)
        values["seconds_per_step"] = self.seconds / self.steps
        self.reset()
        return values
