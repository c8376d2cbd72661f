"""Which call was computed on which worker, from when to when, and how it ended.

`Timeline` records; what was recorded is a DataFrame, a page of HTML, a Chrome trace, or spans of OpenTelemetry.
"""

from amltk.scheduling.timeline.record import OUTCOMES, Record
from amltk.scheduling.timeline.recorder import Timeline

__all__ = ["OUTCOMES", "Record", "Timeline"]
