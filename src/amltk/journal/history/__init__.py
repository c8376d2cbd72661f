"""What a journal says about an experiment: its calls, its sessions and how it stands, for tools and for users."""

from amltk.journal.history.call import Call
from amltk.journal.history.history import History, open  # noqa: A004 - used as `amltk.journal.open`
from amltk.journal.history.summary import Summary

__all__ = ["Call", "History", "Summary", "open"]
