"""Calls of importable functions with plain values take a shorter way to the same pickles."""

from __future__ import annotations

import pickle
import sys
from typing import Any

import cloudpickle
import pytest

from amltk.scheduling.executors.remote.pickling import dump_call


def double(x: Any) -> Any:
    return 2 * x


class Text(str):
    """A string with something of its own."""

    __slots__ = ()

    def __reduce__(self) -> Any:
        return Text, ("pickled its own way",)


@pytest.mark.parametrize("argument", [None, True, 1, 1.5, 1j, "a", b"a", [1], {"a": double}, Text("a")])
def test_a_call_of_an_importable_function(argument: Any) -> None:
    """It is pickled by its name, whatever the arguments are, and these as always."""
    pickled = dump_call(double, (argument,), {"key": argument}, [])
    assert pickled.count(double.__name__.encode()) == 1
    fn, args, kwargs = pickle.loads(pickled)
    assert fn is double
    expected = pickle.loads(cloudpickle.dumps(argument))
    assert (args, kwargs) == ((expected,), {"key": expected})
    assert type(args[0]) is type(argument)


@pytest.mark.parametrize("argument", [1, [1]], ids=["plain", "other"])
def test_a_function_that_its_name_does_not_find(argument: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is pickled by value: replaced in its module, of `__main__`, of a module registered so, or of no module."""

    def arrives() -> Any:
        fn, args, _ = pickle.loads(dump_call(original, (argument,), {}, []))
        return fn(*args), fn is original

    original = double
    assert arrives() == (2 * argument, True)
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        assert arrives() == (2 * argument, False)
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules[__name__], "double", None)
        assert arrives() == (2 * argument, False)
    for module in ("__main__", "no.such.module", None):
        with monkeypatch.context() as patch:
            patch.setattr(original, "__module__", module)
            patch.setattr(sys.modules["__main__"], "double", original, raising=False)
            assert arrives()[0] == 2 * argument
