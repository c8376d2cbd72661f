"""Importing the package needs nothing but the standard library, and costs little."""

from __future__ import annotations

import pytest

from tests.helpers.script import PATHS, run_script

HEAVY = (
    *("IPython", "cloudpickle", "dask", "distributed", "joblib", "loky", "matplotlib", "mpi4py", "numpy", "pandas"),
    *("psutil", "ray", "rich", "scipy", "sklearn", "threadpoolctl", "typing_extensions"),
)

RUN = """
from amltk.scheduling import Scheduler

def double(x):
    return 2 * x

if __name__ == "__main__":
    for scheduler in (Scheduler.with_processes(1), Scheduler.with_threads(1), Scheduler.with_sequential()):
        scheduler.on_start(lambda: scheduler.submit(double, 21))
        scheduler.on_future_result(lambda _, result: print(result))
        scheduler.run()
    print(scheduler, scheduler.task(double))
"""


@pytest.mark.parametrize("module", ["amltk", "amltk.scheduling", "amltk.testing", "amltk.types", "amltk.exceptions"])
def test_no_third_party_module_is_loaded(module: str) -> None:
    """Importing all names loads nothing outside the standard library, whether or not it is installed."""
    ended = run_script(f"""
        import sys
        before = set(sys.modules)
        from {module} import *
        loaded = {{name.partition(".")[0] for name in set(sys.modules) - before}}
        print(sorted(loaded - set(sys.stdlib_module_names) - {{"amltk"}}))
        print(sorted(set({HEAVY}) & loaded))
        """)
    assert ended.lines == ["[]", "[]"]


def test_it_works_without_any_installed_package() -> None:
    """What needs no process works in an interpreter that sees only the package and the standard library."""
    run = RUN.replace("Scheduler.with_processes(1)", "Scheduler.with_threads(2)")
    ended = run_script(run, "-S", "-W", "error", path=PATHS[:1])
    assert (ended.code, ended.errors) == (0, "")
    assert ended.lines[:3] == ["42", "42", "42"]


def test_it_works_with_the_optional_modules_blocked() -> None:
    """Every local executor works if optional modules are installed but broken: none of them is imported."""
    optional = sorted(set(HEAVY) - {"cloudpickle", "psutil"})
    block = f"import sys; sys.modules.update(dict.fromkeys({optional}))"
    ended = run_script(f"{block}\n{RUN}", "-W", "error")
    assert (ended.code, ended.errors) == (0, "")
    assert ended.lines[:3] == ["42", "42", "42"]


def test_it_works_in_isolated_mode() -> None:
    """`python -I` ignores the environment and the user's folders; the installed package is found."""
    ended = run_script(f"import sys; sys.path.insert(0, {PATHS[0]!r})\n{RUN}", "-I", "-W", "error")
    assert (ended.code, ended.errors) == (0, "")
    assert ended.lines[:3] == ["42", "42", "42"]
