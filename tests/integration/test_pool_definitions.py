"""What `__main__` defines and redefines, as workers see it."""

from __future__ import annotations

from tests.helpers.script import run_script


def test_what_main_defines_travels_from_a_child_of_multiprocessing() -> None:
    """In the child `__main__` has another name; Limits on the standard library's pool creates a pool there."""
    ended = run_script("""
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor
        from amltk.scheduling import Limits, Scheduler
        class Refused(Exception):
            pass
        OFFSET = 1
        def work(x):
            if x < 0:
                raise Refused(x)
            return x + OFFSET
        if __name__ == "__main__":
            context = multiprocessing.get_context("spawn")
            scheduler = Scheduler(ProcessPoolExecutor(1, mp_context=context))
            task = scheduler.task(work, plugins=Limits(wall_time=60))
            scheduler.on_start(lambda: [task.submit(x) for x in (1, -1)])
            task.on_result(lambda _, result: print(result))
            task.on_exception(lambda _, error: print(type(error) is Refused, error))
            scheduler.run(on_exception="continue")
        """)
    assert (ended.code, ended.lines) == (0, ["2", "True -1"])


def test_what_main_defines_needs_no_guard() -> None:
    """Functions, closures, lambdas and classes of `__main__` travel, and instances keep their class."""
    ended = run_script("""
        import enum
        from dataclasses import dataclass
        from amltk.scheduling.executors import ProcessPool

        FACTOR = 3

        @dataclass
        class Point:
            x: int
            def grow(self):
                return Point(FACTOR * self.x)

        class Colour(enum.Enum):
            RED = 1

        class Failed(Exception):
            pass

        def grow(point):
            assert type(point) is Point
            return point.grow()

        def fail():
            raise Failed("yes")

        def outer(n):
            return lambda x: n * x

        with ProcessPool(1) as pool:
            back = pool.submit(grow, Point(2)).result()
            assert type(back) is Point, type(back)
            assert back == Point(6)
            assert pool.submit(Point(1).grow).result() == Point(3)
            assert pool.submit(outer(5), 2).result() == 10
            assert pool.submit(lambda c: c, Colour.RED).result() is Colour.RED
            assert type(pool.submit(fail).exception()) is Failed
            assert pool.submit(Point, 4).result() == Point(4)
        print("done")
        """)
    assert (ended.errors, ended.lines) == ("", ["done"])


def test_an_initializer_and_calls_share_the_globals_of_main() -> None:
    """What an initializer or a call sets in `__main__` is visible to the next call of the same worker."""
    ended = run_script("""
        from amltk.scheduling.executors import ProcessPool

        model = None
        settings = {}

        def load(name):
            global model
            model = name
            settings["name"] = name

        def use(suffix):
            global model
            model += suffix
            return model, settings

        with ProcessPool(1, initializer=load, initargs=("m",)) as pool:
            print(pool.submit(use, "1").result(), pool.submit(use, "2").result(), model)
        """)
    assert (ended.errors, ended.lines) == ("", ["('m1', {'name': 'm'}) ('m12', {'name': 'm'}) None"])


def test_what_main_defines_again_is_what_later_calls_compute() -> None:
    """A function, a class or a value that is redefined, as notebook cells do, takes effect from the next call on.

    That also holds for what a function uses without being redefined itself, and so on.
    """
    ended = run_script("""
        from amltk.scheduling.executors import ProcessPool

        FACTOR = 1
        def scale(x): return FACTOR * x
        def work(x): return scale(x)
        class Model:
            def __call__(self): return scale(1)

        with ProcessPool(1) as pool:
            print(pool.submit(work, 1).result(), pool.submit(Model()).result())
            FACTOR = 2
            print(pool.submit(work, 1).result(), pool.submit(Model()).result())
            def scale(x): return 10 * FACTOR * x
            print(pool.submit(work, 1).result(), pool.submit(Model()).result())
            def work(x): return -scale(x)
            class Model:
                def __call__(self): return -scale(1)
            print(pool.submit(work, 1).result(), pool.submit(Model()).result())
        """)
    assert (ended.errors, ended.lines) == ("", ["1 1", "2 2", "20 20", "-20 -20"])


def test_what_is_defined_only_after_a_call_has_failed_for_it_is_found() -> None:
    """Once a forgotten cell is executed, the same function finds what it uses, even from nested code."""
    ended = run_script("""
        from amltk.scheduling.executors import ProcessPool

        def work(): return helper()
        def nested(): return [helper() for _ in range(1)]

        with ProcessPool(1) as pool:
            print(pool.submit(work).exception(), pool.submit(nested).exception())
            def helper(): return "there"
            print(pool.submit(work).result(), pool.submit(nested).result())
        """)
    missing = "name 'helper' is not defined"
    assert (ended.errors, ended.lines) == ("", [f"{missing} {missing}", "there ['there']"])


