"""A real Jupyter kernel, driven as a notebook front end does."""

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
    """Environment variables that point Jupyter to this folder."""
    names = ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR")
    return {name: str(folder / name.lower()) for name in names}


@dataclass
class Cell:
    """The output of one executed cell.

    Attributes:
        printed: Its output, including stderr.
        result: The text of its value; "" for None.
        error: The name of the exception it raised, or None.
        areas: The id of each output area it created.
        shown: What was displayed in these areas, in order: the id and the content by MIME type.
    """

    printed: str = ""
    result: str = ""
    error: str | None = None
    areas: list[str] = field(default_factory=list)
    shown: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def note(self, kind: str, content: dict[str, Any]) -> None:
        """Process a message from the kernel."""
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
    """A kernel in a separate process, and a client for it.

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
        """What the "Interrupt kernel" button does."""
        self._manager.interrupt_kernel()

    def restart(self) -> None:
        """What the "Restart kernel" button does when the kernel is busy."""
        self._manager.restart_kernel(now=True)
        self._client.wait_for_ready(timeout=GUARD)

    def execute(self, source: str) -> Cell:
        """Execute a cell to its end; common indentation is removed."""
        return self.end(self.begin(source))

    def begin(self, source: str) -> str:
        """Start executing a cell; pass the return value to `end`."""
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
