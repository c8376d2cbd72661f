"""The heads of the records that every call has, as JSON that is assembled here, which takes little time."""

from __future__ import annotations

from json.encoder import encode_basestring_ascii as quoted
from typing import TYPE_CHECKING, Any

from amltk.journal.format import encode_head

if TYPE_CHECKING:
    from collections.abc import Mapping

    from amltk.scheduling.executors.execution_info import ExecutionInfo

_digits = float.__repr__


class SubmissionHeads:
    """Heads of submissions by callbacks. Each begins with the task and with the input that the callback answers."""

    def __init__(self) -> None:
        self._begins: dict[str, str] = {}

    def begin(self, task: str, by: int) -> bytes:
        """The bytes with which the head of such a submission begins, and no other head does.

        Args:
            task: The name of the task.
            by: The number of the record of the input.
        """
        return f'{self._begins.get(task) or self._begin(task)}{by},"'.encode("ascii")

    def head(self, task: str, by: int, arguments: str, **more: Any) -> bytes:
        """The head of a submission with these arguments, which are a short text; `more` comes last."""
        begin = self._begins.get(task) or self._begin(task)
        last = f",{encode_head(more)[1:-1].decode('ascii')}" if more else ""
        return f'{begin}{by},"arguments":{quoted(arguments)}{last}}}'.encode("ascii")

    def _begin(self, task: str) -> str:
        begin = self._begins[task] = f'{{"task":{quoted(task)},"by":'
        return begin


def outcome_head(info: ExecutionInfo | None, number: float | None) -> bytes:
    """The head of a result; see `amltk.journal.kinds.Outcome`.

    Args:
        info: Where and when it was computed; None if that is not known.
        number: What the call returned, if that is a number.
    """
    if info is None and (number is None or number - number == 0):
        return b"{}" if number is None else f'{{"number":{_digits(number)}}}'.encode("ascii")
    if info is not None and type(began := info.began) is float and type(ended := info.ended) is float:
        duration = ended - began
        known = began + duration if number is None else began + duration + number
        if known - known == 0 and type(host := info.host) is str and type(pid := info.pid) is int:
            last = "" if number is None else f',"number":{_digits(number)}'
            # Rounded, since all digits of such a float take three times as long.
            times = f'"began":{began:.6f},"duration":{duration:.9f}'
            if info.cpu is not None:
                times = f'{times},"cpu":{info.cpu:.6f},"memory":{info.memory or 0}'
            return f'{{{times},"host":{quoted(host)},"pid":{pid}{last}}}'.encode("ascii")
    fields = outcome_fields(info)
    if number is not None:
        fields["number"] = number
    return encode_head(fields)  # something is not known, or is infinite, which JSON writes in another way


def outcome_fields(info: ExecutionInfo | None, devices: tuple[str, ...] = ()) -> dict[str, Any]:
    """The fields in the head of any outcome that say where and when it was computed, and with which devices."""
    if info is None:
        return {"devices": devices} if devices else {}
    duration = None if info.began is None or info.ended is None else info.ended - info.began
    fields: Mapping[str, Any] = {
        "began": info.began,
        "duration": duration,
        "cpu": info.cpu,
        "memory": info.memory,
        "host": info.host,
        "pid": info.pid,
        "devices": devices or None,
    }
    return {name: value for name, value in fields.items() if value is not None}
