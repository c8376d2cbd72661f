"""Which call was computed on which worker, when, and how it ended.

`Timeline` records; its records export as a DataFrame, an HTML page, a Chrome trace, or OpenTelemetry spans.
`Telemetry` sends spans and metrics to a receiver of OpenTelemetry while the scheduler runs.
"""

from amltk.scheduling.timeline.record import OUTCOMES, Record
from amltk.scheduling.timeline.recorder import Timeline
from amltk.scheduling.timeline.telemetry.telemetry import Telemetry

__all__ = ["OUTCOMES", "Record", "Telemetry", "Timeline"]
