"""What a program defines, and how it is started: a worker's `__main__` should match the program's."""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from tests.helpers.script import run_script

if TYPE_CHECKING:
    from pathlib import Path

METHODS = ["forkserver", "spawn", "fork"]

SAME_HERE_AND_THERE = """
import sys
from amltk.scheduling.executors import ProcessPool

def compare(*calls):
    with ProcessPool(1, mp_context=sys.argv[1]) as pool:
        for name, call in calls:
            try:
                there = repr(pool.submit(call).result())
            except Exception as error:
                there = f"{type(error).__name__}: {error}"
            print("same" if there == repr(call()) else f"{name}: {there} instead of {call()!r}")
    print("end")
"""


def check(program: str, method: str) -> None:
    """Run a program that ends with `compare`: each call returns the same in a worker as in the program."""
    source = f"import sys; sys.argv[1:] = [{method!r}]\n{SAME_HERE_AND_THERE}{textwrap.dedent(program)}"
    ended = run_script(source + "\ncompare(*CALLS.items())\n")
    assert (ended.errors, ended.lines[-1:]) == ("", ["end"])
    assert [line for line in ended.lines[:-1] if line != "same"] == []
    assert len(ended.lines) > 1


@pytest.mark.parametrize("method", METHODS)
def test_what_pickle_only_names(method: str) -> None:
    """A program's caches, dispatchers, descriptors, sentinels, aliases and type parameters are available."""
    check(
        """
        import enum, functools, typing
        from collections import namedtuple

        @functools.lru_cache
        def table(n): return list(range(n))
        @functools.cache
        def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
        UserId = typing.NewType("UserId", int)
        class Default:
            def __reduce__(self): return "DEFAULT"
        DEFAULT = Default()
        class Model:
            def __init__(self, n): self.n = n
            @functools.lru_cache
            def cached(self): return self.n + 1
            @functools.cached_property
            def lazy(self): return self.n + 2
            @functools.singledispatchmethod
            def of(self, value): return "anything"
            @of.register
            def _(self, value: int): return "a number"
        @functools.singledispatch
        def describe(value): return "something"
        @describe.register
        def _(value: int): return "a number"
        describe.register(Model, lambda value: value.n)
        T = typing.TypeVar("T", bound=int)
        P = typing.ParamSpec("P")
        class Box(typing.Generic[T]): pass
        class Sized(typing.Protocol):
            def size(self) -> int: ...
        Point = namedtuple("Point", "x y")
        class Colour(enum.Enum):
            RED = 1
        class Outer:
            class Inner:
                def where(self): return type(self).__qualname__
        def nested():
            @functools.cache
            def inner(n): return n + 1
            return lambda: inner(1)
        CALLS = {
            "lru_cache": lambda: sum(table(4)), "recursive": lambda: fib(30), "itself": functools.partial(table, 3),
            "partial": functools.partial(functools.partial(table), 3), "closure": nested(),
            "cached method": Model(1).cached, "cached_property": lambda: Model(1).lazy,
            "partial of a method": functools.partial(Model.cached, Model(3)),
            "singledispatch": lambda: (describe(1), describe("1"), describe(Model(7))),
            "singledispatchmethod": functools.partial(Model(1).of, 1), "NewType": lambda: (UserId(1), UserId.__name__),
            "sentinel": lambda value=DEFAULT: value is DEFAULT, "type parameters": lambda: (T, P, T.__bound__),
            "generic": lambda: Box[int].__args__, "protocol": lambda: Sized.__name__,
            "namedtuple": lambda: Point(1, 2), "enum": lambda: Colour(1) is Colour.RED,
            "nested class": Outer.Inner().where,
        }
        if sys.version_info >= (3, 12):
            exec("type Rate = float\\ndef rate(): return str(Rate), Rate.__value__\\n"
                 "class Bag[U]:\\n    def get(self, x: U): return x, self.__type_params__")
            CALLS |= {"type alias": rate, "type parameters of a class": lambda: str(Bag().get(1))}
        """,
        method,
    )


