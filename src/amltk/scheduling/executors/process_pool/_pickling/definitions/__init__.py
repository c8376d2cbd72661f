"""What is sent to a worker only once: functions and classes, the values they use of modules that travel, and so on.

A *piece* is a set of objects that were not sent before and are pickled together, once. It gives each of them a number
and, if the object is a global, the name of it. Objects in one piece share what they share in the program. Later pieces
refer by number to objects of earlier ones. So a global that is reassigned costs one piece of its own, and nothing else
is sent again.

A *definition* is what calls refer to: an object, and everything that it needs at the time. A new one is created when
one of the globals used was reassigned, or exists for the first time.

Code uses a global if the global's name occurs in it as a name or, as a guess, within a string:
`df.query("x > @limit")`. Code that may look up any name, for instance with `globals()`, uses all globals that can be
pickled.
"""

from amltk.scheduling.executors.process_pool._pickling.definitions.definition import Definition
from amltk.scheduling.executors.process_pool._pickling.definitions.store import Definitions

__all__ = ["Definition", "Definitions"]
