"""Compute equal calls once: now, and in every later session."""

from __future__ import annotations

from amltk.scheduling.plugins.memo.plugin import Memo

__all__ = ["Memo"]
