"""Protects signal handlers: libraries install their own, although a run needs to end in order."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def kept_handlers() -> Iterator[None]:
    """On exit, restore the handlers of Ctrl-C and SIGTERM."""
    before = {signum: signal.getsignal(signum) for signum in SIGNALS}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():  # only the main thread can set handlers
            for signum, handler in before.items():
                if handler is not None:  # None means it was not set from Python
                    signal.signal(signum, handler)
