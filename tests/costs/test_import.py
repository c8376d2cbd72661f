"""The modules that an import loads."""

from __future__ import annotations

from collections.abc import Callable

from tests.helpers.script import run_script


def test_modules_that_are_loaded(at_most: Callable[..., None]) -> None:
    """Before its first run a scheduler loads 44 modules of its own, and 4 of the standard library beyond asyncio's."""
    ended = run_script("""
        import sys
        import asyncio, concurrent.futures.thread
        before = set(sys.modules)
        from amltk.scheduling import Scheduler
        loaded = sorted(set(sys.modules) - before)
        print(*(name for name in loaded if name.partition(".")[0] == "amltk"))
        print(*(name for name in loaded if name.partition(".")[0] != "amltk"))
        """)
    own, others = (line.split() for line in ended.lines)
    at_most("modules of the package", len(own), 44, own)
    at_most("other modules", len(others), 8, others)
