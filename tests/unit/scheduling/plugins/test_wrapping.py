"""The name of a `Wrapper`, and how it is pickled."""

from __future__ import annotations

import pickle
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import cloudpickle
import pytest

from amltk.scheduling.events import callback_name
from amltk.scheduling.executors.process_pool._pickling.definitions import Definitions
from amltk.scheduling.executors.process_pool._pickling.pickles import CallPickler
from amltk.scheduling.plugins.wrapping import Wrapper

if TYPE_CHECKING:
    from collections.abc import Iterator

LOG: list[str] = []


@contextmanager
def noting(name: str) -> Iterator[None]:
    """Record entering and leaving."""
    LOG.append(f"enter {name}")
    try:
        yield
    finally:
        LOG.append(f"leave {name}")


def double(x: int) -> int:
    """Return two times x."""
    LOG.append("call")
    return 2 * x


class Model:
    """A callable object with the same attribute names as the wrapper."""

    def __init__(self) -> None:
        self.function = "mine"
        self.around = "mine"

    def __call__(self, x: int) -> int:
        return 2 * x

    def fit(self, x: int) -> int:
        return 2 * x

    def __repr__(self) -> str:
        return "Model()"


def nested(function: Any) -> Wrapper:
    return Wrapper(Wrapper(function, partial(noting, "inner")), partial(noting, "outer"))


@pytest.fixture(autouse=True)
def clear_log() -> None:
    LOG.clear()


def test_the_call_is_within_the_context_manager() -> None:
    """Each call has its own context manager; the outer wrapper's is entered first and left last."""
    assert nested(double)(3) == 6
    assert LOG == ["enter outer", "enter inner", "call", "leave inner", "leave outer"]


def test_what_the_function_raises_passes_the_context_manager() -> None:
    """The context manager is also left if the function raises."""
    with pytest.raises(ZeroDivisionError):
        Wrapper(divmod, partial(noting, "it"))(1, 0)
    assert LOG == ["enter it", "leave it"]


NAMES = {
    "double": double,
    "Model.fit": Model().fit,
    "Model()": Model(),
    "Model": Model,
    "divmod": divmod,
    "<lambda>": lambda x: 2 * x,
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [lambda f: f, lambda f: partial(f, 1), lambda f: partial(partial(f, 1), 2)])
def test_it_is_named_like_the_function(name: str, shape: Any) -> None:
    """Messages name the user's function, whatever kind of callable it is, even in a partial or two wrappers."""
    function = shape(NAMES[name])
    assert callback_name(Wrapper(function, partial(noting, "it"))) == callback_name(function) == name
    assert callback_name(nested(function)) == name
    assert repr(nested(function)).startswith(f"Wrapper({name}, ")


@pytest.mark.parametrize("function", [double, Model(), partial(double), lambda x: 2 * x])
def test_it_travels(function: Any) -> None:
    """A wrapped function survives pickling with its name, and works."""
    there = pickle.loads(cloudpickle.dumps(nested(function)))
    assert there(3) == 6
    assert callback_name(there) == callback_name(nested(pickle.loads(cloudpickle.dumps(function))))


def test_it_is_small_in_a_pickle() -> None:
    """A wrapped function of the user's program is sent once per worker, and referred to by number in each call."""
    ballast = "x" * 10_000
    definitions = Definitions()
    pickler = CallPickler(definitions)

    def local(x: int) -> tuple[int, str]:
        return x, ballast

    parcels = [pickler.payload(nested(local), None, (n,), {}) for n in range(3)]
    assert all(definitions.of(local) in uses for _, _, _, uses in parcels)
    assert max(len(payload) for _, payload, _, _ in parcels) < 1000