@pytest.mark.parametrize("method", METHODS)
def test_names_that_are_looked_up_as_text(method: str) -> None:
    """Globals found by `eval`, `globals`, annotations, frames or the module are available; others are not."""
    check(
        """
        import pickle, threading, typing

        class Node:
            next: "Node | None" = None
            all: list["Leaf"]
        class Leaf: pass
        FACTOR, LIMIT, hidden, secret, count = 3, 4, 5, 6, 7
        lock = threading.Lock()  # cannot be pickled; nobody needs it
        def annotated(x: "Node") -> "Leaf": ...
        def from_main():
            from __main__ import secret as found
            return found
        def missing():
            main = sys.modules["__main__"]
            return hasattr(main, "nothing"), hasattr(main, "nothing either")
        def of_caller(): return sys._getframe(1).f_globals["LIMIT"]
        CALLS = {
            "eval": lambda: eval("FACTOR + 1"), "made at run time": lambda: eval("FAC" + "TOR"),
            "globals": lambda: globals()["LIMIT"], "hints": lambda: typing.get_type_hints(annotated),
            "hints of a class": lambda: sorted(typing.get_type_hints(Node)), "from __main__": from_main,
            "getattr": lambda: getattr(sys.modules["__main__"], "hid" + "den"), "missing": missing,
            "import __main__": lambda: __import__("__main__").count, "frames": lambda: of_caller(),
            "a pickle of the program's": lambda data=pickle.dumps([Leaf]): pickle.loads(data)[0].__name__,
        }
        """,
        method,
    )


def test_a_name_that_is_missing_is_asked_for_wherever_it_is_needed() -> None:
    """This holds in a thread of the call, while a callback blocks the driver's loop, and after a reassignment."""
    ended = run_script("""
        import threading, time
        from amltk.scheduling import Scheduler

        late = ["first"]
        others = list(range(10))

        def look(name):
            import __main__
            found = []
            thread = threading.Thread(target=lambda: found.append(getattr(__main__, name)))
            thread.start()
            thread.join()
            return found[0]

        scheduler = Scheduler.with_processes(1)
        seen = []

        @scheduler.on_start
        def begin():
            for _ in range(3):
                scheduler.submit(look, "others")
            future = scheduler.submit(look, "la" + "te")
            threading.Event().wait(0.3)  # the loop is busy when the worker asks

        @scheduler.on_future_result
        def note(_, result):
            seen.append(result)
            if seen[-1] == ["first"]:
                global late
                late = ["second"]
                scheduler.submit(look, "la" + "te")

        scheduler.run()
        print(seen[3:], [len(found) for found in seen[:3]])
        """)
    assert (ended.errors, ended.lines) == ("", ["[['first'], ['second']] [10, 10, 10]"])


PACKAGE = {
    "app/__init__.py": "",
    "app/data.txt": "text",
    "app/helper.py": "import __main__\ndef double(x): return 2 * x\ndef peek(): return __main__.SECRET\n",
    "app/train.py": """
        '''What --help says.'''
        import importlib.resources, sys, traceback
        from amltk.scheduling.executors import ProcessPool
        from . import helper
        SECRET = 42
        class Thing: pass
        def fail(): raise ValueError("on purpose")
        def work(x):
            from .helper import double, peek
            from . import helper as late
            text = importlib.resources.files(__package__).joinpath("data.txt").read_text()
            return double(x), late.double(x), helper.double(x), peek(), text, __doc__, __spec__.name, __name__
        if __name__ == "__main__":
            with ProcessPool(1, mp_context=sys.argv[1]) as pool:
                assert pool.submit(work, 1).result() == work(1)
                assert type(pool.submit(Thing).result()) is Thing
                assert 'raise ValueError("on purpose")' in str(pool.submit(fail).exception().__cause__)
            print("right")
        """,
    "plain.py": """
        import sys, traceback
        from amltk.scheduling.executors import ProcessPool
        SECRET = 42
        class Thing: pass
        def work():
            main = sys.modules["__main__"]
            return getattr(main, "SEC" + "RET"), __name__, __package__, __spec__ and __spec__.name, __doc__
        def where():
            return work.__code__.co_filename, work.__code__.co_firstlineno, sys._getframe().f_lineno
        if __name__ == "__main__":
            with ProcessPool(1) as pool:
                assert pool.submit(work).result() == work()
                assert pool.submit(where).result() == where()
                assert type(pool.submit(Thing).result()) is Thing
            print("right")
        """,
}

