"""Which shared memory segments are reused, kept and freed."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from amltk.scheduling.executors.process_pool._state.segment_table import MOST_WASTE, PAGE_BYTES, SegmentTable
from amltk.scheduling.executors.process_pool._system.memory_size import least_memory

PAGE = PAGE_BYTES


def test_a_kept_segment_is_taken_again() -> None:
    """The smallest sufficient segment is reused instead of creating a new one."""
    table = SegmentTable(limit=100 * PAGE, most_kept=100 * PAGE, most=10)
    taken = [table.take(size * PAGE) for size in (3, 1, 2)]
    numbers = [one.number for one in taken if one is not None and one.is_new]
    assert len(numbers) == 3
    for number in numbers:
        assert table.drop(number) == []
    assert table.take(2 * PAGE - 1) == (numbers[2], 2 * PAGE, False, [])


def test_a_far_too_large_one_is_taken_only_if_there_is_no_room() -> None:
    """A far too large segment is used only if there is no room, so that large buffers can have it."""
    table = SegmentTable(limit=20 * PAGE, most_kept=20 * PAGE, most=10)
    large = table.take((MOST_WASTE + 1) * PAGE)
    assert large is not None
    table.drop(large.number)
    small = table.take(PAGE)
    assert small is not None
    assert small.is_new
    full = table.take(14 * PAGE)
    assert full is not None
    again = table.take(PAGE)
    assert again is not None
    assert (again.number, again.is_new) == (large.number, False)


def test_kept_segments_make_room_for_others() -> None:
    """The ones kept longest are freed first; segments in use never are."""
    table = SegmentTable(limit=10 * PAGE, most_kept=10 * PAGE, most=10)
    first, second, held = (table.take(3 * PAGE) for _ in range(3))
    assert first is not None
    assert second is not None
    assert held is not None
    table.drop(second.number)
    table.drop(first.number)
    new = table.take(4 * PAGE)
    assert new is not None
    assert new.given_up == [(second.number, False)]
    assert table.take(4 * PAGE) is None


def test_a_spoilt_segment_is_given_up() -> None:
    """A spoilt segment is freed when its last holder drops it, whoever marked it."""
    table = SegmentTable(limit=10 * PAGE, most_kept=10 * PAGE, most=10)
    taken = table.take(PAGE)
    assert taken is not None
    table.hold(taken.number)
    assert table.drop(taken.number, is_spoilt=True) == []
    assert table.drop(taken.number) == [(taken.number, True)]
    assert table.used == 0


class AnyUse(RuleBasedStateMachine):
    """However segments are taken, held and dropped, each is freed once, and the limits hold."""

    held: Bundle[Any] = Bundle("held")

    @initialize(limit=st.integers(0, 40), most_kept=st.integers(0, 40), most=st.integers(0, 6))
    def begin(self, limit: int, most_kept: int, most: int) -> None:
        self.limit, self.most_kept, self.most = limit * PAGE, most_kept * PAGE, most
        self.table = SegmentTable(self.limit, self.most_kept, self.most)
        self.sizes: dict[int, int] = {}  # of the existing segments
        self.holders: dict[int, int] = {}
        self.spoilt: set[int] = set()

    @rule(target=held, size=st.integers(1, 20 * PAGE))
    def take(self, size: int) -> Any:
        taken = self.table.take(size)
        if taken is None:
            used = sum(size for number, size in self.sizes.items() if self.holders[number])
            n_used = sum(map(bool, self.holders.values()))
            assert used + size > self.limit - PAGE or n_used >= self.most, "there was room"
            return None
        self.give_up(taken.given_up)
        assert taken.size >= size
        assert taken.is_new == (taken.number not in self.sizes)
        assert not self.holders.get(taken.number), "somebody has it"
        assert taken.number not in self.spoilt
        self.sizes[taken.number] = taken.size
        self.holders[taken.number] = 1
        return taken.number

    @rule(target=held, number=held)
    def hold(self, number: int | None) -> Any:
        if number is None or not self.holders.get(number):
            return None
        self.table.hold(number)
        self.holders[number] += 1
        return number

    @rule(number=consumes(held), is_spoilt=st.booleans())
    def drop(self, number: int | None, is_spoilt: bool) -> None:
        if number is None or not self.holders.get(number):
            return
        self.holders[number] -= 1
        if is_spoilt:
            self.spoilt.add(number)
        self.give_up(self.table.drop(number, is_spoilt=is_spoilt))
        if not self.holders.get(number) and number in self.spoilt:
            assert number not in self.sizes

    def give_up(self, given_up: Any) -> None:
        for number, is_spoilt in given_up:
            assert not self.holders.pop(number), "somebody has it"
            assert is_spoilt == (number in self.spoilt)
            del self.sizes[number]

    @invariant()
    def limits_hold(self) -> None:
        if hasattr(self, "table"):
            assert self.table.used == sum(self.sizes.values()) <= self.limit
            kept = sum(size for number, size in self.sizes.items() if not self.holders[number])
            assert self.table.kept == kept <= self.most_kept
            assert len(self.sizes) <= self.most or not self.sizes


TestAnyUse = AnyUse.TestCase


def test_memory_is_that_of_the_container() -> None:
    """The smallest limit of the control groups, of either version, and of the machine."""
    files = {
        "/proc/self/cgroup": "0::/a/b\n",
        "/proc/self/mountinfo": "29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n",
        "/sys/fs/cgroup/a/b/memory.max": "max\n",
        "/sys/fs/cgroup/a/memory.max": "4000\n",
    }
    assert least_memory(10_000, lambda path: files.get(path, "")) == 4000
    assert least_memory(1_000, lambda path: files.get(path, "")) == 1000
    files = {
        "/proc/self/cgroup": "3:memory:/a\n2:cpu:/\n",
        "/proc/self/mountinfo": "29 23 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
        "/sys/fs/cgroup/memory/a/memory.limit_in_bytes": "5000\n",
    }
    assert least_memory(10_000, lambda path: files.get(path, "")) == 5000
