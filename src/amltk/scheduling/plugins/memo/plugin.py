"""The plugin that has equal calls computed once."""

from __future__ import annotations

import logging
import sys
import warnings
from concurrent.futures import BrokenExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, TypeGuard

from amltk._checks import check_bool
from amltk._notes import safe_repr
from amltk.exceptions import TaskLimitError, WorkerLostError
from amltk.scheduling.call import Outcome
from amltk.scheduling.executors.light_future import Answer
from amltk.scheduling.plugin import PassingPlugin
from amltk.scheduling.plugins._support.keys.arguments import (
    DEFAULT_IGNORE,
    check_ignore,
    check_key,
    keys_of,
    with_arguments,
)
from amltk.scheduling.plugins._support.keys.canonical import combine, digest
from amltk.scheduling.plugins._support.keys.source import source_digest
from amltk.scheduling.plugins.memo.pickles import pack, unpack
from amltk.scheduling.plugins.memo.store import Kind, store_at

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable

    from amltk.scheduling.call import Call
    from amltk.scheduling.events import Subscription
    from amltk.scheduling.future import Future
    from amltk.scheduling.plugins._support.keys.arguments import FunctionKeys
    from amltk.scheduling.plugins.memo.store import Kept
    from amltk.scheduling.scheduler import Scheduler
    from amltk.scheduling.task import Task

_log = logging.getLogger(__name__)

_NOT_OF_THE_FUNCTION = (WorkerLostError, BrokenExecutor, TaskLimitError)
"""Errors that another attempt need not have."""


