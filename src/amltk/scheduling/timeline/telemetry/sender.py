"""Sends what a run tells, in a thread of its own."""

from __future__ import annotations

import logging
from collections import deque
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from amltk._notes import safe_repr

if TYPE_CHECKING:
    from amltk.scheduling.timeline.telemetry.told import EndedCall, EndOfRun

_log = logging.getLogger(__name__)

INTERVAL = 2.0
"""How many seconds pass between two times at which something is sent."""

BATCH = 512
"""How many calls are sent at once."""

MOST_QUEUED = 100_000
"""How many ended calls wait to be sent, at most; then the oldest are dropped."""

PATIENCE = 2.0
"""How many seconds the end of a program waits for a receiver that takes nothing."""


class Sender:
    """Sends the calls of one run as they end, then the run itself. The thread ends when all is sent.

    Args:
        receiver: Where to, an `otlp.Receiver`.
        run: The run, an `otlp.RunSpan`.
        name: What the receiver is called in the log.
    """

    def __init__(self, receiver: Any, run: Any, name: str) -> None:
        self._receiver = receiver
        self._run = run
        self._name = name
        self._calls: deque[EndedCall] = deque(maxlen=MOST_QUEUED)
        self._end: EndOfRun | None = None
        self._is_ending = Event()
        self._has_complained = False
        self._n_sent = 0
        self._thread = Thread(target=self._work, name="amltk-telemetry", daemon=True)
        self._thread.start()

    def put(self, call: EndedCall) -> None:
        """Send a call soon. On the loop's thread."""
        self._calls.append(call)

    def finish(self, end: EndOfRun | None) -> None:
        """Send what is left, and the run, at once. None: it is not known how the run ended. Harmless if repeated."""
        if not self._is_ending.is_set():
            self._end = end
            self._is_ending.set()

    def is_alive(self) -> bool:
        """Whether there is something left to send."""
        return self._thread.is_alive()

    def wait(self) -> bool:
        """Wait until all is sent. Return False if the receiver took nothing for `PATIENCE` seconds."""
        while self._thread.is_alive():
            before = self._n_sent
            self._thread.join(PATIENCE)
            if self._n_sent == before and self._thread.is_alive():
                self._complain(f"no answer for {PATIENCE:g} seconds")
                return False
        return True

    # ------------------------------------------------------------------ in the thread

    def _work(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._is_ending.wait(INTERVAL)
            try:
                self._send(is_last=is_last)
            except Exception as error:  # noqa: BLE001 - of the library; it must not end the thread without a word
                self._complain(safe_repr(error))

    def _send(self, *, is_last: bool) -> None:
        while self._calls:
            batch = [self._calls.popleft() for _ in range(min(BATCH, len(self._calls)))]
            if not self._count(self._receiver.send_calls(self._run, batch, self._complain)):
                break
        if is_last and self._end is not None:
            self._receiver.end_run(self._run, self._end)
            self._count(self._receiver.send_calls(self._run, (), self._complain))
        self._count(self._receiver.send_metrics(self._complain))

    def _count(self, was_taken: bool) -> bool:
        self._n_sent += was_taken
        return was_taken

    def _complain(self, problem: str) -> None:
        if not self._has_complained:
            self._has_complained = True
            _log.warning("%s does not take what a run tells it, which is dropped: %s", self._name, problem)
