"""Ctrl-C and SIGTERM: whole programs get real signals at the points that the test chooses."""

from __future__ import annotations

import asyncio
import signal
import socket
import textwrap
import threading
from signal import SIGINT, SIGTERM
from typing import TYPE_CHECKING, Any

import pytest

from amltk.scheduling import ExitState, Scheduler, SequentialExecutor
from amltk.testing import EventRecorder
from tests.helpers.gate import GUARD, Gate, pass_gate
from tests.helpers.script import Script

if TYPE_CHECKING:
    from tests.helpers.script import Ended

# What each program starts with. Nothing here ends by itself: a test that waits for a call would time out.
PREPARATION = """
import asyncio, os, signal, sys, threading, time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from amltk.scheduling import Scheduler

def say(*words):
    os.write(1, (" ".join(map(str, words)) + chr(10)).encode())

def tell_events(scheduler, name=""):
    for event in scheduler.emitter.events:
        scheduler.emitter.register(event, lambda *_, event=event.name: say(f"{name}@{event}"))
    return scheduler

def for_ever():
    say("computing")
    while True:
        while True:
            time.sleep(0.01)  # a signal that arrives right before a system call is noticed after it

"""

CANCELLED = ["@future-cancelled"]


def program(text: str) -> str:
    """Return a program that begins with the preparation above."""
    return PREPARATION + textwrap.dedent(text)


def assert_in_order(
    ended: Ended, *, told: list[str], before: tuple[str, ...] = ("@start", "@future-submitted")
) -> None:
    """Check the events of a run that was interrupted while one call was running: `told` is the ending of the call."""
    events = [line for line in ended.lines if line.startswith("@")]
    assert events == [*before, "@stop", "@finishing", *told, "@finished"]


# ---------------------------------------------------------------------------------------------------- running compute


@pytest.mark.parametrize("to_all", [False, True], ids=["to the parent", "to the group"])
@pytest.mark.parametrize("wait", [True, False])
@pytest.mark.parametrize(
    "expression",
    ["Scheduler.with_processes(2)", "Scheduler(ProcessPoolExecutor(2, mp_context=get_context('fork')))"],
    ids=["processes", "given-process-pool"],
)
def test_ctrl_c_during_compute(expression: str, wait: bool, to_all: bool) -> None:
    """Ctrl-C ends the run in order and at once, then surfaces: one traceback, the exit code of SIGINT, no orphan."""
    with Script(
        program(f"""
        scheduler = tell_events({expression})
        scheduler.on_start(lambda: scheduler.submit(for_ever))
        scheduler.run(wait={wait})
        say("not reached")
        """)
    ) as script:
        script.wait_for("computing", "@future-submitted")
        (script.send_to_all if to_all else script.send)(SIGINT)
        ended = script.end()
    assert_in_order(ended, told=CANCELLED)
    assert "not reached" not in ended.lines
    assert ended.code == -SIGINT
    assert ended.errors.count("Traceback") == 1
    assert "KeyboardInterrupt\n" in ended.errors


@pytest.mark.parametrize("to_all", [False, True], ids=["to the parent", "to the group"])
@pytest.mark.parametrize(
    "expression",
    ["Scheduler.with_processes(2)", "Scheduler(ProcessPoolExecutor(2, mp_context=get_context('fork')))"],
    ids=["processes", "given-process-pool"],
)
def test_sigterm_during_compute(expression: str, to_all: bool) -> None:
    """SIGTERM ends the run in order, and then the process as SIGTERM does: without output, without orphans."""
    with Script(
        program(f"""
        scheduler = tell_events({expression})
        scheduler.on_start(lambda: scheduler.submit(for_ever))
        scheduler.run(on_exception="continue")
        say("not reached")
        """)
    ) as script:
        script.wait_for("computing", "@future-submitted")
        (script.send_to_all if to_all else script.send)(SIGTERM)
        ended = script.end()
    told = ["@future-done", "@future-exception"] if to_all and "@future-done" in ended.lines else CANCELLED
    if to_all:  # the worker may have died of its own signal, and that may have been seen first
        ended.lines.sort(key=lambda line: line in told)
        ended.lines.sort(key=lambda line: line == "@finished")
    assert_in_order(ended, told=told)
    assert (ended.code, ended.errors) == (-SIGTERM, "")