WAYS = {
    "-m": ["-m", "app.train", "forkserver"],
    "-m, spawn": ["-m", "app.train", "spawn"],
    "-m, fork": ["-m", "app.train", "fork"],
    "a script": ["plain.py"],
    "-c": ["-c", "exec(compile(open('plain.py').read(), '<string>', 'exec'))"],
    "stdin": ["-"],
    "runpy.run_path": ["-c", "import runpy; runpy.run_path('plain.py', run_name='__main__')"],
    "runpy.run_module": [
        "-c",
        "import runpy, sys; sys.argv[1:] = ['spawn']; runpy.run_module('app.train', None, '__main__', True)",
    ],
    "a folder": ["folder"],
    "zipapp": ["program.pyz"],
    "-i": ["-i", "plain.py"],
}


@pytest.mark.parametrize("way", WAYS)
def test_ways_to_start_a_program(way: str, tmp_path: Path) -> None:
    """However a program is started, it needs no guard, and relative imports, names, lines and attributes are right."""
    for name, text in PACKAGE.items():
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(textwrap.dedent(text))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "__main__.py").write_text(textwrap.dedent(PACKAGE["plain.py"]))
    ended = run_script(f"""
        import os, subprocess, sys, zipapp
        os.chdir({str(tmp_path)!r})
        zipapp.create_archive("folder", "program.pyz")
        with open("plain.py") as stdin:
            print(subprocess.run([sys.executable, *{WAYS[way]!r}], stdin=stdin, text=True, capture_output=True))
        """)
    assert "right" in ended.lines[0], ended.lines[0]


@pytest.mark.parametrize("method", METHODS)
def test_a_program_that_is_inspected_at_its_end(method: str) -> None:
    """PYTHONINSPECT is for the program: its workers end as always, and programs that calls start have it too."""
    ended = run_script(
        f"""
        import os
        from amltk.scheduling.executors import ProcessPool
        with ProcessPool(2, {method!r}) as pool:
            print(*[pool.submit(os.environ.get, "PYTHONINSPECT").result() for _ in range(2)])
        """,
        env={"PYTHONINSPECT": "1"},
    )
    assert ended.lines == ["1 1"]
    assert "Traceback" not in ended.errors
    assert "SystemExit" not in ended.errors


@pytest.mark.parametrize("method", METHODS)
def test_modules_that_cannot_be_imported(method: str, tmp_path: Path) -> None:
    """A module made by hand or loaded from a path travels by value, with its globals, and keeps its identity."""
    check(
        f"""
        import importlib.util, types
        made = types.ModuleType("made_by_hand")
        sys.modules["made_by_hand"] = made
        exec('''if True:
            K = 3
            class Failed(Exception): pass
            def grow(x): return K * x
            class Item:
                def __init__(self, x): self.x = x
                def grow(self): return grow(self.x)
                def __eq__(self, other): return type(other) is Item and other.x == self.x
                def __repr__(self): return f"Item({{self.x}})"
            item = Item(4)
            def fail(): raise Failed("on purpose")
        ''', vars(made))
        path = {str(tmp_path / "plugin.py")!r}
        with open(path, "w") as file:
            file.write("from dataclasses import dataclass\\nZ = 5\\n@dataclass\\nclass D:\\n    v: int\\n"
                       "    def get(self): return self.v + Z\\ndef make(x): return D(x)\\n")
        spec = importlib.util.spec_from_file_location("plugin_from_a_path", path)
        plugin = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(plugin)
        def imports():
            import made_by_hand
            from plugin_from_a_path import D
            return made_by_hand.K, D(1).get(), made_by_hand is made, type(made_by_hand.Item(1)) is made.Item
        def catches():
            try:
                made.fail()
            except made.Failed as failed:
                return type(failed).__module__
        CALLS = {{
            "a function": lambda: made.grow(2),
            "itself": types.FunctionType(made.grow.__code__, vars(made), "grow", (1,)),
            "a method": made.Item(2).grow, "an instance": lambda: made.item, "an exception": catches,
            "from a path": lambda: plugin.make(1), "its file": lambda: plugin.__file__, "imported": imports,
        }}
        """,
        method,
    )


