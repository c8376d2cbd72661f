"""How often a run is redrawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from amltk.scheduling._loop.refresh import MAX_DRAWING_SHARE, MIN_REFRESH_SECONDS, DisplayRefresher

if TYPE_CHECKING:
    from collections.abc import Callable


class Loop:
    """A loop on which time passes only when something takes time."""

    def __init__(self) -> None:
        self.now = 100.0
        self.calls: list[tuple[float, Callable[[], object]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, call: Callable[[], object]) -> None:
        self.calls.append((seconds, call))

    def wait(self) -> float:
        """Advance to the next call and make it; return how long that took."""
        ((seconds, call),) = self.calls
        self.calls.clear()
        self.now += seconds
        call()
        return seconds


class View:
    """A view that is slow to draw."""

    def __init__(self, loop: Loop, *seconds: float) -> None:
        self.loop = loop
        self.seconds = list(seconds)

    def start(self) -> None:
        self.refresh()

    def refresh(self) -> None:
        self.loop.now += self.seconds.pop(0)

    def stop(self) -> None:
        self.refresh()


def waits(*seconds: float) -> list[float]:
    """The waits between pictures that take this long to draw."""
    loop: Any = Loop()
    watch = DisplayRefresher(loop, View(loop, *seconds))
    watch.start()
    return [loop.wait() for _ in seconds[1:]]


def test_pictures_that_are_quickly_drawn_come_at_a_fixed_rate() -> None:
    """The rate is limited to a few times per second, however fast a picture is drawn."""
    assert waits(0, 0, 0.001, 0.001) == [MIN_REFRESH_SECONDS] * 3


def test_what_takes_long_to_draw_is_drawn_less_often() -> None:
    """Drawing takes a small share of the time, however slow a picture is; the first one does not count."""
    assert waits(1, 0.1, 0.01, 0) == pytest.approx(
        [MIN_REFRESH_SECONDS, 0.1 / MAX_DRAWING_SHARE, 0.01 / MAX_DRAWING_SHARE]
    )
    assert waits(0, *[0.1] * 9)[1:] == pytest.approx([0.1 / MAX_DRAWING_SHARE] * 8)


def test_a_redraw_that_was_held_up_does_not_stop_the_display() -> None:
    """On a busy machine a single redraw may be slow: the next one comes as soon as usual."""
    assert waits(0, 0.001, 0.15, 0.001, 0.001, 0.2, 0.3, 0.001) == [MIN_REFRESH_SECONDS] * 7
