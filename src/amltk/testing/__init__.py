"""Helpers for testing programs that use a scheduler, without processes, sockets or waiting.

```python
from amltk.scheduling import Scheduler
from amltk.testing import EventRecorder, ManualExecutor, run_in_virtual_time

def test_a_failed_trial_is_tried_again():
    executor = ManualExecutor()
    scheduler = Scheduler(executor)
    recorder = EventRecorder(scheduler)
    ...  # the program under test subscribes its callbacks

    scheduler.on_start(lambda: scheduler.submit(train, 0.1))
    scheduler.on_future_submitted(lambda future: executor.fail(0, ValueError("diverged")), max_calls=1)

    run_in_virtual_time(scheduler.async_run(timeout=3600, on_exception="continue"))
    assert recorder.names == ["start", "future-submitted", "future-done", "future-exception", ...]
```

Use a `SimulatedExecutor` to rehearse a whole experiment in virtual time, with many workers and calls that take hours.
"""

from amltk.testing.crashes import CrashError, crash_everywhere
from amltk.testing.manual_executor import ManualExecutor, Submission
from amltk.testing.recorder import EventRecorder, Recorded
from amltk.testing.simulated_executor import SimulatedExecutor
from amltk.testing.virtual_time import HangError, VirtualTimeLoop, run_in_virtual_time

__all__ = [
    "CrashError",
    "EventRecorder",
    "HangError",
    "ManualExecutor",
    "Recorded",
    "SimulatedExecutor",
    "Submission",
    "VirtualTimeLoop",
    "crash_everywhere",
    "run_in_virtual_time",
]
