"""What a journal says, kept up to date while it grows: for a terminal, a page and a report, all from one model.

`follower.py` reads; the other files each keep one thing, in memory that hardly grows with the number of calls. Nothing
here unpickles a value.
"""

from amltk.journal.live.follower import Follower
from amltk.journal.live.status import Running, Status

__all__ = ["Follower", "Running", "Status"]
