"""Measure the energy use and emissions of calls with codecarbon."""

from __future__ import annotations

import inspect
from functools import partial
from typing import TYPE_CHECKING, Any

from amltk import _extras
from amltk.scheduling.plugin import PassingPlugin
from amltk.scheduling.plugins.wrapping import Wrapper

if TYPE_CHECKING:
    from collections.abc import Callable

    from amltk.scheduling.plugin import Submission

_OF_OFFLINE = {"country_iso_code", "country_2letter_iso_code", "region", "cloud_provider", "cloud_region"}
"""Arguments that only codecarbon's offline tracker takes; the online one asks servers for these values."""


class EmissionsTrackerPlugin(PassingPlugin):
    """Measures the energy that a call takes and the carbon dioxide that this costs, in the worker, by codecarbon.

    Each call has its own tracker. Results go where codecarbon writes them: by default a line is added to
    `emissions.csv` in `output_dir`, which defaults to the worker's current folder and must exist on the worker's
    machine. A failure of the tracker is logged by codecarbon and does not fail the call.

    If several workers share a machine, set `tracking_mode="process"`, or they measure each other's work.

    Args:
        *args: The arguments of codecarbon's `EmissionsTracker`; the first is `project_name`.
        **kwargs: Its keyword arguments, or those of `OfflineEmissionsTracker`. If one is given that only the latter
            takes, such as `country_iso_code="DEU"`, the offline tracker is used, and no server is asked.
            `allow_multiple_runs` defaults to True, so that calls can be tracked side by side.

    Raises:
        MissingExtraError: codecarbon is not installed. Workers need it too.
        TypeError: codecarbon does not take such an argument.
    """

    name = "emissions-tracker"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        codecarbon = _extras.load("codecarbon", needs="codecarbon", extra="plugins")
        offline = not _OF_OFFLINE.isdisjoint(kwargs)
        self.codecarbon_args: tuple[Any, ...] = args
        self.codecarbon_kwargs: dict[str, Any] = {"allow_multiple_runs": True, **kwargs}
        # Checked here: in a worker, a wrong argument would only show up in the log.
        common = {name: value for name, value in self.codecarbon_kwargs.items() if name not in _OF_OFFLINE}
        inspect.signature(codecarbon.EmissionsTracker).bind(*args, **common)
        self._tracker: type = codecarbon.OfflineEmissionsTracker if offline else codecarbon.EmissionsTracker

    def pre_submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Submission | None:
        """Compute the call under a tracker."""
        return Wrapper(fn, partial(self._tracker, *self.codecarbon_args, **self.codecarbon_kwargs)), args, kwargs

    def status(self) -> str:
        """The tracker in use."""
        return self._tracker.__name__