def test_what_was_added_to_the_path_later_is_found() -> None:
    """An existing worker finds modules that the program could import only later."""
    ended = run_script("""
        import os, sys
        from amltk.scheduling.executors import ProcessPool
        with ProcessPool(1) as pool:
            pool.submit(abs, 1).result()
            os.mkdir("later")
            with open("later/found_later.py", "w") as file:
                file.write("def work(): return __name__")
            sys.path.insert(0, "later")
            import found_later
            print(pool.submit(found_later.work).result())
            try:
                pool.submit(eval, "__import__('found_nowhere')").result()
            except ModuleNotFoundError as error:
                print(error)
        """)
    assert (ended.errors, ended.lines) == ("", ["found_later", "No module named 'found_nowhere'"])


def test_submodules_that_nested_code_uses() -> None:
    """A top-level `import xml.etree.ElementTree` also serves a lambda or a comprehension within a function."""
    check(
        """
        import xml.etree.ElementTree
        import concurrent.futures.thread
        import email as mail, email.mime.text
        CALLS = {
            "lambda": lambda: [*map(lambda text: xml.etree.ElementTree.fromstring(text).tag, ["<a/>"])],
            "comprehension": lambda: [concurrent.futures.thread.__name__ for _ in range(1)],
            "by another name": lambda: (lambda: mail.mime.text.MIMEText.__name__)(),
        }
        """,
        "forkserver",
    )


def test_lines_of_the_program() -> None:
    """Tracebacks, warnings, `inspect.getsource` and logging get the right files and lines despite cloudpickle."""
    check(
        """
        import inspect, linecache, logging, traceback, warnings
        def fail():
            raise ValueError("on purpose")
        def trace():
            try:
                fail()
            except ValueError as error:
                return traceback.format_exception(error)[1:]
        def warn():
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                warnings.warn("on purpose")
            return caught[0].filename, caught[0].lineno
        class Kind:
            '''It has lines.'''
        CELL = "def of_a_cell():\\n    raise ValueError('of a cell')\\n"
        linecache.cache["<cell 1>"] = (len(CELL), None, CELL.splitlines(True), "<cell 1>")
        exec(compile(CELL, "<cell 1>", "exec"))
        def trace_of_a_cell():
            try:
                of_a_cell()
            except ValueError as error:
                return traceback.format_exception(error)[-2], inspect.getsource(of_a_cell)
        CALLS = {
            "traceback": lambda: trace()[-2:], "warning": warn, "source": lambda: inspect.getsource(trace),
            "of a class": lambda: inspect.getsource(Kind), "log": lambda: logging.getLogger().findCaller()[:2],
            "of a cell": trace_of_a_cell,
        }
        """,
        "forkserver",
    )


def test_what_globals_share() -> None:
    """Objects shared by two globals, classes that register themselves, and cycles keep their identity."""
    check(
        """
        data = [1]
        registry = {"data": data}
        class Base:
            kinds = {}
            def __init_subclass__(cls): note(cls)
        def note(cls): Base.kinds[cls.__name__] = cls
        class Kind(Base): pass
        kind = Kind()
        class Meta(type):
            def __new__(meta, name, bases, space):
                return super().__new__(meta, name, bases, {**space, "tag": tag(name)})
        def tag(name): return name.lower()
        class Tagged(metaclass=Meta): pass
        first, second = {}, {}
        first["other"], second["other"] = second, first
        CALLS = {
            "values": lambda: registry["data"] is data, "kinds": lambda: Base.kinds["Kind"] is Kind,
            "an instance": lambda: type(kind) is Kind, "a metaclass": lambda: (Tagged.tag, type(Tagged) is Meta),
            "cycles": lambda: first["other"] is second and second["other"] is first,
        }
        """,
        "forkserver",
    )


def test_what_is_set_anew_refers_to_what_was_sent_before() -> None:
    """A new value that holds an old one refers to the worker's own copy, with the changes made there."""
    ended = run_script("""
        from amltk.scheduling.executors import ProcessPool
        model = [0]
        holder = None
        def train():
            model.append(1)
            return holder is not None and holder["model"] is model, model
        with ProcessPool(1) as pool:
            print(*pool.submit(train).result())
            holder = {"model": model}
            print(*pool.submit(train).result())
        """)
    assert (ended.errors, ended.lines) == ("", ["False [0, 1]", "True [0, 1, 1]"])