def test_ctrl_c_can_be_caught() -> None:
    """`KeyboardInterrupt` leaves `run` once everything is over; the program continues, and may run again."""
    with Script(
        program("""
        scheduler = tell_events(Scheduler.with_processes(1))
        scheduler.on_start(lambda: scheduler.submit(for_ever), max_calls=1)
        scheduler.on_start(lambda: scheduler.stop() if scheduler.event_counts[scheduler.STARTED] == 2 else None)
        try:
            scheduler.run(on_exception="continue")
        except KeyboardInterrupt as interrupt:
            say("caught", scheduler.running(), scheduler.empty())
        say(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
        say(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
        say(scheduler.run().code.name)
        say("waiting")
        while True:
            time.sleep(0.01)  # a signal that arrives right before a system call is noticed after it
        """)
    ) as script:
        script.wait_for("computing", "@future-submitted")
        script.send(SIGINT)
        script.wait_for("waiting")
        script.send(SIGINT)  # outside a run, Python's own handling applies
        ended = script.end()
    tail = ended.lines[ended.lines.index("@finished") + 1 :]
    assert tail == [
        "caught False True",
        "True",
        "True",
        "@start",
        "@stop",
        "@finishing",
        "@finished",
        "STOPPED",
        "waiting",
    ]
    assert ended.code == -SIGINT


def test_ctrl_c_on_threads() -> None:
    """Threads cannot be killed, but Ctrl-C surfaces at once, and their calls are reported as cancelled."""
    with Script(
        program("""
        over = threading.Event()
        def work():
            say("computing")
            over.wait()
        scheduler = tell_events(Scheduler.with_threads(1))
        scheduler.on_start(lambda: scheduler.submit(work))
        try:
            scheduler.run()
        except KeyboardInterrupt:
            say("caught")
            over.set()
        """)
    ) as script:
        script.wait_for("computing", "@future-submitted")
        script.send(SIGINT)
        ended = script.end()
    assert_in_order(ended, told=CANCELLED)
    assert ended.lines[-1] == "caught"
    assert ended.code == 0
    assert "cannot be killed" in ended.errors


# ------------------------------------------------------------------------------------------------- in the user's code


