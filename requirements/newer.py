"""Says which packages of this environment are other versions than the lock has: those that are new to the tests."""

from __future__ import annotations

import re
import sys
from importlib.metadata import distributions
from pathlib import Path

LOCKS = ("unit.txt", "dev.txt")
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", re.MULTILINE)


def main() -> None:
    pins = [pin for lock in LOCKS for pin in PIN.findall(Path(__file__).with_name(lock).read_text())]
    locked = {normal(name): version for name, version in pins}
    here = {normal(found.metadata["Name"]): found.version for found in distributions()}
    other = {name: version for name, version in sorted(here.items()) if locked.get(name, version) != version}
    lines = [f"  {name} {version} (the lock has {locked[name]})" for name, version in other.items()]
    print("\n".join(["newer than the lock:", *lines]) if lines else "nothing is newer than the lock")
    if "--failed" in sys.argv and lines:
        names = ", ".join(f"{name} {version}" for name, version in other.items())
        print(
            f"\n!!! The tests fail with the newest versions of what users install, and new are: {names}",
            file=sys.stderr,
        )


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    main()
