"""A journal's session says which program it is, whatever that has made of its arguments."""

from __future__ import annotations

import json
import os
import sys
import threading

import pytest

from amltk.journal.session import this_session


def test_arguments_that_are_no_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What JSON has nothing for is left out, and the rest is text."""
    monkeypatch.setattr(sys, "argv", ["program", threading.Lock(), 3, b"x"])
    session = this_session()
    assert session["program"] == ["program", "3", "b'x'"]
    assert json.loads(json.dumps(session))["pid"] == os.getpid()