def test_a_counter_does_not_send_the_data_beside_it_again() -> None:
    """Each global is pickled once, and again only when reassigned: a counter costs only its own bytes."""
    ended = run_script("""
        from amltk.scheduling.executors import ProcessPool
        pickled = []
        class Data:
            def __init__(self): self.bytes = bytes(1 << 20)
            def __getstate__(self):
                pickled.append(len(self.bytes))
                return vars(self)
        data, counter = Data(), 0
        def work(): return len(data.bytes) and counter
        with ProcessPool(1) as pool:
            for counter in range(50):
                assert pool.submit(work).result() == counter
            print(len(pickled))
            data = Data()
            print(pool.submit(work).result(), len(pickled))
        """)
    assert (ended.errors, ended.lines) == ("", ["1", "49 2"])


def test_a_text_that_has_a_name_in_it_does_not_send_what_is_large() -> None:
    """A large global is sent for a name, or for code that may look up anything, but not for a string."""
    ended = run_script("""
        from amltk.scheduling.executors import ProcessPool
        import sys
        data = bytes(1 << 22)
        def tells(): return "data is there", "data" in vars_of_main()
        def vars_of_main(): return sys.modules["__main__"].__dict__
        def uses(): return "the data", len(data)
        def open(): return len(eval("da" + "ta"))
        for work in (tells, uses, open):
            with ProcessPool(1) as pool:
                print(pool.submit(work).result())
        """)
    assert (ended.errors, ended.lines) == ("", ["('data is there', False)", "('the data', 4194304)", "4194304"])


def test_a_test_module_that_only_pytest_finds(tmp_path: Path) -> None:
    """With pytest's importlib mode, functions and classes of test modules reach workers, whatever the module's name."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "test_it.py").write_text(
        textwrap.dedent("""
            import sys
            import pytest
            from amltk.scheduling.executors import ProcessPool
            FACTOR = 3
            class Item:
                def __init__(self, x): self.x = x
            def grow(item): return Item(FACTOR * item.x)
            def check(x):
                assert x == 2, "on purpose"
            def test_it():
                with ProcessPool(1) as pool:
                    back = pool.submit(grow, Item(2)).result()
                    assert type(back) is Item and back.x == 6
                    with pytest.raises(AssertionError, match="on purpose"):
                        pool.submit(check, 1).result()
            """)
    )
    ended = run_script(f"""
        import sys, pytest
        sys.exit(pytest.main(["-q", "--import-mode=importlib", "-p", "no:cacheprovider", {str(tmp_path)!r}]))
        """)
    assert ended.code == 0, ended.lines


def test_an_initializer_shares_what_calls_use() -> None:
    """The program's classes and data are the same objects for it and for calls, also in replacement workers."""
    ended = run_script("""
        from amltk.scheduling.executors import ProcessPool
        class Model: pass
        model, settings = None, {"a": 1}
        def load():
            global model
            model = Model()
            settings["loaded"] = True
        def use(): return isinstance(model, Model), settings
        model = "set anew by the program"
        with ProcessPool(1, initializer=load, max_tasks_per_child=1) as pool:
            print(pool.submit(use).result(), pool.submit(use).result())
        """)
    assert (ended.errors, ended.lines) == ("", [" ".join(["(True, {'a': 1, 'loaded': True})"] * 2)])


@pytest.mark.skipif(sys.version_info < (3, 14), reason="annotations are evaluated when they are looked at since 3.14")
def test_annotations_of_what_is_not_there() -> None:
    """A function whose annotations name what only a type checker imports can be submitted."""
    check(
        """
        import annotationlib
        def work(x: Nowhere = 1) -> "Elsewhere": return x
        class Kind:
            item: Nowhere
        CALLS = {
            "a function": work,
            "texts": lambda: (
                annotationlib.get_annotations(work, format=annotationlib.Format.STRING),
                annotationlib.get_annotations(Kind, format=annotationlib.Format.STRING),
            ),
        }
        """,
        "forkserver",
    )
