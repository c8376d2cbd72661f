"""How the process pool's futures are resolved, without processes."""

from __future__ import annotations

import pytest

from amltk.scheduling.executors.process_pool._state.outcomes import tell
from tests.unit.scheduling.process_pool.making import make_call


def test_all_are_told_however_many_callbacks_raise() -> None:
    """What callbacks raise through the futures is raised when every future is done, the first one first."""
    calls = [make_call(n) for n in range(2000)]  # more than fit on the stack

    def leave(code: int) -> None:
        raise SystemExit(code)

    for call in calls:
        call.add_done_callback(lambda _, code=call.key: leave(code))
    with pytest.raises(SystemExit) as caught:
        tell([(call, None, ValueError()) for call in calls])
    assert caught.value.code == 0
    assert all(call.done() for call in calls)
