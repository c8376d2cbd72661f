"""Devices of calls and dependencies between calls: recorded, in lanes, and in exports."""

from __future__ import annotations

from typing import Any

from amltk.scheduling import Resources, Scheduler
from amltk.scheduling.executors.execution_info import ExecutionInfo
from amltk.scheduling.plugins import Retry
from amltk.scheduling.timeline import Timeline, chrome
from amltk.scheduling.timeline.lanes import device_lanes
from amltk.scheduling.timeline.links import links
from amltk.testing import ManualExecutor
from tests.unit.scheduling.timeline.making import record


def fail_once(call: Any, seen: list[int]) -> Any:
    seen.append(1)
    if len(seen) == 1:
        raise OSError("busy")
    return call


def test_a_run_is_recorded_with_devices_and_needs() -> None:
    """Each attempt has the devices of its own grant; dependencies are call numbers."""
    scheduler = Scheduler.with_sequential(resources={"gpu": ["0", "1"], "memory": 10})
    plugins = [Resources(gpu=2, memory=5), Retry(on=OSError, attempts=2, wait=0)]
    first, second = scheduler.task(fail_once, plugins=plugins), scheduler.task(lambda value: value)
    timeline = Timeline(scheduler)
    scheduler.on_start(lambda: second.submit([first.submit("x", [])]))
    scheduler.run()
    failed, done, needing = timeline.records()
    assert (failed.outcome, done.outcome) == ("retried", "succeeded")
    assert failed.devices == done.devices == ("gpu 0", "gpu 1")
    assert failed.call == done.call != needing.call
    assert (done.needs, needing.needs, needing.devices) == ((), (done.call,), ())


def test_what_a_worker_has_lent_is_recorded() -> None:
    """On clusters whose workers declare GPUs, only the worker knows its devices."""
    executor = ManualExecutor()
    scheduler = Scheduler(executor)
    timeline = Timeline(scheduler)

    @scheduler.on_start
    def launch() -> None:
        scheduler.submit(abs, 1)
        work: Any = executor.submissions[0].future
        work.execution_info = ExecutionInfo("node", 7, None, 1.0, 2.0, ("gpu 3",))
        work.set_result(1)

    scheduler.run()
    assert [one.devices for one in timeline.records()] == [("gpu 3",)]


RECORDS = [
    record(1.0, 3.0, 7, call=1, devices=("gpu 9", "gpu 10")),
    record(3.0, 4.0, 7, call=2, attempt=1, outcome="retried", devices=("gpu 10",), needs=(1,)),
    record(5.0, 6.0, 7, call=2, attempt=2, devices=("gpu 10",), needs=(1,)),
    record(5.5, 7.0, 8, call=3, devices=("gpu 10",), needs=(2, 99)),
    record(None, None, 8, call=4, outcome="cancelled", needs=(3,)),
]


def test_a_device_is_a_lane() -> None:
    """Lanes are sorted by number; a shared device has as many as calls overlap."""
    assert [(lane.name, len(lane.records)) for lane in device_lanes(RECORDS)] == [
        ("gpu 9", 1),
        ("gpu 10", 3),
        ("gpu 10, share 2", 1),
    ]
    elsewhere = record(1.0, 2.0, 7, host="other", devices=("gpu 9",))
    names = [lane.name for lane in device_lanes([*RECORDS, elsewhere])]
    assert names == ["node, gpu 9", "node, gpu 10", "node, gpu 10, share 2", "other, gpu 9"]


def test_links_go_from_the_last_attempt_to_the_first() -> None:
    """A missing call has no link."""
    assert list(links(RECORDS[:4])) == [(0, 1), (2, 3)]


def test_the_trace_has_devices_and_flows() -> None:
    """Each flow starts within the slice of the dependency and ends where the dependent starts; both are in workers."""
    events = chrome.trace(RECORDS)["traceEvents"]
    names = {event["args"]["name"]: event["pid"] for event in events if event["name"] == "process_name"}
    slices = [event for event in events if event["ph"] == "X"]
    assert len(slices) == 4 + 5
    of_devices = [event for event in slices if event["pid"] == names["node devices"]]
    assert {event["args"]["devices"] for event in of_devices} == {"gpu 9, gpu 10", "gpu 10"}
    begins, ends = ([event for event in events if event["ph"] == kind] for kind in "sf")
    assert [event["id"] for event in begins] == [event["id"] for event in ends] == [0, 1]
    workers = [event for event in slices if event not in of_devices]
    for event in begins:
        assert any(_is_in(event, one) for one in workers)
    for event in ends:
        assert event["bp"] == "e"
        assert any(event["ts"] == one["ts"] and _is_in(event, one) for one in workers)
    assert all(event["args"]["calls"] <= 2 for event in events if event["ph"] == "C"), "devices compute nothing"


def _is_in(event: dict[str, Any], one: dict[str, Any]) -> bool:
    same = (event["pid"], event["tid"]) == (one["pid"], one["tid"])
    return same and bool(one["ts"] <= event["ts"] <= one["ts"] + one["dur"])
