"""The plugin that gives a comm to each call of a task."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from amltk.scheduling.plugin import GivingPlugin
from amltk.scheduling.plugins.comm._driver.connected import ConnectedConversation
from amltk.scheduling.plugins.comm._driver.listener import address_of
from amltk.scheduling.plugins.comm._driver.server import Server
from amltk.scheduling.plugins.comm.direct import DirectConversation
from amltk.scheduling.plugins.comm.messages import EVENTS, MsgKind
from amltk.scheduling.plugins.wrapping import Wrapper

if TYPE_CHECKING:
    from amltk.scheduling._run.run import Run
    from amltk.scheduling.call import Call
    from amltk.scheduling.events import Event
    from amltk.scheduling.plugins.comm.comm import Source
    from amltk.scheduling.task import Task


class CommPlugin(GivingPlugin):
    """Gives each call of a task a comm, and adds the events `OPEN`, `MESSAGE`, `REQUEST` and `CLOSE` to the task.

    All tasks of a run share one listener, which exists from the first such submission to the end of the run: a Unix
    socket that only this user can open; or TCP if workers may be on other machines, or an interface is set. Both sides
    prove that they know a key, which is created for the run and sent with the calls. What they send after that is not
    encrypted. A call that does not open its comm needs no connection.

    One plugin may serve several tasks.

    Args:
        parameter_name: The keyword argument of the function that takes the comm.
        interface: Where to listen on TCP: the name of a network interface such as `"eth0"`, or an IP address of this
            machine, by which workers reach it. None for a Unix socket if all workers are on this machine, and else for
            the address by which the workers of a cluster reach it: the one from which this program is connected to
            Dask's scheduler, that of `with_slurm(interface=...)`, that of Ray's node, or the one towards Slurm's
            controller. Where none of these is known, the loopback interface.

    Raises:
        ValueError: `parameter_name` is not a valid parameter name, or the interface does not exist.
        TypeError: An argument is not a string.
    """

    name = "comm"

    def __init__(self, parameter_name: str = "comm", *, interface: str | None = None) -> None:
        self.parameter_name: str = _check_text("parameter_name", parameter_name)
        if not parameter_name.isidentifier():
            raise ValueError(f"{parameter_name=}: must be the name of a parameter")
        self.interface: str | None = None if interface is None else _check_text("interface", interface)
        if interface is not None:
            address_of(interface)  # so that a wrong interface raises here
        self._tasks: list[Task[..., Any]] = []

    def attach_task(self, task: Task[..., Any]) -> None:
        """Prepare for a task.

        Raises:
            ValueError: The task's function does not take the parameter.
        """
        if not _takes_keyword(task.function, self.parameter_name):
            raise ValueError(
                f"{task.name} must take a keyword argument {self.parameter_name!r} for its comm, as in"
                f" `def {task.name}(..., *, {self.parameter_name})`; or pass another name to Comm.Plugin"
            )
        self._tasks.append(task)

    def detach_task(self, task: Task[..., Any]) -> None:
        """Give comms to its calls no more."""
        self._tasks.remove(task)

    def events(self) -> list[Event[..., Any]]:
        """The four events of a comm."""
        return list(EVENTS.values())

    def prepare(self, call: Call) -> bool:
        """Pass a comm to the call.

        Raises:
            ValueError: The submission already has an argument of that name.
        """
        if self.parameter_name in call.kwargs:
            raise ValueError(f"{self.parameter_name}=...: the plugin passes the comm of a call; do not submit it")
        from amltk.scheduling.plugins.comm.comm import Comm  # imported here, since it refers to this class

        comm = Comm(self._source(call, call.task.scheduler.current_run))
        call.on_end(comm.part)
        call.kwargs[self.parameter_name] = comm
        call.function = Wrapper(call.function, comm.lasting)
        return True

    def _source(self, call: Call, run: Run) -> Source:
        capabilities = call.task.scheduler.executor_kind.capabilities
        if capabilities.in_loop:
            direct = DirectConversation(call, run)
            call.on_outcome(direct.review)
            return direct

        def make_server() -> Server:
            interface = self.interface
            if interface is None and capabilities.places_calls:
                executor: Any = call.task.scheduler.executor
                interface = executor.driver_address()
            return Server(run.loop, interface, remote=capabilities.remote)

        server = run.resources.get(("comm", self.interface), make_server)
        conversation = ConnectedConversation(call, run, server)
        call.on_outcome(conversation.review)
        call.on_end(conversation.drop)
        return conversation.ticket

    def status(self) -> str:
        """How many comms are open."""
        opened = sum(task.channel(EVENTS[MsgKind.OPEN]).count for task in self._tasks)
        closed = sum(task.channel(EVENTS[MsgKind.CLOSE]).count for task in self._tasks)
        return f"{opened - closed} open"


def _check_text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name}={value!r}: must be a string, not {type(value).__name__}")
    return value


def _takes_keyword(function: Any, name: str) -> bool:
    try:
        parameters = inspect.signature(function).parameters
    except (ValueError, TypeError):
        return True  # it has no signature
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return True
    return name in parameters and parameters[name].kind in {
        inspect.Parameter.KEYWORD_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    }