@pytest.mark.parametrize(("signum", "code"), [(SIGINT, -SIGINT), (SIGTERM, -SIGTERM)], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize(
    "where",
    [
        "scheduler.on_start(block)",
        "scheduler.on_future_submitted(block)",
        "scheduler.on_start(lambda: scheduler.call_later(0, block))",
        "scheduler.on_start(block_in_a_coroutine)",
        "scheduler.on_start(block_after_a_turn)",
        "scheduler.on_start(repeat=1, every=1)(block)",
        "scheduler.on_start(when=lambda: block() or True)(print)",
    ],
    ids=["start", "submitted", "call_later", "async", "async later", "with options", "when"],
)
def test_a_signal_in_a_blocking_callback(where: str, signum: signal.Signals, code: int) -> None:
    """A callback that blocks forever is interrupted where it is; running calls are killed, and the order is kept."""
    with Script(
        program(f"""
        def block(*_):
            say("blocking")
            while True:
                time.sleep(0.01)  # a signal that arrives right before a system call is noticed after it

        async def block_in_a_coroutine():
            block()

        async def block_after_a_turn():
            await asyncio.sleep(0)
            block()

        scheduler = tell_events(Scheduler.with_processes(1))
        scheduler.on_start(lambda: scheduler.submit(for_ever))
        {where}
        scheduler.run(on_exception="continue")
        """)
    ) as script:
        script.wait_for("blocking")
        script.send(signum)
        ended = script.end()
    events = [line for line in ended.lines if line.startswith("@")]
    assert events[:2] == ["@start", "@future-submitted"]
    assert events[2:4] == ["@stop", "@finishing"]
    assert events[4:-1] == CANCELLED  # whether it had begun or not
    assert events[-1] == "@finished"
    assert ended.code == code
    assert ended.errors.count("Traceback") == (1 if signum is SIGINT else 0)


def test_ctrl_c_that_a_callback_catches() -> None:
    """A callback may catch the `KeyboardInterrupt` that interrupts it; then the run continues."""
    with Script(
        program("""
        def block():
            try:
                say("blocking")
                while True:
                    time.sleep(0.01)  # a signal that arrives right before a system call is noticed after it
            except KeyboardInterrupt:
                say("skipped")

        scheduler = tell_events(Scheduler.with_sequential())
        scheduler.on_start(block)
        say(scheduler.run().code.name)
        """)
    ) as script:
        script.wait_for("blocking")
        script.send(SIGINT)
        ended = script.end()
    assert ended.lines == ["@start", "blocking", "skipped", "@empty", "@finishing", "@finished", "EXHAUSTED"]
    assert (ended.code, ended.errors) == (0, "")


@pytest.mark.parametrize(("signum", "code"), [(SIGINT, -SIGINT), (SIGTERM, -SIGTERM)], ids=["SIGINT", "SIGTERM"])
def test_a_signal_in_sequential_compute(signum: signal.Signals, code: int) -> None:
    """A call on the loop's own thread is interrupted, and is reported as cancelled, like all waiting calls."""
    with Script(
        program("""
        scheduler = tell_events(Scheduler.with_sequential())
        scheduler.on_start(lambda: [scheduler.submit(for_ever) for _ in range(3)])
        scheduler.run(on_exception="continue")
        """)
    ) as script:
        script.wait_for("computing")
        script.send(signum)
        ended = script.end()
    events = [line for line in ended.lines if line.startswith("@")]
    assert events == [
        *("@start", "@future-submitted", "@future-submitted", "@future-submitted"),
        *("@future-cancelled", "@stop", "@finishing", "@future-cancelled", "@future-cancelled"),
        "@finished",
    ]
    assert ended.lines.count("computing") == 1
    assert ended.code == code


# ------------------------------------------------------------------------------------------- while the run is ending


@pytest.mark.parametrize(("signum", "code"), [(SIGINT, -SIGINT), (SIGTERM, -SIGTERM)], ids=["SIGINT", "SIGTERM"])
def test_a_signal_while_the_run_drains(signum: signal.Signals, code: int) -> None:
    """A run waiting for running calls stops waiting; `@stop` and `@finishing` are not emitted again."""
    with Script(
        program("""
        reader, writer = os.pipe()

        def compute():
            os.write(writer, b"x")
            for_ever()

        scheduler = tell_events(Scheduler.with_processes(1, mp_context="fork"))
        scheduler.on_start(lambda: scheduler.submit(compute))
        scheduler.on_finishing(lambda: say("draining"))
        threading.Thread(target=lambda: (os.read(reader, 1), scheduler.call_later(0, scheduler.stop))).start()
        scheduler.run()
        """)
    ) as script:
        script.wait_for("draining")
        script.send(signum)
        ended = script.end()
    assert_in_order(ended, told=CANCELLED)
    assert ended.code == code


def test_ctrl_c_in_the_last_callback() -> None:
    """Ctrl-C in a callback of `@finished` also surfaces; no event is emitted a second time."""
    with Script(
        program("""
        def block():
            say("blocking")
            while True:
                time.sleep(0.01)  # a signal that arrives right before a system call is noticed after it

        scheduler = tell_events(Scheduler.with_processes(1))
        scheduler.on_finished(block)
        scheduler.run()
        """)
    ) as script:
        script.wait_for("blocking")
        script.send(SIGINT)
        ended = script.end()
    assert [line for line in ended.lines if line.startswith("@")] == ["@start", "@empty", "@finishing", "@finished"]
    assert ended.code == -SIGINT


def test_a_second_ctrl_c_while_a_strategy_hangs() -> None:
    """If the user's strategy hangs, the first Ctrl-C ends the run in order, and the second one stops the wait.

    This holds only for `run()`: in `asyncio.run`, the second Ctrl-C raises wherever the loop is, even mid-step.
    """
    with Script(
        program("""
        def hang(executor):
            loop.call_soon_threadsafe(say, "hanging")
            threading.Event().wait()

        def note_loop():
            global loop
            loop = asyncio.get_running_loop()

        executor = ProcessPoolExecutor(1)
        scheduler = tell_events(Scheduler(executor, terminate=hang))
        scheduler.on_start(note_loop)
        scheduler.on_start(lambda: scheduler.submit(for_ever))
        try:
            scheduler.run()
        except KeyboardInterrupt:
            say("caught")
        for process in executor._processes.values():
            process.kill()
        """)
    ) as script:
        script.wait_for("computing", "@future-submitted")
        script.send(SIGINT)
        script.wait_for("hanging")
        script.send(SIGINT)
        ended = script.end()
    assert_in_order(ended, told=CANCELLED)
    assert "caught" in ended.lines
    assert ended.code == 0
    assert "Traceback" not in ended.errors


# ------------------------------------------------------------------------------------------------------ the user's own


def test_the_users_handlers_are_left_alone() -> None:
    """Handlers that the program has installed stay in force during a run and afterwards."""
    with Script(
        program("""
        def handle(signum, frame):
            say("handled", signal.Signals(signum).name)
            if signum == signal.SIGTERM:
                scheduler.stop(stop_msg="the user says so")

        signal.signal(signal.SIGINT, handle)
        signal.signal(signal.SIGTERM, handle)
        scheduler = tell_events(Scheduler.with_processes(1))
        scheduler.on_start(lambda: scheduler.submit(for_ever))
        say(scheduler.run(wait=False).code.name)
        say(signal.getsignal(signal.SIGINT) is handle, signal.getsignal(signal.SIGTERM) is handle)
        """)
    ) as script:
        script.wait_for("computing", "@future-submitted")
        script.send(SIGINT)
        script.wait_for("handled SIGINT")
        script.send(SIGTERM)
        ended = script.end()
    assert_in_order(ended, told=CANCELLED)
    assert ended.lines[-2:] == ["STOPPED", "True True"]
    assert (ended.code, ended.errors) == (0, "")


def test_an_ignored_signal_stays_ignored() -> None:
    """A program that was started with SIGINT ignored, as by `nohup` or in a shell's background, ignores it."""
    with Script(
        program("""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        scheduler = tell_events(Scheduler.with_processes(1))
        scheduler.on_start(lambda: scheduler.submit(for_ever))
        scheduler.run()
        """)
    ) as script:
        script.wait_for("computing", "@future-submitted")
        script.send_to_all(SIGINT)
        script.send(SIGTERM)
        ended = script.end()
    assert_in_order(ended, told=CANCELLED)
    assert ended.code == -SIGTERM


@pytest.mark.parametrize("error", ["TimeoutError", "KeyboardInterrupt", "SystemExit", "MyExit"])
def test_a_handler_of_the_users_that_raises(error: str) -> None:
    """An exception raised by the program's own handler ends the run in order, and surfaces from it."""
    with Script(
        program(f"""
        class MyExit(BaseException):
            pass

        def alarm(signum, frame):
            raise {error}("time is up")

        signal.signal(signal.SIGUSR1, alarm)
        scheduler = tell_events(Scheduler.with_processes(1))
        scheduler.on_start(lambda: scheduler.submit(for_ever))
        try:
            scheduler.run(wait=False)
        except {error} as error:
            say("caught", error)
        """)
    ) as script:
        script.wait_for("computing", "@future-submitted")
        script.send(signal.SIGUSR1)
        ended = script.end()
    assert_in_order(ended, told=CANCELLED)
    assert ended.lines[-1] == "caught time is up"
    assert (ended.code, ended.errors) == (0, "")


# ----------------------------------------------------------------------------------------------- other surroundings


def test_ctrl_c_with_the_run_in_another_thread() -> None:
    """A run in a thread leaves the signals alone: Ctrl-C is raised in the main thread, which may stop the run."""
    with Script(
        program("""
        scheduler = tell_events(Scheduler.with_processes(1))
        scheduler.on_start(lambda: scheduler.submit(for_ever))
        over = threading.Event()
        def run():
            say(scheduler.run(wait=False).code.name)
            over.set()
        threading.Thread(target=run).start()
        try:
            over.wait()
        except KeyboardInterrupt:
            say("caught")
            scheduler.stop()
            over.wait()
        """)
    ) as script:
        script.wait_for("computing", "@future-submitted")
        script.send_to_all(SIGINT)
        ended = script.end()
    assert_in_order(ended, told=CANCELLED)
    assert ended.lines[-1] == "STOPPED"
    assert "caught" in ended.lines
    assert (ended.code, ended.errors) == (0, "")


@pytest.mark.parametrize("to_all", [False, True], ids=["to the parent", "to the group"])
@pytest.mark.parametrize(
    "expression", ["Scheduler.with_processes(1)", "Scheduler(ProcessPoolExecutor(1))"], ids=["made", "given"]
)
def test_ctrl_c_under_asyncio_run(expression: str, to_all: bool) -> None:
    """`asyncio.run` turns Ctrl-C into a cancellation: the run ends in order, the rest of the coroutine is skipped."""
    with Script(
        program(f"""
        async def main():
            try:
                await scheduler.async_run()
            finally:
                say("left")

        scheduler = tell_events({expression})
        scheduler.on_start(lambda: scheduler.submit(for_ever))
        asyncio.run(main())
        """)
    ) as script:
        script.wait_for("computing", "@future-submitted")
        (script.send_to_all if to_all else script.send)(SIGINT)
        ended = script.end()
    assert_in_order(ended, told=CANCELLED)
    assert ended.lines[-1] == "left"
    assert ended.code == -SIGINT
    assert "KeyboardInterrupt\n" in ended.errors
    assert "Process" not in ended.errors.replace("ProcessPool", "")


def test_sigterm_under_asyncio_run() -> None:
    """SIGTERM ends every run of the loop in order before it ends the process."""
    with Script(
        program("""
        async def main():
            await asyncio.gather(*(scheduler.async_run() for scheduler in schedulers))

        schedulers = [tell_events(Scheduler.with_processes(1), name) for name in "ab"]
        for scheduler in schedulers:
            scheduler.on_start(lambda scheduler=scheduler: scheduler.submit(for_ever))
        asyncio.run(main())
        """)
    ) as script:
        script.wait_for("computing", "computing", "a@future-submitted", "b@future-submitted")
        script.send(SIGTERM)
        ended = script.end()
    for name in "ab":
        events = [line.removeprefix(name) for line in ended.lines if line.startswith(f"{name}@")]
        assert events == ["@start", "@future-submitted", "@stop", "@finishing", *CANCELLED, "@finished"]
    assert (ended.code, ended.errors) == (-SIGTERM, "")


@pytest.mark.parametrize(("signum", "code"), [(SIGINT, -SIGINT), (SIGTERM, -SIGTERM)], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("wait", [True, False])
def test_a_signal_in_a_run_inside_a_callback_of_another(wait: bool, signum: signal.Signals, code: int) -> None:
    """The inner run ends in order first, then the outer one: no worker of either is left."""
    with Script(
        program(f"""
        inner = tell_events(Scheduler.with_processes(1), "inner")
        inner.on_start(lambda: inner.submit(for_ever))
        outer = tell_events(Scheduler.with_processes(1), "outer")
        outer.on_start(lambda: outer.submit(for_ever))
        outer.on_start(lambda: inner.run(wait={wait}))
        outer.run(wait={wait}, on_exception="continue")
        """)
    ) as script:
        script.wait_for("computing", "computing", "inner@future-submitted")
        script.send(signum)
        ended = script.end()
    events = [line for line in ended.lines if "@" in line]
    order = ["@start", "@future-submitted", "@stop", "@finishing", *CANCELLED, "@finished"]
    assert [event.removeprefix("inner") for event in events if event.startswith("inner")] == order
    assert [event.removeprefix("outer") for event in events if event.startswith("outer")] == order
    assert events.index("inner@finished") < events.index("outer@stop")
    assert ended.code == code
    assert ended.errors.count("\nKeyboardInterrupt") == (1 if signum is SIGINT else 0)


@pytest.mark.parametrize("ends", ["main returns", "main raises"])
def test_the_loop_is_closed_around_a_run(ends: str) -> None:
    """When `main` ends and `asyncio.run` cancels a background run, the run ends in order, without orphans."""
    with Script(
        program(f"""
        async def main():
            background = asyncio.create_task(scheduler.async_run())
            await computing.wait()
            if {ends == "main raises"}:
                raise LookupError("main")

        scheduler = tell_events(Scheduler.with_processes(1, mp_context="fork"))
        reader, writer = os.pipe()

        def compute():
            os.write(writer, b"x")
            for_ever()

        @scheduler.on_start
        def launch():
            scheduler.submit(compute)
            asyncio.get_running_loop().add_reader(reader, computing.set)

        computing = asyncio.Event()
        try:
            asyncio.run(main())
        except LookupError as error:
            say(error)
        """)
    ) as script:
        ended = script.end()
    assert_in_order(ended, told=CANCELLED)
    assert (ended.code, ended.errors) == (0, "")


@pytest.mark.parametrize(("signum", "code"), [(SIGINT, -SIGINT), (SIGTERM, -SIGTERM)], ids=["SIGINT", "SIGTERM"])
def test_a_signal_in_a_run_inside_a_coroutine(signum: signal.Signals, code: int) -> None:
    """`run` inside `asyncio.run` handles the first Ctrl-C, despite asyncio's own handler; then both end."""
    with Script(
        program("""
        async def main():
            before = signal.getsignal(signal.SIGINT)
            try:
                scheduler.run()
            finally:
                say("left", signal.getsignal(signal.SIGINT) is before)

        scheduler = tell_events(Scheduler.with_processes(1))
        scheduler.on_start(lambda: scheduler.submit(for_ever))
        asyncio.run(main())
        """)
    ) as script:
        script.wait_for("computing", "@future-submitted")
        script.send_to_all(signum)
        ended = script.end()
    if signum is SIGINT:
        assert_in_order(ended, told=CANCELLED)
        assert ended.lines[-1] == "left True"
        assert ended.errors.endswith("KeyboardInterrupt\n")
    assert ended.lines.count("@finished") == 1
    assert ended.code == code


def test_many_signals() -> None:
    """Ctrl-C pressed again and again leaves no orphan and no incomplete event sequence."""
    with Script(
        program("""
        scheduler = tell_events(Scheduler.with_processes(2))
        scheduler.on_start(lambda: [scheduler.submit(for_ever) for _ in range(2)])
        try:
            scheduler.run()
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            say("caught")
        """)
    ) as script:
        script.wait_for("computing", "computing", "@future-submitted", "@future-submitted")
        for _ in range(2):
            script.send_to_all(SIGINT)
        script.wait_for("caught")
        ended = script.end()
    assert ended.lines.count("@finished") == 1


# -------------------------------------------------------------------------------------------- handlers, in this process


@pytest.mark.parametrize("outcome", ["result", "exception", "timeout", "start raises"])
def test_handlers_are_there_during_a_run_only(outcome: str) -> None:
    """However a run ends, SIGINT and SIGTERM do afterwards what they did before."""
    before = [signal.getsignal(signum) for signum in (SIGINT, SIGTERM)]
    during: list[Any] = []
    scheduler = Scheduler.with_sequential()
    scheduler.on_start(lambda: during.extend(signal.getsignal(signum) for signum in (SIGINT, SIGTERM)))
    scheduler.on_start(lambda: scheduler.submit(int, "1" if outcome == "result" else "x"))
    if outcome == "start raises":
        scheduler.on_start(lambda: 1 // 0)
    if outcome in {"exception", "start raises"}:
        with pytest.raises((ValueError, ZeroDivisionError)):
            scheduler.run()
    else:
        scheduler.run(timeout=0, on_exception="continue", end_on_empty=outcome != "timeout")
    assert [signal.getsignal(signum) for signum in (SIGINT, SIGTERM)] == before
    assert before == [signal.default_int_handler, signal.SIG_DFL]
    assert all(one is not other for one, other in zip(before, during, strict=True))


def test_a_run_in_a_thread_touches_no_handler() -> None:
    """Handlers can be set only in the main thread, so a run elsewhere does not try."""
    during: list[Any] = []
    scheduler = Scheduler.with_sequential()
    scheduler.on_start(lambda: during.append(signal.getsignal(SIGINT)))
    thread = threading.Thread(target=scheduler.run)
    thread.start()
    thread.join(GUARD)
    assert during == [signal.default_int_handler]


def test_ctrl_c_after_the_last_event_is_not_lost() -> None:
    """Ctrl-C that arrives after the run's last event still surfaces."""

    class Late(SequentialExecutor):
        def detach(self) -> None:
            super().detach()
            signal.raise_signal(SIGINT)

    scheduler = Scheduler(Late())
    recorder = EventRecorder(scheduler)
    with pytest.raises(KeyboardInterrupt):
        scheduler.run()
    assert recorder.names == ["start", "empty", "finishing", "finished"]


def test_ctrl_c_before_the_first_event_ends_the_run() -> None:
    """Ctrl-C that arrives while the run is being set up ends it as soon as it has begun."""

    class Early(SequentialExecutor):
        def attach(self, schedule: Any) -> None:
            super().attach(schedule)
            signal.raise_signal(SIGINT)

    scheduler = Scheduler(Early())
    recorder = EventRecorder(scheduler)
    with pytest.raises(KeyboardInterrupt):
        scheduler.run(end_on_empty=False)
    assert recorder.names in (
        ["start", "empty", "stop", "finishing", "finished"],
        [*("start", "stop", "finishing", "finished")],
    )


def test_a_run_that_is_torn_in_a_step_of_its_own_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler's exception may hit the run's own code: the exception surfaces, and the workers are killed."""
    start = threading.Thread.start

    def interrupted_start(thread: threading.Thread) -> None:
        if thread.name == "amltk-shutdown":
            raise KeyboardInterrupt
        start(thread)

    with Gate() as gate:
        scheduler = Scheduler.with_processes(1)
        scheduler.on_start(lambda: scheduler.submit(pass_gate, gate.address))
        gate.when_begun(1, scheduler.stop)
        monkeypatch.setattr(threading.Thread, "start", interrupted_start)
        with pytest.raises(KeyboardInterrupt):
            scheduler.run(wait=False)
        gate.wait_gone()
    assert not scheduler.running()


def test_what_signals_wake_is_left_as_it_was() -> None:
    """During a run, nested or not, the wakeup descriptor belongs to the loop; afterwards it is restored."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    before = signal.set_wakeup_fd(writer.fileno())
    try:
        inner = Scheduler.with_sequential()
        inner.on_start(lambda: signal.raise_signal(signal.SIGUSR1))
        inner.on_start(lambda: inner.call_later(0, int))
        outer = Scheduler.with_sequential()
        outer.on_start(inner.run)
        handler = signal.signal(signal.SIGUSR1, lambda *_: None)
        outer.run()
        signal.signal(signal.SIGUSR1, handler)
        assert signal.set_wakeup_fd(before) == writer.fileno()
    finally:
        signal.set_wakeup_fd(before)
        reader.close()
        writer.close()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_coroutine_callback_that_raises_it_does_not_tear_the_loop(error: type[BaseException]) -> None:
    """`KeyboardInterrupt` from an `async def` callback ends the run in order, and the caller's loop continues."""
    scheduler = Scheduler.with_sequential()
    recorder = EventRecorder(scheduler)

    @scheduler.on_start
    async def fail() -> None:
        await asyncio.sleep(0)
        raise error

    async def main() -> str:
        with pytest.raises(error):
            await scheduler.async_run(on_exception="continue")
        return "goes on"

    assert asyncio.run(main()) == "goes on"
    assert recorder.names == ["start", "stop", "finishing", "finished"]


def test_exit_state_is_not_needed_for_an_interrupt() -> None:
    """A program that only stops the run from its own handler gets an ordinary exit state."""
    scheduler = Scheduler.with_sequential()
    before = signal.signal(signal.SIGUSR1, lambda *_: scheduler.stop(stop_msg="USR1"))
    try:
        scheduler.on_start(lambda: scheduler.call_later(0, lambda: signal.raise_signal(signal.SIGUSR1)))
        assert scheduler.run(end_on_empty=False, timeout=GUARD) == ExitState(ExitState.Code.STOPPED)
    finally:
        signal.signal(signal.SIGUSR1, before)
