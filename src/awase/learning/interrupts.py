"""A polite stop: Ctrl-C or a scheduler's SIGTERM is noted and obeyed when there is something whole to leave behind; a
second Ctrl-C stops at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interrupts_noted(wanted: bool = True) -> Iterator[Callable[[], bool]]:
    """While this lasts, the call given tells whether a stop was asked for. Only the main thread hears signals."""
    heard: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if heard:
            raise KeyboardInterrupt
        heard.append(number)

    if not wanted or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(heard)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
