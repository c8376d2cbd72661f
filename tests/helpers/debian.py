"""Installs programs that tests need from Debian's packages."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def missing(programs: Sequence[str], packages: Sequence[str]) -> str | None:
    """Why these programs are missing, after trying to install them; None if they are available.

    Args:
        programs: Their names.
        packages: The packages that contain them.
    """
    if all(shutil.which(program) for program in programs):
        return None
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        return f"needs {', '.join(packages)}, or apt-get and root to install them"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT}
    install = ["apt-get", "-q", "-y", "install", "--no-install-recommends", *packages]
    subprocess.run(["apt-get", "-q", "update"], check=False, **quiet)
    subprocess.run(install, check=False, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, **quiet)
    gone = [program for program in programs if not shutil.which(program)]
    return f"apt-get could not install {', '.join(gone)}" if gone else None
