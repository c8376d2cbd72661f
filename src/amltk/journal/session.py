"""The head of the record with which a program begins to use a journal."""

from __future__ import annotations

import os
import platform

from amltk._process.program import arguments
from amltk.journal.kinds import Session


def this_session() -> Session:
    """What identifies this program, its process and its machine."""
    return Session(
        program=list(map(str, arguments())),
        host=os.uname().nodename,
        pid=os.getpid(),
        python=platform.python_version(),
    )
