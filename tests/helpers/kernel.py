"""A real Jupyter kernel, driven as a notebook's front end does it."""

from __future__ import annotations

import os
import re
import textwrap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from tests.helpers.gate import GUARD
from tests.helpers.script import PATHS

if TYPE_CHECKING:
    from pathlib import Path

    from jupyter_client.blocking import BlockingKernelClient
    from jupyter_client.manager import KernelManager

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class Cell:
    """What the execution of a cell has brought.

    Attributes:
        text: What it printed, stderr included.
        result: The text of its value; "" for None.
        error: The name of the exception that came out of it, or None.
        traceback: What the notebook shows of that exception, without colours.
        displays: The output areas that it made, by their ids where they have one: what each showed at first.
        updates: How often each of these was replaced.
    """

    text: str = ""
    result: str = ""
    error: str | None = None
    traceback: str = ""
    displays: list[dict[str, Any]] = field(default_factory=list)
    updates: list[str] = field(default_factory=list)
    status: str = ""

    @property
    def lines(self) -> list[str]:
        """What it printed, line by line."""
        return self.text.splitlines()


class Kernel:
    """A kernel of its own process, and a client of it.

    Args:
        folder: Where Jupyter keeps its files.
    """

    def __init__(self, folder: Path) -> None:
        from jupyter_client.manager import KernelManager

        names = ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR")
        env = {name: str(folder / name.lower()) for name in names}
        os.environ.update(env)
        self._manager: KernelManager = KernelManager(kernel_name="python3")
        self._manager.start_kernel(env={**os.environ, **env, "PYTHONPATH": os.pathsep.join(PATHS)}, cwd=str(folder))
        self._client: BlockingKernelClient = self._manager.client()

    def __enter__(self) -> Self:
        self._client.start_channels()
        self._client.wait_for_ready(timeout=GUARD)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)

    def interrupt(self):
        self._manager.interrupt_kernel()

    def execute(self, source: str, *, interrupt_at: str | None = None) -> Cell:
        """Execute a cell to its end.

        Args:
            source: Its text; indentation that all of its lines share is taken off.
            interrupt_at: "Interrupt kernel" as soon as it has printed this.
        """
        request = self._client.execute(textwrap.dedent(source))
        cell = Cell()
        while True:
            message = self._client.get_iopub_msg(timeout=GUARD)
            if message["parent_header"].get("msg_id") != request:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                cell.text += content["text"]
                if interrupt_at is not None and interrupt_at in cell.text:
                    interrupt_at = None
                    self._manager.interrupt_kernel()
            elif kind == "execute_result":
                cell.result = content["data"]["text/plain"]
            elif kind == "display_data":
                cell.displays.append(content)
            elif kind == "update_display_data":
                cell.updates.append(content)
            elif kind == "error":
                cell.error = content["ename"]
                cell.traceback = _COLOURS.sub("", "\n".join(content["traceback"]))
            elif kind == "status" and content["execution_state"] == "idle":
                return cell