def test_what_was_itself_submitted_and_then_defined_again_is_new_for_others() -> None:
    """A worker that knows the old function or class still uses the new one in later calls."""
    ended = run_script("""
        from amltk.scheduling.executors import ProcessPool

        def helper(): return "old"
        class Kind: name = "old"

        with ProcessPool(1) as pool:
            print(pool.submit(helper).result(), pool.submit(Kind).result().name)
            def helper(): return "new"
            class Kind: name = "new"
            def work(): return helper(), Kind.name
            print(*pool.submit(work).result())
        """)
    assert (ended.errors, ended.lines) == ("", ["old old", "new new"])


def test_what_was_replaced_can_still_be_submitted() -> None:
    """It still computes the same, its instances keep their class, and other calls use its replacement."""
    ended = run_script("""
        from amltk.scheduling.executors import ProcessPool

        def helper(): return "old"
        class Kind: pass
        old_helper, OldKind = helper, Kind
        def helper(): return "new"
        class Kind: pass
        def work(): return helper(), Kind()

        with ProcessPool(1) as pool:
            for _ in range(2):
                text, instance = pool.submit(work).result()
                print(text, type(instance) is Kind)
                print(pool.submit(old_helper).result(), type(pool.submit(OldKind).result()) is OldKind)
        """)
    assert (ended.errors, ended.lines) == ("", ["new True", "old True"] * 2)


def test_what_a_worker_has_made_of_main_is_kept_when_something_else_is_defined_again() -> None:
    """What an initializer or a call has set stays, unless the program itself reassigns that name."""
    ended = run_script("""
        from amltk.scheduling.executors import ProcessPool

        model, calls, step = None, [], 1

        def load():
            global model
            model = "loaded"

        def use():
            calls.append(step)
            return model, calls

        with ProcessPool(1, initializer=load) as pool:
            print(pool.submit(use).result(), calls)
            step = 2
            print(pool.submit(use).result())
            def use():
                return model, calls
            print(pool.submit(use).result())
            calls = ["new"]
            print(pool.submit(use).result())
        """)
    assert (ended.errors, ended.lines) == (
        "",
        ["('loaded', [1]) []", "('loaded', [1, 2])", "('loaded', [1, 2])", "('loaded', ['new'])"],
    )


def test_definitions_that_nobody_needs_are_forgotten() -> None:
    """A pool that lives as long as a notebook does not accumulate old definitions."""
    ended = run_script("""
        import gc
        from amltk.scheduling.executors import ProcessPool
        from amltk.scheduling.executors.process_pool._pickling import worker_state

        state = 0
        def work(): return state
        def known(): return len(worker_state._objects), len(worker_state._pieces)

        with ProcessPool(1) as pool:
            for state in range(50):
                assert pool.submit(work).result() == state
            gc.collect()
            pool.submit(known).result()  # takes the news along
            print(pool.submit(known).result())
        """)
    assert (ended.errors, ended.lines) == ("", ["(6, 3)"])  # 2 functions, state, here, 2 definitions; in 3 pieces


def test_a_global_that_cannot_be_unpickled_costs_the_calls_that_use_it_only() -> None:
    """Others that were sent together with it, and share things with it, are right, in later workers too."""
    ended = run_script("""
        from amltk.scheduling.executors import ProcessPool

        class Wrapper:  # as they are written again and again: without end when it is unpickled
            def __init__(self, inner):
                self.inner = inner
            def __getattr__(self, name):
                return getattr(self.inner, name)

        ROWS = [[n] for n in range(300)]
        WRAPPED = Wrapper([("a", "b"), ["c"], ROWS])
        TABLE = {"rows": ROWS, "again": ROWS[::-1]}

        def report():
            return WRAPPED, TABLE
        def any_name(name):
            return eval(name)
        def total():
            return sum(row[0] for row in TABLE["rows"]), TABLE["rows"][7] is TABLE["again"][-8]

        for first, argument in ((report, ()), (any_name, ("len(ROWS)",))):
            with ProcessPool(1, max_tasks_per_child=2) as pool:
                futures = [pool.submit(first, *argument), *(pool.submit(total) for _ in range(4))]
                error = futures[0].exception(60)
                print(type(error).__name__, *{future.result(60) for future in futures[1:]})
        """)
    right = str((sum(range(300)), True))
    assert ended.lines == [f"RecursionError {right}", f"NoneType {right}"], ended.errors