class Memo(PassingPlugin):
    """Has equal calls computed once, now and in every later session of the program.

    ```python
    training = scheduler.task(train, plugins=Memo("search/memo"))
    ```

    Results are kept in a folder. A call whose result is there is not computed: its future ends with a copy of it, with
    the events of any other call. Calls that are equal to one that is pending share its computation, and each has its
    own future and its own ending. If that computation is cancelled, or ends with an error, which is not kept, the next
    of these calls is computed.

    Calls are equal if the function has the same name, in the same module, and receives equal arguments of the same
    types; `f(1)` is `f(x=1)`. Defaults, the object of a method and the variables that a function has captured count as
    arguments. The order of dicts and sets does not matter. Arrays of NumPy, objects of pandas and tables of PyArrow
    are compared by their content. What the function reads besides, such as files and globals, is not known here. With
    futures as arguments, calls are compared by their results, once these are known; results that have stayed on a
    worker (`RemoteResults`) need a `key`.

    Several programs may use a folder at the same time, also over a network file system: each sees what the others have
    kept. Results are pickles: use only folders of people that you trust. One plugin may serve several tasks.

    It counts with a `Limiter` like any other call, and a `Retry` tries a kept error no more. It cannot be combined with
    `Comm`: a call that is not computed sends no messages.

    Args:
        folder: Where the results are kept; made if it is not there, for this user only.
        key: Called with the arguments of a call; calls are equal if it returns equal values. For arguments whose
            content is not known here, or of which only a part matters. None to compare the arguments.
        ignore: The names of parameters, or of captured variables, that do not matter.
        version: A number or text to be changed when results kept before do not hold any more. A function that was
            edited does not do this by itself: a warning says so, once.
        errors: Whether exceptions of the function are kept as well. Lost workers and reached limits never are.

    Raises:
        JournalError: The folder cannot be made, read or written.
        TypeError: An argument has a type that is not allowed. A submission raises it if one of its arguments can not be
            compared; the message names the argument.

    Attributes:
        n_hits: How many calls were not computed, since their result was kept.
        n_misses: How many were computed.
        n_shared: How many shared the computation of an equal one.
    """

    name = "memo"

    def __init__(
        self,
        folder: str | os.PathLike[str],
        key: Callable[..., Any] | None = None,
        ignore: Iterable[str] = DEFAULT_IGNORE,
        version: int | str = 1,
        errors: bool = False,
    ) -> None:
        if type(version) not in {int, str}:
            raise TypeError(f"version={version!r}: must be a whole number or a text")
        self.key: Callable[..., Any] | None = check_key(key)
        self.ignore: tuple[str, ...] = check_ignore(ignore)
        self.version: int | str = version
        self.errors: bool = check_bool("errors", errors)
        self.n_hits: int = 0
        self.n_misses: int = 0
        self.n_shared: int = 0
        # Python's, too: each writes code in its own way, and an update of it is no edit.
        self._of_version = f"{version!r} on Python {sys.version_info.major}.{sys.version_info.minor}"
        self._store = store_at(folder)
        self._keys: dict[Task[..., Any], FunctionKeys] = {}
        self._codes: dict[Task[..., Any], str | None] = {}
        self._closing: dict[Task[..., Any], Subscription] = {}
        self._pending: dict[tuple[Scheduler, bytes], _Computation] = {}
        self._unanswered: dict[Call, bytes] = {}  # submitted in a replay; their keys
        self._warned: set[str] = set()

    def attach_task(self, task: Task[..., Any]) -> None:
        """Have equal calls of this task computed once.

        Raises:
            ValueError: The task has a `Comm`, or its function has no parameter of a name in `ignore`.
        """
        _check_plugins(task)
        self._keys[task] = keys_of(task.function, self.ignore, self.key, "Memo")
        self._closing[task] = task.scheduler.on_finished.register(self._store.close, hidden=True)
        self._codes[task] = _code_of(task)
        self._compare_code(task)

    def detach_task(self, task: Task[..., Any]) -> None:
        """Have each call that is submitted from now on computed."""
        self._closing.pop(task).end()
        if task.scheduler.has_run():
            task.scheduler.on_finished.register(self._store.close, hidden=True, max_calls=1)

    def _compare_code(self, task: Task[..., Any]) -> None:
        """Warn if the function was edited since results of it were kept."""
        code, name = self._codes[task], self._keys[task].name
        if code is None or self._store.knows_code(name, self._of_version, code):
            return
        self._store.note_code(name, self._of_version, code)
        if not task.scheduler.has_run():
            self._store.close()
        again = self.version + 1 if isinstance(self.version, int) else "..."
        warnings.warn(
            f"{task.name} was edited since its results were kept in {self._store.path}, and they are used nevertheless:"
            f" if they do not hold any more, write Memo(..., version={again!r}). This is said once",
            stacklevel=7,  # who has made the task
        )

    def prepare(self, call: Call) -> bool:
        """Have the call answered by what is kept or by an equal one, or follow its computation."""
        _check_plugins(call.task)
        with_arguments(call, partial(self._look_up, call))
        return True

    def _look_up(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The same, with the arguments that it is compared by."""
        if call.answer is not None:
            return  # by another plugin
        key = combine("memo", [digest(self.version), self._keys[call.task].key(args, kwargs)])
        if not self._answer_with_kept(call, key):
            self._follow(call, key)

    def resume(self, call: Call) -> None:
        """Answer a call whose result was kept when an earlier session submitted it; have it computed if it is lost."""
        key = self._unanswered.pop(call, None)
        if key is not None and not self._load(call, key):
            call.answer = None
            self._follow(call, key)
            self.n_hits -= 1

    def _follow(self, call: Call, key: bytes) -> None:
        """Have the call computed, or answered by an equal one that is pending."""
        place = call.task.scheduler, key
        computation = self._pending.get(place)
        if computation is None:
            computation = self._pending[place] = _Computation(self._keys[call.task].name, key, call)
            self.n_misses += 1
        else:
            call.answer = Answer()
            computation.sharers[call] = None
            self.n_shared += 1
        call.on_outcome(partial(self._review, computation, call))
        call.on_end(self._end, computation, call)

    def _answer_with_kept(self, call: Call, key: bytes) -> bool:
        """Whether there is a result that was kept, or was when an earlier session of this run submitted the call."""
        # What was kept at that time is not known any more, and decides what callbacks are told: so it is recorded.
        if not call.task.scheduler.once(self._load, call, key):
            return False
        if call.answer is None:  # its outcome is in the journal, or `resume` is called
            call.answer = Answer()
            self._unanswered[call] = key
        self.n_hits += 1
        call.on_end(self._end_hit, call)
        return True

    def _load(self, call: Call, key: bytes) -> bool:
        """Answer a call with a result that was kept, if there is one."""
        kept = self._store.find(key)
        if kept is None or (kept.kind == Kind.ERROR and not self.errors):
            return False
        answer = Answer() if call.answer is None else call.answer
        try:
            self._tell(answer, kept)
        except Exception as error:  # noqa: BLE001 - of any object; the call is computed in this case
            self._say_once(
                f"a kept result of {call.task.name} cannot be loaded, so that it is computed: {safe_repr(error)}"
            )
            return False
        call.answer = answer
        return True

    def _end_hit(self, call: Call) -> None:
        self._unanswered.pop(call, None)
        if call.future is None:  # the submission was refused later
            self.n_hits -= 1

    def _tell(self, answer: Answer, kept: Kept) -> None:
        result, error = unpack(kept, f"kept by the memo {self._store.path}")
        if error is None:
            answer.set_result(result)
        else:
            answer.set_exception(error)

    # ------------------------------------------------------------------ what is computed

    def _review(self, computation: _Computation, call: Call, outcome: Outcome) -> None:
        """Keep a result before anybody is told of it."""
        if call is computation.call and outcome.error is None and not outcome.cancelled:
            self._keep(computation, outcome)

    def _keep(self, computation: _Computation, outcome: Outcome) -> None:
        task = computation.call.task
        is_known = task.scheduler.replaying and self._store.has(computation.key)
        if is_known and outcome.error is None and not computation.sharers:
            return  # nobody needs a copy
        try:
            computation.kept = pack(outcome)
        except Exception as error:  # noqa: BLE001 - of any object
            self._say_once(f"results of {task.name} are not kept, since they cannot be pickled: {safe_repr(error)}")
            return
        if is_known:
            return
        code = self._codes[task]
        if code is not None:
            self._store.note_code(computation.name, self._of_version, code)
        self._store.keep(computation.name, computation.key, computation.kept)
        computation.is_stored = True

    def _end(self, computation: _Computation, call: Call) -> None:
        """Let the calls that share a computation have its outcome, or the next one be computed."""
        if call is not computation.call:
            if call in computation.sharers:  # it was cancelled, or refused later
                del computation.sharers[call]
                self.n_shared -= call.future is None
            return
        future = call.future
        self.n_misses -= future is None
        try:
            self._note_error(computation, future)
        finally:
            if _has_outcome(future, computation.kept):
                del self._pending[call.task.scheduler, computation.key]
                self._tell_sharers(computation, future)
            else:
                self._go_on(computation)

    def _note_error(self, computation: _Computation, future: Future[Any] | None) -> None:
        """Keep the error that a computation has ended with, if it is to be kept."""
        error = None if future is None or future.cancelled() else future.exception()
        if error is None:
            return
        computation.kept = None
        if computation.is_stored:  # another plugin was not content with the result
            computation.is_stored = False
            self._store.forget(computation.key)
        if self.errors and isinstance(error, Exception) and not isinstance(error, _NOT_OF_THE_FUNCTION):
            self._keep(computation, Outcome(None, error, cancelled=False))

    def _tell_sharers(self, computation: _Computation, future: Future[Any]) -> None:
        for answer in [sharer.answer for sharer in computation.sharers]:
            if answer is None or answer.done():
                continue
            try:
                if computation.kept is None:
                    answer.set_result(future.result())  # it cannot be copied
                else:
                    self._tell(answer, computation.kept)
            except Exception as error:  # noqa: BLE001 - of any object that was loaded
                answer.set_exception(error)
        computation.sharers.clear()

    def _go_on(self, computation: _Computation) -> None:
        """Have the oldest of the calls that share a computation computed."""
        computation.kept, computation.is_stored = None, False
        for call in list(computation.sharers):
            del computation.sharers[call]
            if call.future is not None and not call.future.done():
                self.n_shared -= 1
                self.n_misses += 1
                computation.call = call
                _compute(call)
                return
        del self._pending[computation.call.task.scheduler, computation.key]

    def _say_once(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            _log.warning("%s", text)

    def status(self) -> str:
        """How many calls were not computed, were computed, and shared a computation."""
        return f"hits {self.n_hits} · misses {self.n_misses} · shared {self.n_shared}"


class _Computation:
    """One computation for all equal calls that are pending.

    Attributes:
        name: The name of the function.
        key: What equal calls have in common.
        call: The call that is computed.
        sharers: The others, the oldest first.
        kept: The bytes of the outcome; None before it is there, and if it cannot be pickled.
        is_stored: Whether they were written for this computation.
    """

    def __init__(self, name: str, key: bytes, call: Call) -> None:
        self.name = name
        self.key = key
        self.call = call
        self.sharers: dict[Call, None] = {}
        self.kept: Kept | None = None
        self.is_stored: bool = False


def _has_outcome(future: Future[Any] | None, kept: Kept | None) -> TypeGuard[Future[Any]]:
    """Whether the calls that share a computation can have the outcome of this one, which has ended."""
    if future is None or future.cancelled():
        return False
    return kept is not None or future.exception() is None


def _compute(call: Call) -> None:
    """Have a pending call computed that has waited for an answer. On the loop's thread."""
    future = call.future
    assert future is not None  # it is pending
    call.answer = None
    run = call.task.scheduler.current_run
    if future.work is None or run.pending_calls.settle(future.work) is None:
        return  # the executor is still to be asked, and computes it then
    call.attempt += 1  # so that it is not announced twice
    run.submissions.hand_over_accepted(future, *call.given)


def _code_of(task: Task[..., Any]) -> str | None:
    function: Any = task.function
    while isinstance(function, partial):
        function = function.func
    code = source_digest(function)
    return None if code is None else code.hex()


def _check_plugins(task: Task[..., Any]) -> None:
    from amltk.scheduling.plugins.comm.plugin import CommPlugin  # most programs do without

    if any(isinstance(plugin, CommPlugin) for plugin in task.plugins):
        raise ValueError(
            f"{task.name} has both a Memo and a Comm: a call that is not computed sends no messages. Leave one of them "
            "out, or let the function return what it would send"
        )
