"""Pickles what is sent to workers: calls, initializers, and answers to questions about missing names.

That runs users' code, so none of it is done under the lock of the pool's state. One lock keeps two threads from doing
it at once.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from amltk._notes import add_note, safe_repr
from amltk.scheduling.executors._transfer.unpicklable import explain_call
from amltk.scheduling.executors.process_pool._io.pace import Pace
from amltk.scheduling.executors.process_pool._pickling import main_module
from amltk.scheduling.executors.process_pool._pickling.definitions import Definition, Definitions
from amltk.scheduling.executors.process_pool._pickling.pickles import CallPickler, make_pickler
from amltk.scheduling.executors.process_pool._state.lock_order import Level

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from amltk.scheduling.executors.process_pool._child.initializer import Initializer
    from amltk.scheduling.executors.process_pool._io.link import Link
    from amltk.scheduling.executors.process_pool._pickling.descriptor_lending import Loan
    from amltk.scheduling.executors.process_pool._pickling.pickles import CallPayload
    from amltk.scheduling.executors.process_pool._state.lock_order import PoolLocks
    from amltk.scheduling.executors.process_pool._state.protocol import InSegment
    from amltk.scheduling.executors.process_pool.limits import CallLimits


class Question(NamedTuple):
    """A worker's question: a global of a module, or the module itself if `name` is None."""

    link: Link
    key: int
    module: str
    name: str | None


class Answer(NamedTuple):
    """The program's answer."""

    question: Question
    definition: Definition | None
    payload: bytes


class Packable(Protocol):
    """A call, as far as it is pickled.

    Attributes:
        fn: The function.
        args: Its arguments.
        kwargs: Its keyword arguments.
        payload: The pickled call; None before.
        limits: What it may use, or None.
    """

    fn: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    payload: Any
    limits: CallLimits | None


P = TypeVar("P", bound=Packable)


class Packer:
    """See the module's docstring.

    Args:
        locks: Makes the pool's locks.
        on_new_modules: Called when calls turn out to need modules, which may be imported in advance.
        share: Puts large buffers into shared memory, if that is possible.

    Attributes:
        definitions: What calls refer to.
        pace: For which functions arguments are pickled quickly.
    """

    def __init__(
        self,
        locks: PoolLocks,
        on_new_modules: Callable[[], None],
        share: Callable[[list[memoryview]], Sequence[memoryview] | InSegment],
    ) -> None:
        self.definitions: Definitions = Definitions()
        self.pace: Pace = Pace()
        self._known_modules: set[str] = set()  # needed by calls
        self._pickler = CallPickler(self.definitions)
        self._locks = locks
        self._lock = locks.make(Level.PICKLING)
        self._on_new_modules = on_new_modules
        self._share = share

    def disown(self) -> None:
        """Replace the lock in a forked copy of the process: a thread may hold it that does not exist there."""
        self._lock = self._locks.make(Level.PICKLING)

    def pack(self, calls: Sequence[P]) -> list[tuple[P, BaseException]]:
        """Pickle calls.

        Returns:
            The calls that could not be pickled, with the errors.
        """
        with self._lock:
            return self._pack(calls)[0]

    def pack_quick_ones(self, calls: Sequence[P]) -> tuple[list[tuple[P, BaseException]], Sequence[P]]:
        """The same for the first calls, as long as that is known to be quick, and nothing else is being pickled.

        Returns:
            The calls that could not be pickled, with the errors; and the calls that were left.
        """
        if not self._lock.acquire(blocking=False):
            return [], calls
        try:
            return self._pack(calls, self.pace)
        finally:
            self._lock.release()

    def is_busy(self) -> bool:
        """Whether something is being pickled."""
        return bool(self._lock.locked())

    def _pack(self, calls: Sequence[P], pace: Pace | None = None) -> tuple[list[tuple[P, BaseException]], Sequence[P]]:
        problems: list[tuple[P, BaseException]] = []
        left: Sequence[P] = ()
        pickler = self._pickler
        defined: Any = None
        definition: Definition | None = None
        for n, call in enumerate(calls):
            fn, args, kwargs = call.fn, call.args, call.kwargs
            try:
                if fn is not defined:  # the program cannot have changed it since the last call
                    if pace is not None and not pace.is_quick(fn):
                        left = calls[n:]
                        break
                    definition = pickler.definition(fn)
                    defined = fn
                payload: CallPayload = pickler.payload(fn, definition, args, kwargs)
                call.payload = payload if not payload[2] else self._with_shared_buffers(payload, call.limits)
                del payload  # the traceback of the next one's error would keep it
            except BaseException as raised:  # noqa: BLE001 - this is the call's outcome
                error = explain_call(raised, fn, args, kwargs, make_pickler)
                add_note(error, f"raised while pickling a call of {safe_repr(fn)} for a worker process")
                problems.append((call, error))
        if len(self.definitions.modules) > len(self._known_modules):
            self._on_new_modules()
        return problems, left

    def _with_shared_buffers(self, payload: CallPayload, limits: CallLimits | None) -> CallPayload:
        number, pickled, buffers, uses = payload
        if limits is not None and limits.memory is not None:
            return payload  # what the call uses must count as its own
        assert isinstance(buffers, list)
        return number, pickled, self._share(buffers), uses

    def take_modules(self) -> set[str]:
        """The modules that calls have turned out to need since the last time."""
        new = self.definitions.modules.copy() - self._known_modules
        self._known_modules |= new
        return new

    def pack_initializer(self, link: Link, initialize: Initializer) -> bytes:
        """Pickle the initializer for a new worker, with the definitions that it needs.

        Raises:
            Exception: Whatever the methods of the user's objects raise, or a `pickle.PicklingError`.
        """
        with self._lock:
            _, payload, buffers, uses = initialize.payload(self.definitions)
        return pickle.dumps((list(link.news(definitions_of(uses))), payload, list(map(bytes, buffers))), 5)

    def find_answers(self, questions: Iterable[Question]) -> list[Answer]:
        """Find the answers to workers' questions."""
        return [self._find_answer(question) for question in questions]

    def _find_answer(self, question: Question) -> Answer:
        _, _, module, name = question
        with self._lock:
            try:
                if name is None:
                    told = main_module.answer(module)
                    return Answer(question, None, b"" if told is None else pickle.dumps(told))
                definition = self.definitions.of_global(module, name)
                needed = [] if definition is None else [piece.number for piece in definition.pieces]
                return Answer(question, definition, pickle.dumps(needed) if needed else b"")
            except BaseException as error:  # noqa: BLE001 - raised where the name is looked up
                problem = f"{name!r} of the program's {module} cannot be sent to a worker: {safe_repr(error)}"
                return Answer(question, None, problem.encode())

    def forget_old_values(self) -> None:
        """Drop values of the program that are no longer globals, unless calls are being packed right now."""
        if self._lock.acquire(blocking=False):
            try:
                self.definitions.prune()
            finally:
                self._lock.release()

    def forget_all(self) -> None:
        """Drop everything of the program: nothing more is sent."""
        if self._lock.acquire(blocking=False):
            self.definitions.clear()
            self._lock.release()
        else:  # a call that was cancelled is still being pickled
            self.definitions = Definitions()
        self._pickler = CallPickler(self.definitions)


def definitions_of(uses: Iterable[Definition | Loan]) -> list[Definition]:
    """The definitions among what a payload uses."""
    return [use for use in uses if isinstance(use, Definition)]
