"""Counts of what the interpreter does: the same on a slow machine, a fast one and a busy one."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    Meter = Callable[[], AbstractContextManager[Counter[str]]]
    """Counts what happens on this thread while it is entered."""


@contextmanager
def calls() -> Iterator[Counter[str]]:
    """Count this thread's calls by the names of functions, those of built-in ones included.

    What is written in C and calls something in C is not seen to do so.
    """
    counter: Counter[str] = Counter()
    with _no_garbage_collection():
        before = sys.getprofile()
        count_calls(counter)
        try:
            yield counter
        finally:
            sys.setprofile(before)


def count_calls(counter: Counter[str]) -> None:
    """Count the calls of this thread in `counter` from now on."""

    def note(frame: Any, event: str, function: Any) -> None:
        if event == "call":
            counter[frame.f_code.co_qualname] += 1
        elif event == "c_call":
            counter[function.__qualname__] += 1

    sys.setprofile(note)


@contextmanager
def instructions() -> Iterator[Counter[str]]:
    """Count instructions of the byte code of the functions that are called meanwhile, by the names of functions."""
    counter: Counter[str] = Counter()

    def note(frame: Any, event: str, _: Any) -> Any:
        if event == "call":
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        elif event == "opcode":
            counter[frame.f_code.co_qualname] += 1
        return note

    with _no_garbage_collection():
        before = sys.gettrace()
        sys.settrace(note)
        try:
            yield counter
        finally:
            sys.settrace(before)


@contextmanager
def most_bytes() -> Iterator[Counter[str]]:
    """Tell how many bytes were allocated at a time, at most, of what was not there before."""
    counter: Counter[str] = Counter()
    with _no_garbage_collection():
        tracemalloc.start()
        try:
            yield counter
        finally:
            counter["bytes"] = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """What it finalises is another test's, and when it runs is chance."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def per_task(meter: Meter, program: Callable[[int], object]) -> Cost:
    """What each of many tasks costs: the difference between two runs of a program, so that fixed costs cancel out."""
    tasks = 200
    with meter():  # what is done once in a process
        program(1)
    with meter() as few:
        program(tasks)
    with meter() as many:
        program(2 * tasks)
    return Cost(many, few, tasks)


class Cost(dict[str, float]):
    """How often each function was called for one task, or how many instructions it took.

    Args:
        many: What was counted for many tasks.
        few: And for fewer.
        tasks: By how many these differ.
    """

    def __init__(self, many: Counter[str], few: Counter[str], tasks: int) -> None:
        super().__init__({name: (many[name] - few[name]) / tasks for name in many if many[name] != few[name]})

    @property
    def total(self) -> float:
        """All of them."""
        return sum(self.values())

    def __str__(self) -> str:
        lines = (f"  {number:8.2f} {name}" for name, number in sorted(self.items(), key=lambda item: -item[1]))
        return "\n".join(lines)
