"""How Ray is initialised, once for all executors of a process."""

from __future__ import annotations

import logging
import socket
import threading
from typing import TYPE_CHECKING, Any

import ray

from amltk.exceptions import ExecutorBrokenError
from amltk.scheduling.executors.remote.signal_handlers import kept_handlers

if TYPE_CHECKING:
    from collections.abc import Callable

ANSWER_SECONDS = 10.0
"""How many seconds the machine of a given address has to answer."""


class _Started:
    """The Ray of this process, of which there can be only one; the last executor that uses it shuts it down."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._init: dict[str, Any] = {}

    @property
    def is_used(self) -> bool:
        """Whether an executor uses a Ray that one of them has initialised."""
        return self._users > 0

    def acquire(self, init: dict[str, Any]) -> Callable[[], None]:
        """Initialise Ray if necessary; returns a function to call when it is no longer needed.

        Raises:
            ValueError: Ray was already initialised, with other arguments.
        """
        with self._lock:
            if self._users == 0 and ray.is_initialized():  # initialised by the user: it stays
                self._check(init, {})
                return lambda: None
            if self._users:
                self._check(init, self._init)
            else:
                _init(**init)
                self._init = init
            self._users += 1
            return self._release

    def _release(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                ray.shutdown()

    @staticmethod
    def _check(init: dict[str, Any], present: dict[str, Any]) -> None:
        if init and init != present:
            raise ValueError(
                f"{', '.join(init)}: Ray was already initialised, with other arguments; leave these out, or call"
                " ray.shutdown() first"
            )


started: _Started = _Started()


def _init(**init: Any) -> None:
    """Initialise Ray and restore the signal handlers: Ray's own would exit at once, before the run can end."""
    init = {"log_to_driver": False, "logging_level": logging.WARNING, **init}
    if "address" not in init:
        init = {"include_dashboard": False, **init}  # only valid for a Ray that is started here
    try:
        with kept_handlers():
            ray.init(**init)
    except ConnectionError as error:
        raise _no_answer(str(init.get("address")), error) from error


def check_answer(address: str) -> None:
    """Raise if nothing listens at an address: Ray itself would try for several minutes.

    Raises:
        ExecutorBrokenError: Nothing does.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        return  # "auto", "local"
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS):
            pass
    except OSError as error:
        raise _no_answer(address, error) from error


def _no_answer(address: str, error: OSError) -> ExecutorBrokenError:
    return ExecutorBrokenError(
        f"no Ray answers at {address!r}: {error}; is it running (`ray start --head`), is the address right, and may"
        " this machine connect to it?"
    )
