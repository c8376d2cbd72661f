"""Which call was computed on which worker, when, and how it ended.

`Timeline` records; its records export as a DataFrame, an HTML page, a Chrome trace, or OpenTelemetry spans.
"""

from amltk.scheduling.timeline.record import OUTCOMES, Record
from amltk.scheduling.timeline.recorder import Timeline

__all__ = ["OUTCOMES", "Record", "Timeline"]
