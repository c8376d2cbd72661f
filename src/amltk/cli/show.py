"""`show`: how an experiment stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amltk import journal
from amltk._process import clock
from amltk.cli.words import moment, seconds

if TYPE_CHECKING:
    import argparse
    from collections import Counter
    from collections.abc import Iterator

    from amltk.journal import Call, Summary


def show(options: argparse.Namespace) -> int:
    """Print a summary."""
    summary = journal.History(options.folder).summary()
    print(f"{options.folder}: {_state(summary)}")
    for name, text in _lines(summary):
        print(f"  {name:<9}{text}".rstrip())
    return 0


def _state(summary: Summary) -> str:
    if summary.owner is not None:
        unknown = " (on another machine, so it may have ended)" if summary.owner.is_alive() is None else ""
        return f"running, {summary.owner}{unknown}"
    if summary.state == "finished":
        told = dict.fromkeys(str(text) for key in ("code", "reason") if (text := summary.finish.get(key)))
        return ", ".join(["finished", *told])
    if summary.state == "interrupted":
        return "interrupted: its process was killed. Start the program again to continue"
    if summary.state == "retried":
        return "failed calls are forgotten. Start the program again to compute them once more"
    return summary.state


def _lines(summary: Summary) -> Iterator[tuple[str, str]]:
    if summary.began is not None and summary.latest is not None:
        ago = seconds(max(0.0, clock.now() - summary.latest))
        yield "sessions", f"{summary.sessions}, since {moment(summary.began)}; last record {ago} ago"
    yield "calls", _counted(summary.counts)
    if summary.errors:
        yield "errors", _counted(summary.errors)
    for name, best in (("lowest", summary.lowest), ("highest", summary.highest)):
        if best is not None:
            yield name, f"{best.result:.6g} by {_call(best)}"
    for name, group in (("pending", summary.pending), ("ended", summary.last)):
        for call in group:
            yield name, _call(call) if call.ended is None else f"{_call(call)}: {_end(call)}"
            name = ""  # noqa: PLW2901 - said once
    if summary.torn:
        yield "end", f"{summary.torn:,} bytes of an incomplete record"


def _counted(counts: Counter[str]) -> str:
    parts = ", ".join(f"{n:,} {what}" for what, n in counts.most_common())
    return f"{counts.total():,}: {parts}" if len(counts) > 1 else parts or "none"


def _call(call: Call) -> str:
    return f"call {call.number}, {call.task}{' '.join(call.arguments.split())}"


def _end(call: Call) -> str:
    told = call.error or call.state
    if call.result is not None:
        told = f"{call.result:.6g}"
    return told if call.duration is None else f"{told} after {seconds(call.duration)}"
