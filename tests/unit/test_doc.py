"""Helpers for the hidden lines of documentation pages."""

from __future__ import annotations

import pickle
import runpy
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from rich.text import Text

from amltk import _doc
from amltk._doc import doc_print, make_picklable
from amltk.scheduling import Scheduler

if TYPE_CHECKING:
    from pathlib import Path

CODE = """
def fn(x): return x + 1
class Config:
    def double(self): return 2
def outer():
    def fn(x): return x + 2
    return fn
"""


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A substitute `__main__`, so that this process keeps its own."""
    module = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", module)
    monkeypatch.setattr(_doc, "_registered", {})
    return module


def executed(name: str | None = None) -> dict[str, Any]:
    """The names defined by a code block, executed as page builders do."""
    scope: dict[str, Any] = {} if name is None else {"__name__": name}
    exec(CODE, scope)
    return scope


@pytest.mark.parametrize("name", [None, "__main__", "code_block_n1", "builtins"])
def test_what_was_executed_can_be_pickled(main: ModuleType, name: str | None) -> None:
    """Pickle finds a function and a class of executed text, whatever module they claim to be in."""
    scope = executed(name)
    assert make_picklable(scope["fn"]) is scope["fn"]
    assert pickle.loads(pickle.dumps(scope["fn"])) is scope["fn"]
    make_picklable(scope["Config"])
    assert pickle.loads(pickle.dumps(scope["Config"]())).double() == 2


def test_a_local_function_can_be_pickled(main: ModuleType) -> None:
    """A nested function is found under its own name."""
    local = make_picklable(executed()["outer"]())
    assert pickle.loads(pickle.dumps(local)) is local


def test_a_page_that_is_executed_again_takes_its_names_anew(main: ModuleType) -> None:
    """Two blocks may both define `fn`, as when a page is rebuilt: the later one is found."""
    make_picklable(executed()["fn"])
    again = make_picklable(executed()["fn"])
    assert pickle.loads(pickle.dumps(again)) is again


def test_in_a_plain_script_nothing_is_changed(main: ModuleType) -> None:
    """Objects that pickle finds already are left alone, whether from `__main__` or imported."""
    exec(CODE, vars(main))
    before = dict(vars(main))
    for thing in (main.fn, main.Config, main.Config.double, len, Text, make_picklable):
        make_picklable(thing)
    assert vars(main) == before
    assert Text.__module__ == "rich.text"


def test_another_name(main: ModuleType) -> None:
    """A function may be registered under a given name."""
    function = make_picklable(lambda x: x, name="identity")
    assert main.identity is function
    assert pickle.loads(pickle.dumps(function)) is function


def test_what_the_script_has_is_not_replaced(main: ModuleType) -> None:
    """A name that `__main__` uses for something else is rejected, with the remedy."""
    main.fn = 3
    with pytest.raises(ValueError, match=r"name='fn': __main__ has 3 under this name; give another one"):
        make_picklable(executed()["fn"])
    assert main.fn == 3


def test_a_name_that_is_none(main: ModuleType) -> None:
    """A lambda has no usable name: one must be given."""
    with pytest.raises(ValueError, match=r"name='<lambda>': must be an identifier; give one"):
        make_picklable(lambda: None)


@pytest.mark.parametrize("thing", [3, None, object(), Text("x")])
def test_what_is_neither_function_nor_class_is_refused(thing: object) -> None:
    """An object that is neither function nor class is rejected: it has no name to be found by."""
    with pytest.raises(TypeError, match="must be a function or a class"):
        make_picklable(thing)


def test_each_renderable_is_printed_once() -> None:
    """Each picture is one call of the print function, as HTML unless SVG is requested."""
    printed: list[str] = []
    doc_print(printed.append, Scheduler.with_sequential(), "text")
    doc_print(printed.append, "text", output="svg", title="T", fontsize="small", width=40)
    assert [text.partition(" ")[0] for text in printed] == ["<pre", "<pre", "<div"]
    assert 'style="font-size:small"' in printed[2]


def test_an_unknown_output_is_refused() -> None:
    """An unknown output raises an error that shows the given value and the valid ones."""
    with pytest.raises(ValueError, match=r"output='pdf': must be one of 'html', 'svg'"):
        doc_print(print, output="pdf")


def test_no_width_is_refused() -> None:
    """A picture has at least one column."""
    with pytest.raises(ValueError, match="width=0: must be at least 1"):
        doc_print(print, width=0)


def test_the_hidden_line_works_in_a_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A page's block run as a plain script prints its own output, then the picture."""
    script = tmp_path / "script.py"
    script.write_text(
        "from amltk.scheduling import Scheduler\n"
        "def fn(x): return x + 1\n"
        "from amltk._doc import make_picklable; make_picklable(fn)\n"
        "scheduler = Scheduler.with_sequential()\n"
        "scheduler.on_start(lambda: scheduler.submit(fn, 1))\n"
        "scheduler.on_future_result(lambda future, result: print(f'Result: {result}'))\n"
        "scheduler.run()\n"
        "from amltk._doc import doc_print; doc_print(print, scheduler)\n"
    )
    runpy.run_path(str(script), run_name="__main__")
    out = capsys.readouterr().out
    assert out.startswith("Result: 2\n<pre style=")
