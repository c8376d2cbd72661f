"""The check of the lock order in a pool."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from amltk.scheduling.executors.process_pool._state import lock_order
from amltk.scheduling.executors.process_pool._state.lock_order import Level, PoolLocks


@pytest.fixture
def locks() -> dict[Level, Any]:
    made = PoolLocks()
    return {level: made.make(level) for level in Level}


def test_locks_are_acquired_in_order(locks: dict[Level, Any]) -> None:
    """Locks may be acquired in order, some or all of them, and again after their release."""
    with locks[Level.TURN], locks[Level.PICKLING], locks[Level.STATE]:
        pass
    with locks[Level.TURN], locks[Level.STATE]:
        pass
    with locks[Level.STATE]:
        pass
    with locks[Level.TURN]:
        pass


@pytest.mark.parametrize(
    ("first", "second"),
    [(Level.PICKLING, Level.TURN), (Level.STATE, Level.TURN), (Level.STATE, Level.PICKLING)],
)
def test_waiting_out_of_order_fails(first: Level, second: Level, locks: dict[Level, Any]) -> None:
    """Waiting out of order raises an assertion that names both locks, and neither is held afterwards."""
    message = f"waits for .*{second.name}.* while it holds .*{first.name}"
    with locks[first], pytest.raises(AssertionError, match=message), locks[second]:
        pass
    with locks[second], locks[first]:
        pass


def test_the_lock_of_the_state_is_reentrant(locks: dict[Level, Any]) -> None:
    """The state lock is reentrant, since a finalizer may run while it is held; it is owned until the last release."""
    state = locks[Level.STATE]
    with state:
        with state:
            assert state._is_owned()
        assert state._is_owned()
    assert not state._is_owned()


def test_a_lock_that_is_only_tried_may_be_out_of_order(locks: dict[Level, Any]) -> None:
    """A non-blocking attempt may be out of order, since it cannot deadlock."""
    with locks[Level.STATE]:
        assert locks[Level.PICKLING].acquire(blocking=False)
        locks[Level.PICKLING].release()


def test_the_locks_of_another_thread_and_of_another_pool_do_not_count(locks: dict[Level, Any]) -> None:
    """Locks of other threads and other pools do not count, since pickled objects may use another pool."""
    acquired: list[bool] = []
    with locks[Level.PICKLING]:
        with PoolLocks().make(Level.TURN):
            pass
        thread = threading.Thread(target=lambda: acquired.append(locks[Level.TURN].acquire()))
        thread.start()
        thread.join()
    assert acquired == [True]


def test_without_the_check_they_are_plain_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the check, which users do not pay for, the locks are plain ones."""
    monkeypatch.setattr(lock_order, "check_order", False)
    made = [type(PoolLocks().make(level)) for level in Level]
    assert made == [type(threading.Lock()), type(threading.Lock()), type(threading.RLock())]
