"""How to react to an exception or a cancellation: pure decisions, made from the options of `run`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast, get_args

from amltk._checks import check_bool, check_optional_seconds

if TYPE_CHECKING:
    from amltk.scheduling._journal.options import Journal

Reaction: TypeAlias = Literal["raise", "end", "continue"]
"""`"raise"` ends the run and raises, `"end"` ends it and reports in the `ExitState`, `"continue"` carries on."""

OnException: TypeAlias = "Reaction | Mapping[type[Any], Reaction]"
"""One reaction for all exceptions, or one for each type, tried in order; an exception of any other type is raised.

The keys are exception types. They are annotated as any type because, to type checkers, a mapping from `type[OSError]`
is not a mapping from `type[Exception]`.
"""

REACTIONS: tuple[str, ...] = get_args(Reaction)

TimeoutFrom: TypeAlias = Literal["start", "first-worker"]
"""From when on a timeout counts."""


def check_reaction(value: object, name: str) -> Reaction:
    """Return `value` if it is a reaction, or raise an error that names the argument `name`."""
    if isinstance(value, str) and value in REACTIONS:
        return cast("Reaction", value)
    raise ValueError(f"{name}={value!r}: must be one of {', '.join(map(repr, REACTIONS))}")


class ExceptionPolicy:
    """Decides how the run reacts to an exception.

    Args:
        given: The user's option.
        name: The name of the option, for messages.

    Raises:
        ValueError: A reaction is not one of `REACTIONS`, or a type in the mapping is one that always ends the run when
            it is raised in this process.
        TypeError: A key of the mapping is not an exception type, or `given` is neither a reaction nor a mapping.
    """

    def __init__(self, given: OnException, name: str = "on_exception") -> None:
        if isinstance(given, Mapping):
            self._by_type = [_check_entry(kind, reaction, name) for kind, reaction in given.items()]
            self._otherwise: Reaction = "raise"
        elif isinstance(given, str):
            self._by_type = []
            self._otherwise = check_reaction(given, name)
        else:
            raise TypeError(
                f"{name}={given!r}: must be one of {', '.join(map(repr, REACTIONS))}"
                " or a mapping from types of exception to one of them"
            )

    def decide(self, exception: BaseException) -> Reaction:
        """The reaction to `exception`, which may be of any type."""
        for kind, reaction in self._by_type:
            if isinstance(exception, kind):
                return reaction
        return self._otherwise

    def decide_again(self, exception: BaseException) -> Reaction:
        """The reaction to one that follows from another, to which the run has reacted: only a type named counts."""
        for kind, reaction in self._by_type:
            if kind is type(exception):
                return reaction
        return "continue"


_OUTCOME = "_amltk_outcome"


def note_outcome(error: BaseException) -> None:
    """Note that it is the outcome of a call: raising it again, by awaiting the call, does not request the end."""
    vars(error)[_OUTCOME] = True  # bypasses a user-defined `__setattr__`


def ends_program(error: BaseException) -> bool:
    """Whether an exception raised in this process requests its end, so that no policy applies: Ctrl-C, `sys.exit()`."""
    return not isinstance(error, Exception) and _OUTCOME not in vars(error)


@dataclass(frozen=True)
class RunOptions:
    """The checked options of `Scheduler.run`, whose docstring explains them."""

    timeout: float | None
    end_on_empty: bool
    wait: bool
    on_exception: ExceptionPolicy
    on_callback_exception: ExceptionPolicy
    on_cancelled: Reaction
    journal: Journal | None = None
    timeout_from: TimeoutFrom = "start"

    @classmethod
    def check(
        cls,
        *,
        timeout: object,
        end_on_empty: object,
        wait: object,
        on_exception: OnException,
        on_callback_exception: OnException,
        on_cancelled: object,
        journal: object = None,
        timeout_from: object = "start",
    ) -> RunOptions:
        """Check each option.

        Raises:
            ValueError: An option has a value that is not allowed.
            TypeError: An option has a type that is not allowed.
        """
        return cls(
            timeout=check_optional_seconds("timeout", timeout),
            end_on_empty=check_bool("end_on_empty", end_on_empty),
            wait=check_bool("wait", wait),
            on_exception=ExceptionPolicy(on_exception),
            on_callback_exception=ExceptionPolicy(on_callback_exception, "on_callback_exception"),
            on_cancelled=check_reaction(on_cancelled, "on_cancelled"),
            journal=None if journal is None else _check_journal(journal),
            timeout_from=_check_timeout_from(timeout_from),
        )


def _check_timeout_from(given: object) -> TimeoutFrom:
    allowed = get_args(TimeoutFrom)
    if isinstance(given, str) and given in allowed:
        return cast("TimeoutFrom", given)
    raise ValueError(f"timeout_from={given!r}: must be one of {', '.join(map(repr, allowed))}")


def _check_journal(given: object) -> Journal | None:
    from amltk.scheduling._journal.options import check_journal  # few programs need it

    return check_journal(given)


def _check_entry(kind: object, reaction: object, name: str) -> tuple[type[BaseException], Reaction]:
    if not (isinstance(kind, type) and issubclass(kind, BaseException)):
        raise TypeError(f"{name}: the key {kind!r} must be a type of exception, such as ValueError")
    if kind is BaseException or issubclass(kind, KeyboardInterrupt | SystemExit):
        raise ValueError(
            f"{name}: {kind.__name__} cannot be a key, since Ctrl-C and sys.exit() in this process always end the run;"
            ' use Exception or a subclass, or one reaction for everything, such as "continue"'
        )
    return kind, check_reaction(reaction, f"{name}[{kind.__name__}]")
