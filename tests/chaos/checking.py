"""Compares what calls have recorded with what the driver was told about them."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from tests.chaos.history import history
from tests.chaos.work import ORDERED_KINDS, WORKERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tests.chaos.work import Place

ENDINGS = {"R": "results", "X": "exceptions", "C": "cancelled"}

KILLED_WITH_ALL = "the pool's workers were killed"
"""Part of the error of a call that was running when all workers of its pool were killed."""


def check_ledgers(place: Place, attacks: Mapping[str, int]) -> tuple[Counter[str], list[str]]:
    """Check that nothing was lost and nothing was done twice.

    Args:
        place: The files of the driver and of its calls.
        attacks: How often its processes were attacked in which way.

    Returns:
        How many calls ended in which way, and what is wrong.
    """
    events, calls = defaultdict(list), defaultdict(list)
    problems = []
    done = False
    for what, *words in place.read("events"):
        if what == "D":
            done = True
        elif what == "P":
            problems.append(" ".join(words))
        elif what != "W":
            events[int(words[0])].append((what, *words[1:]))
    for what, number, _ in place.read("calls"):
        calls[int(number)].append(what)
    if not done:
        problems.append("the driver has not come to its end")
    counts: Counter[str] = Counter()
    for number in events.keys() | calls.keys():
        wrong = [f"call {number}: {text}" for text in _check_call(events[number], calls[number])]
        if wrong:
            problems += [*wrong, f"call {number} {history(place, number)}"]
        ends = [(what, words) for what, *words in events[number] if what in ENDINGS]
        counts.update(ENDINGS[what] for what, _ in ends)
        counts["calls"] += 1
        counts["begun"] += "B" in calls[number]
        counts["lost workers"] += sum(what == "X" and words[0] == "WorkerLostError" for what, words in ends)
    killed = sum(n for attack, n in attacks.items() if attack.startswith("kill worker"))
    killed += WORKERS * sum(n for attack, n in attacks.items() if attack in {"kill fork server", "kill other"})
    if (innocent := _lost_to_others(place)) > killed:
        problems.append(f"{innocent} calls have lost their workers, but attacks explain {killed} at most")
    return counts, problems


def _lost_to_others(place: Place) -> int:
    """How many calls have lost their workers neither by what they did themselves nor by the driver."""
    lost, kills = 0, False
    exits = set()
    for what, *words in place.read("events"):
        if what == "W":
            kills = words[-1] == "kill"  # the driver kills the workers of this pool
        elif what == "S" and words[1] == "exits":
            exits.add(words[0])
        elif what == "X" and words[1] == "WorkerLostError" and words[0] not in exits:
            lost += not (kills and KILLED_WITH_ALL in " ".join(words))
    return lost


def _check_call(events: list[tuple[str, ...]], calls: Iterable[str]) -> Iterator[str]:
    counts = Counter(what for what, *_ in events)
    begun, ended = Counter(calls)["B"], Counter(calls)["E"]
    if counts["S"] != 1:
        yield f"submitted {counts['S']} times, {events}"
        return
    kind = ORDERED_KINDS[next(words[0] for what, *words in events if what == "S")]
    endings = [(what, words) for what, *words in events if what in ENDINGS]
    if len(endings) != 1:
        yield f"it has {len(endings)} endings: {endings}"
    if begun > 1:
        yield f"begun {begun} times"
    if begun and not kind.begins:
        yield "it began, although its argument cannot be pickled"
    if counts["O"] != counts["Q"] or counts["O"] > 1:
        yield f"a conversation opened {counts['O']} times and closed {counts['Q']} times"
    for what, words in endings:
        if what == "R" and (begun, ended, words[0]) != (1, 1, "right"):
            yield f"has a result, begun {begun} times, ended {ended} times: {words}"
        if what == "X" and words[0] not in {"WorkerLostError", *kind.fails}:
            yield f"a {kind.function.__name__} has raised {words}"
        if (
            what == "X"
            and words[0] != "WorkerLostError"
            and kind.begins
            and not begun
            and words[0] != "DependencyError"
        ):
            yield f"never begun, but raised {words}"
