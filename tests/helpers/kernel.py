"""A real Jupyter kernel, driven as a notebook's front end does it."""

from __future__ import annotations

import os
import re
import subprocess
import textwrap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from tests.helpers.gate import GUARD
from tests.helpers.script import PATHS

if TYPE_CHECKING:
    from pathlib import Path

    from jupyter_client.blocking.client import BlockingKernelClient

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def environment(folder: Path) -> dict[str, str]:
    """Where Jupyter keeps its things."""
    names = ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR")
    return {name: str(folder / name.lower()) for name in names}


@dataclass
class Cell:
    """What the execution of a cell has brought.

    Attributes:
        printed: What it printed, stderr included.
        result: The text of its value; "" for None.
        error: The name of the exception that came out of it, or None.
        areas: The id of each area of output that it made for what it displays.
        shown: What was displayed in these areas, one after the other: the id and the content by MIME type.
    """

    printed: str = ""
    result: str = ""
    error: str | None = None
    areas: list[str] = field(default_factory=list)
    shown: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def note(self, kind: str, content: dict[str, Any]) -> None:
        """Take in a message of the kernel."""
        if kind == "stream":
            self.printed += content["text"]
        elif kind == "execute_result":
            self.result = content["data"]["text/plain"]
        elif kind == "error":
            self.error = content["ename"]
            self.printed += _COLOURS.sub("", content["traceback"][-1]) if self.error == "AssertionError" else ""
        elif kind in ("display_data", "update_display_data"):
            area = content["transient"].get("display_id", "")
            if kind == "display_data":
                self.areas.append(area)
            self.shown.append((area, content["data"]))


class Kernel:
    """A kernel, which is a process of its own, and a client of it.

    Args:
        folder: Where Jupyter keeps its files, and the kernel's working directory.
    """

    def __init__(self, folder: Path) -> None:
        from jupyter_client.manager import KernelManager

        self._folder = folder
        self._manager: Any = KernelManager(kernel_name="python3")
        self._client: BlockingKernelClient

    def __enter__(self) -> Self:
        paths = {"PYTHONPATH": os.pathsep.join(PATHS)}
        self._manager.start_kernel(
            env={**os.environ, **environment(self._folder), **paths},
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._client = self._manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=GUARD)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)
        self._manager.cleanup_resources()

    def interrupt(self) -> None:
        """What the button "Interrupt kernel" does."""
        self._manager.interrupt_kernel()

    def restart(self) -> None:
        """What the button "Restart kernel" does when the kernel is busy."""
        self._manager.restart_kernel(now=True)
        self._client.wait_for_ready(timeout=GUARD)

    def execute(self, source: str) -> Cell:
        """Execute a cell to its end; indentation that all of its lines share is taken off."""
        return self.end(self.begin(source))

    def begin(self, source: str) -> str:
        """Begin to execute a cell; `end` takes what this returns."""
        return str(self._client.execute(textwrap.dedent(source)))

    def end(self, request: str) -> Cell:
        """Wait until the cell has ended."""
        cell = Cell()
        while True:
            message = self._client.get_iopub_msg(timeout=GUARD)
            if message["parent_header"].get("msg_id") == request:
                cell.note(message["msg_type"], message["content"])
                if message["content"].get("execution_state") == "idle":
                    return cell
