"""The pool with what its first call needs: a program that imports it by itself does so long before that call.

A scheduler imports `pool` only, and the rest while the process begins that starts workers, see `engine_owner`.
"""

from __future__ import annotations

from amltk.scheduling.executors.process_pool import future
from amltk.scheduling.executors.process_pool._engine import engine
from amltk.scheduling.executors.process_pool.pool import ProcessPool

__all__ = ["ProcessPool", "engine", "future"]
