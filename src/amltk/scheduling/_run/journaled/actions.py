"""What is recorded about submissions by callbacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amltk._labels import call_label
from amltk.exceptions import JournalError
from amltk.journal.kinds import Kind
from amltk.journal.reference import CallReference
from amltk.scheduling._journal.action import Action
from amltk.scheduling._journal.equality import are_same
from amltk.scheduling._journal.values import dump_arguments, dump_error, load
from amltk.scheduling._nested import CONTAINERS, find, replaced
from amltk.scheduling.executors.capabilities import Identity
from amltk.scheduling.executors.shared import SHARED, Content, Shared
from amltk.scheduling.future import FUTURES, Future, task_name

if TYPE_CHECKING:
    from amltk.scheduling._journal.run_journal import RunJournal

_MAY_HOLD_SHARED = SHARED | CONTAINERS
"""The types of arguments that are shared objects, or may contain some."""


def arguments_of(
    future: Future[Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call as they are recorded: with references in place of futures and shared objects."""
    if future.is_dependent:
        args, kwargs = future.args, future.kwargs
    else:
        is_plain = _MAY_HOLD_SHARED.isdisjoint(map(type, args)) and (
            not kwargs or _MAY_HOLD_SHARED.isdisjoint(map(type, kwargs.values()))
        )
        if is_plain or not find((args, kwargs), SHARED):
            return args, kwargs
    return replaced(args, FUTURES | SHARED, _reference), replaced(kwargs, FUTURES | SHARED, _reference)


_PLAIN = {int, float, str}

_NOTHING: dict[str, Any] = {}


def more_of(future: Future[Any], journal: RunJournal) -> dict[str, Any]:
    """The other fields in the head of a submission: see `amltk.journal.kinds.Submission`."""
    call = future.call
    if not future.is_dependent and (call is None or (call.folder is None and call.demand is None)):
        return _NOTHING
    more: dict[str, Any] = {}
    if call is not None and call.folder is not None and call.folder.parent == journal.folder.calls:
        more["place"] = int(call.folder.name)
    if call is not None and call.demand is not None:  # amounts that depend on the call are left out
        more["resources"] = {name: told for name, told in call.demand.amounts.items() if type(told) in _PLAIN}
    if future.is_dependent:
        more["after"] = [other.number for other in future.dependencies if other.number >= 0]
    return more


def submission(
    future: Future[Any], args: tuple[Any, ...], kwargs: dict[str, Any], journal: RunJournal, following: int
) -> Action:
    """The action of a submission; if the future has no number yet, it gets the following one."""
    task = task_name(future)
    number = future.number if future.number >= 0 else following
    recorded = arguments_of(future, args, kwargs)

    def label() -> str:
        return f"call {number} is {task}{call_label('', *recorded)}"

    head = {"task": task, **more_of(future, journal)}
    return Action(Kind.SUBMISSION, number, head, dump_arguments(task, *recorded), recorded, label)


def _reference(value: Future[Any] | Shared[Any]) -> CallReference | Content:
    return Content(value.digest()) if isinstance(value, Shared) else CallReference(value.number)


def identity_of(future: Future[Any]) -> Identity:
    """What a call is recognised by where its executor has it: its number, and which try of a plugin it is."""
    task = task_name(future)
    given = arguments_of(future, future.args, future.kwargs)
    head, value = f"{task}\0".encode(), dump_arguments(task, *given)

    def is_same(what: bytes) -> bool:
        if not what.startswith(head):
            return False
        kept = what[len(head) :]
        try:
            return kept == value or are_same(load(kept, lambda: f"what job {future.number} was given"), given)
        except JournalError:
            return False  # its types are not there any more

    return Identity(job_name_of(future), head + value, is_same)


def job_name_of(future: Future[Any]) -> str:
    """The name of a call where its executor has it: its number, with that of the try from a plugin's second one on."""
    attempt = 1 if future.call is None else future.call.attempt
    return str(future.number) if attempt == 1 else f"{future.number}-{attempt}"


def failure(future: Future[Any], error: BaseException) -> Action:
    """The action of ending a call that was not computed."""
    number = future.number
    head = {"type": type(error).__name__, "message": str(error)}
    return Action(Kind.EXCEPTION, number, head, dump_error(error), None, lambda: f"call {number} is not computed")
