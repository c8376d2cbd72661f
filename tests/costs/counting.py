"""Counts what the interpreter does: the same on a slow, a fast and a busy machine."""

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
    """Counts what happens on this thread inside the block."""


WITH = ("__enter__", "__exit__")
"""What `with` calls, for the locks of C. Before CPython 3.14 this is not seen."""


@contextmanager
def calls() -> Iterator[Counter[str]]:
    """Count this thread's calls by function name, including built-in functions.

    Calls made by C code to C code are not seen.
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
    """Count this thread's calls in `counter` from now on."""

    def note(frame: Any, event: str, function: Any) -> None:
        if event == "call":
            counter[frame.f_code.co_qualname] += 1
        elif event == "c_call" and function.__name__ not in WITH:
            counter[function.__qualname__] += 1

    sys.setprofile(note)


@contextmanager
def instructions() -> Iterator[Counter[str]]:
    """Count the bytecode instructions of the functions called inside the block, by function name."""
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
    """Measure the peak number of bytes newly allocated inside the block."""
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
    """It would finalise another test's objects, at a random time."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def per_task(meter: Meter, program: Callable[[int], object]) -> Cost:
    """The cost of each of many tasks: the difference between two runs of a program, so that fixed costs cancel out."""
    tasks = 200
    with meter():  # one-time work of the process
        program(1)
    with meter() as few:
        program(tasks)
    with meter() as many:
        program(2 * tasks)
    return Cost(many, few, tasks)


class Cost(dict[str, float]):
    """How often each function was called per task, or how many instructions it took.

    Args:
        many: The count for many tasks.
        few: The count for fewer tasks.
        tasks: The difference in the number of tasks.
    """

    def __init__(self, many: Counter[str], few: Counter[str], tasks: int) -> None:
        super().__init__({name: (many[name] - few[name]) / tasks for name in many if many[name] != few[name]})

    @property
    def total(self) -> float:
        """The sum over all functions."""
        return sum(self.values())

    def __str__(self) -> str:
        lines = (f"  {number:8.2f} {name}" for name, number in sorted(self.items(), key=lambda item: -item[1]))
        return "\n".join(lines)
