"""Sends what a scheduler does to a receiver of OpenTelemetry while it runs."""

from __future__ import annotations

import atexit
import logging
import os
import weakref
from collections import Counter
from typing import TYPE_CHECKING, Any, Self

from amltk import _extras
from amltk._process import clock
from amltk.scheduling.timeline.attempts import Attempts
from amltk.scheduling.timeline.telemetry.sender import Sender
from amltk.scheduling.timeline.telemetry.told import EndedCall, EndOfRun, Failure, Ids

if TYPE_CHECKING:
    from amltk.scheduling._journal.run_journal import RunJournal
    from amltk.scheduling._run.run import Run
    from amltk.scheduling.events import Subscription
    from amltk.scheduling.scheduler import Scheduler
    from amltk.scheduling.timeline.record import Record

_log = logging.getLogger(__name__)


class Levels:
    """What metrics are read from, on any thread.

    Args:
        scheduler: The scheduler.

    Attributes:
        ended: How many calls have ended, by task and outcome.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self.ended: Counter[tuple[str, str]] = Counter()

    def in_flight(self) -> int:
        """How many calls have not ended."""
        return self._scheduler.n_pending

    def waiting(self) -> int | None:
        """How many of them no worker has begun; None if the executor does not tell."""
        running = self._scheduler.running_calls()
        return None if running is None else max(0, self._scheduler.n_pending - len(running))


class Telemetry:
    """Sends the calls of a scheduler as spans, and their numbers as metrics, to a receiver of OpenTelemetry.

    ```python
    with Telemetry(scheduler, "http://localhost:4318"):
        scheduler.run()
    ```

    Create it before the run; it sends all runs of the scheduler, by OTLP over HTTP, which Jaeger, Grafana, the
    OpenTelemetry Collector and most others take. A call is sent within some seconds of its end, its run when that has
    ended. A run is never held up: another thread sends, and what a receiver does not take is dropped, after one
    warning in the log. At the end of the block, or else of the program, this waits until all is sent, but not for a
    receiver that takes nothing for 2 seconds.

    Each call is one span, from its submission to its end, a child of the span of its run, with links to the calls whose
    results it needed. It has the events `queued` and `started` for each attempt, `retried` for those that were not
    the last, and `exception` with the traceback. In a run with a journal, all sessions have one trace, and a call has
    the same span in any of them: what an earlier session has told is not sent again.

    The metrics are the counter `amltk.calls` by task and outcome, the gauges `amltk.calls.in_flight` and, where the
    executor tells, `amltk.calls.waiting`, and the histogram `amltk.call.duration`.

    Args:
        scheduler: The scheduler.
        endpoint: The address of the receiver, such as `"http://localhost:4318"`. None for what the environment
            says, in `OTEL_EXPORTER_OTLP_ENDPOINT` and the like, which is that one by default. The other variables of
            OpenTelemetry, for headers, certificates, or attributes of the resource, hold in either case.
        metrics: False for a receiver that takes spans only, such as Jaeger.
        service_name: What the receiver calls the program; None for `OTEL_SERVICE_NAME` or the name of its file.

    Raises:
        MissingExtraError: OpenTelemetry or its exporter is not installed.
        ValueError: `endpoint` does not begin with `http://` or `https://`.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        endpoint: str | None = None,
        *,
        metrics: bool = True,
        service_name: str | None = None,
    ) -> None:
        if endpoint is not None and not endpoint.startswith(("http://", "https://")):
            raise ValueError(
                f"endpoint={endpoint!r}: must begin with http:// or https://, such as 'http://localhost:4318'; it is"
                " the port for HTTP, not the one for gRPC"
            )
        otlp = _extras.load("amltk.scheduling.timeline.telemetry.otlp", needs="opentelemetry", extra="otel")
        self._scheduler = scheduler
        self._levels = Levels(scheduler)
        self._receiver: Any = otlp.Receiver(endpoint, metrics=metrics, service_name=service_name, levels=self._levels)
        self._name = endpoint or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318")
        self._earlier: dict[int, list[Record]] = {}  # of calls that have not ended
        self._sender: Sender | None = None  # of the run in progress
        self._run: weakref.ref[Run] | None = None  # which that is
        self._senders: list[Sender] = []  # that may have something left to send
        scheduler.observers.append(self._begin)  # a callback of @start may submit before ours is called
        self._attempts = Attempts(scheduler, self._keep)
        self._subscriptions: list[Subscription] = [
            scheduler.on_start.register(self._begin, hidden=True),
            scheduler.on_finished.register(self._finish, hidden=True),
        ]
        _open.add(self)

    def close(self) -> None:
        """Send nothing of later runs, and wait until the rest is sent, as the class says. Harmless if repeated."""
        if self._begin in self._scheduler.observers:
            self._scheduler.observers.remove(self._begin)
        self._attempts.close()
        for subscription in self._subscriptions:
            subscription.end()
        self._end_sender(None)
        if self in _open:
            _open.discard(self)
            for sender in self._senders:
                sender.wait()
            self._receiver.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------ what happens, on the loop's thread

    def _begin(self, *_: Any) -> None:
        """Begin a run, unless that was done."""
        run = self._scheduler.current_run
        if self._run is not None and self._run() is run:
            return
        self._end_sender(None)  # of a run that was aborted
        self._run = weakref.ref(run)
        journal = _journal_of(run)
        ids = Ids(os.urandom(16), joins=True) if journal is None else Ids(journal.seed.to_bytes(8, "big"), joins=False)
        span = self._receiver.begin_run(clock.now(), ids)
        self._senders = [sender for sender in self._senders if sender.is_alive()]
        try:
            self._sender = Sender(self._receiver, span, self._name)
        except RuntimeError as error:  # no more threads are allowed; the run goes on
            _log.warning("nothing of this run is sent to %s: %s", self._name, error)
            return
        self._senders.append(self._sender)

    def _finish(self) -> None:
        cause = self._scheduler.current_run.lifecycle.cause
        self._end_sender(EndOfRun(clock.now(), cause.code.name, cause.reason))

    def _end_sender(self, end: EndOfRun | None) -> None:
        sender, self._sender = self._sender, None
        self._earlier.clear()
        if sender is not None:
            sender.finish(end)

    def _keep(self, record: Record, error: BaseException | None) -> None:
        journal = _journal_of(self._scheduler.current_run)
        if journal is not None and (journal.replaying or not journal.recording):  # of an earlier or of a later session
            self._earlier.pop(record.call, None)
        elif record.outcome == "retried":
            self._earlier.setdefault(record.call, []).append(record)
        else:
            self._levels.ended[record.function, record.outcome] += 1
            earlier = tuple(self._earlier.pop(record.call, ()))
            failure = None if error is None else Failure.of(error)
            if self._sender is not None:
                self._sender.put(EndedCall(record, earlier, failure))


def _journal_of(run: Run) -> RunJournal | None:
    """The journal of a run; None if it has none."""
    if not run.is_recorded:
        return None
    from amltk.scheduling._run.journaled.run import JournaledRun  # few programs need it

    assert isinstance(run, JournaledRun)
    return run.journal


_open: weakref.WeakSet[Telemetry] = weakref.WeakSet()
"""What is to be closed at the end of the program."""


@atexit.register
def close_all() -> None:
    """Close what is open."""
    for telemetry in list(_open):
        telemetry.close()


os.register_at_fork(after_in_child=_open.clear)
