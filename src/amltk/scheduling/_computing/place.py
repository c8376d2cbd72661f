"""Where the call that is computed here has a place of its own in the file system."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from amltk.exceptions import CallFolderError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_place: ContextVar[Path | None] = ContextVar("amltk_call_place", default=None)


def call_folder() -> Path:
    """The folder of the call that is being computed: a place of its own, the same at every attempt and after a restart.

    ```python
    def train(lr):
        checkpoint = call_folder() / "model.pt"
        model = load(checkpoint) if checkpoint.exists() else new_model(lr)
    ```

    To be called by the function that is computed, where it is computed. In threads that the function starts there is
    none: pass the folder to them. Write to another file first and rename it, so that a worker that is killed leaves no
    half of a checkpoint.

    Raises:
        CallFolderError: The call has none.
    """
    path = _place.get()
    if path is None:
        raise CallFolderError(
            "there is no call here that has a folder: give its task one by"
            ' scheduler.task(train, plugins=CallFolder("search")), and call call_folder() within the function, on the'
            " thread that computes it"
        )
    return path


@contextmanager
def within(path: Path) -> Iterator[None]:
    """Let `path` be the folder of the call that is computed meanwhile. For what computes it."""
    path.mkdir(0o700, parents=True, exist_ok=True)
    token = _place.set(path)
    try:
        yield
    finally:
        _place.reset(token)
