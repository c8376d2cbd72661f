"""Two-way messages with running compute, on every executor.

`Comm` is passed to the function, `Comm.Plugin` passes it, and `Comm.Msg` is passed to callbacks.
"""

from amltk.scheduling.plugins.comm._driver.conversation import Conversation
from amltk.scheduling.plugins.comm.comm import Comm
from amltk.scheduling.plugins.comm.messages import Msg, MsgKind
from amltk.scheduling.plugins.comm.plugin import CommPlugin

__all__ = ["Comm", "CommPlugin", "Conversation", "Msg", "MsgKind"]
