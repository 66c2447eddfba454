"""Ctrl-C and SIGTERM as a wish to stop, not as an exception."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def on_stop_signal(stop: Callable[[], bool]) -> Iterator[None]:
    """Call `stop` at the first signal; at a second one, when it says that it was asked before, end at once."""

    def ask(number: int, frame: FrameType | None) -> None:
        if stop():
            raise KeyboardInterrupt

    try:
        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread, where signals do not arrive
        before = {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
