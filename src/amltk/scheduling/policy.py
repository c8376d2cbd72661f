"""What to do about an exception or a cancellation: pure decisions, made from what the user gave to `run`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast, get_args

from amltk._checks import check_bool, check_seconds

Reaction: TypeAlias = Literal["raise", "end", "continue"]
"""`"raise"` ends the run and raises, `"end"` ends it and reports in the `ExitState`, `"continue"` goes on."""

OnException: TypeAlias = "Reaction | Mapping[type[Exception], Reaction]"
"""One reaction for all exceptions, or one for each type, tried in order; a type that is not named is raised."""

REACTIONS: tuple[str, ...] = get_args(Reaction)


def check_reaction(value: object, name: str) -> Reaction:
    """Return `value` if it is a reaction, or raise an error that names the argument `name`."""
    if isinstance(value, str) and value in REACTIONS:
        return cast("Reaction", value)
    raise ValueError(f"{name}={value!r}: must be one of {', '.join(map(repr, REACTIONS))}")


class ExceptionPolicy:
    """Decides what an exception does to the run.

    Args:
        given: What the user gave as `on_exception=`.

    Raises:
        ValueError: A reaction is not one of `REACTIONS`, or a type in the mapping is one that always ends the run.
        TypeError: A key of the mapping is not a type of exception, or `given` is neither a reaction nor a mapping.
    """

    def __init__(self, given: OnException) -> None:
        if isinstance(given, Mapping):
            self._by_type = [_check_entry(kind, reaction) for kind, reaction in given.items()]
            self._otherwise: Reaction = "raise"
        elif isinstance(given, str):
            self._by_type = []
            self._otherwise = check_reaction(given, "on_exception")
        else:
            raise TypeError(
                f"on_exception={given!r}: must be one of {', '.join(map(repr, REACTIONS))}"
                " or a mapping from types of exception to one of them"
            )

    def decide(self, exception: BaseException) -> Reaction:
        """The reaction to `exception`; one that is no `Exception` (KeyboardInterrupt, SystemExit) is always raised."""
        if not isinstance(exception, Exception):
            return "raise"
        for kind, reaction in self._by_type:
            if isinstance(exception, kind):
                return reaction
        return self._otherwise


@dataclass(frozen=True)
class RunOptions:
    """What the user gave to `Scheduler.run`, checked; its docstring says what each one means."""

    timeout: float | None
    end_on_empty: bool
    wait: bool
    on_exception: ExceptionPolicy
    on_cancelled: Reaction

    @classmethod
    def check(
        cls, *, timeout: object, end_on_empty: object, wait: object, on_exception: OnException, on_cancelled: object
    ) -> RunOptions:
        """Check each option.

        Raises:
            ValueError: One has a value that is not allowed.
            TypeError: One has a type that is not allowed.
        """
        return cls(
            timeout=None if timeout is None else check_seconds("timeout", timeout),
            end_on_empty=check_bool("end_on_empty", end_on_empty),
            wait=check_bool("wait", wait),
            on_exception=ExceptionPolicy(on_exception),
            on_cancelled=check_reaction(on_cancelled, "on_cancelled"),
        )


def _check_entry(kind: object, reaction: object) -> tuple[type[Exception], Reaction]:
    if not (isinstance(kind, type) and issubclass(kind, BaseException)):
        raise TypeError(f"on_exception: the key {kind!r} must be a type of exception, such as ValueError")
    if not issubclass(kind, Exception):
        raise ValueError(
            f"on_exception: {kind.__name__} cannot be a key, since it always ends the run; use Exception or a subclass"
        )
    return kind, check_reaction(reaction, f"on_exception[{kind.__name__}]")
