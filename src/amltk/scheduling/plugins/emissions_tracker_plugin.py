"""Measure the energy and the emissions of calls, by codecarbon."""

from __future__ import annotations

import inspect
from functools import partial
from typing import TYPE_CHECKING, Any

from amltk import _extras
from amltk.scheduling.plugins.plugin import PassingPlugin
from amltk.scheduling.plugins.wrapping import Wrapper

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.scheduling.plugins.plugin import Submission

_OF_OFFLINE = {"country_iso_code", "country_2letter_iso_code", "region", "cloud_provider", "cloud_region"}
"""What only codecarbon's offline tracker is told; the other one asks servers for it."""


class EmissionsTrackerPlugin(PassingPlugin):
    """Measures the energy that a call takes and the carbon dioxide that this costs, in the worker, by codecarbon.

    Each call has a tracker of its own. Its numbers go where codecarbon puts them: by default a line is added to
    `emissions.csv` in `output_dir`, which is the worker's current folder if not given and must exist on its machine.
    A failure of the tracker is told in codecarbon's log and does not fail the call.

    Where several workers share a machine, `tracking_mode="process"` keeps them from measuring each other's work.

    Args:
        *args: The arguments of codecarbon's `EmissionsTracker`, the first of which is `project_name`.
        **kwargs: Its keyword arguments, or those of `OfflineEmissionsTracker`. With one that only the latter has, such
            as `country_iso_code="DEU"`, that is what is used, and no server is asked. `allow_multiple_runs` is True if
            not given, so that calls can be tracked side by side.

    Raises:
        MissingExtraError: codecarbon is not installed. Workers need it too.
        TypeError: codecarbon has no such argument.
    """

    name = "emissions-tracker"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        codecarbon = _extras.load("codecarbon", needs="codecarbon", extra="plugins")
        offline = not _OF_OFFLINE.isdisjoint(kwargs)
        self.codecarbon_args: tuple[Any, ...] = args
        self.codecarbon_kwargs: dict[str, Any] = {"allow_multiple_runs": True, **kwargs}
        # A wrong argument would be lost in the log of a worker.
        common = {name: value for name, value in self.codecarbon_kwargs.items() if name not in _OF_OFFLINE}
        inspect.signature(codecarbon.EmissionsTracker).bind(*args, **common)
        self._tracker: type = codecarbon.OfflineEmissionsTracker if offline else codecarbon.EmissionsTracker

    def pre_submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Submission | None:
        """Have it computed under a tracker."""
        return Wrapper(fn, partial(self._tracker, *self.codecarbon_args, **self.codecarbon_kwargs)), args, kwargs

    def status(self) -> str:
        """Which tracker measures."""
        return self._tracker.__name__
