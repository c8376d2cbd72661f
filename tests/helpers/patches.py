"""What notebooks do to asyncio, and packages that are not installed everywhere."""

from __future__ import annotations

import importlib.util
import sys

import pytest

PATCHES = {
    "nothing": "pass",
    "nest_asyncio": "import nest_asyncio; nest_asyncio.apply()",
    "nest_asyncio2": "import nest_asyncio2; nest_asyncio2.apply()",
}
"""Code that patches asyncio, by the name of the package it needs."""


def needs(*modules: str) -> None:
    """Skip the test if a module is missing. It is not imported here: only scripts and kernels need it."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")


def needs_patch(patch: str) -> None:
    """Skip the test if asyncio cannot be patched this way."""
    if patch == "nest_asyncio" and sys.version_info >= (3, 14):
        pytest.skip("nest_asyncio itself is broken on CPython 3.14; nest_asyncio2 is its successor")
    if patch != "nothing":
        needs(patch)
