"""Threads that may not be to be had."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def start_daemon(work: Callable[[], None], name: str) -> threading.Thread | None:
    """Do something in a thread that does not keep the program from ending.

    Returns:
        The thread. None if there can be none: the limit of threads is reached, or this is an interpreter beside the
        main one, which is allowed no such threads.
    """
    try:
        thread = threading.Thread(target=work, name=name, daemon=True)
        thread.start()
    except RuntimeError:
        return None
    return thread
