"""What this machine lacks for `make demo` and `make test`: found in a moment, and installed where that is allowed.

Standard library only: it runs before there is a virtual environment.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.cluster import debian, tools
from tests.cluster.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ENGINE_PYTHON = tools.Requirement("python3.11", ("/usr/bin/python3.11",))
"""Debian 12's own Python: the real engine is installed for it, and runs with it in a pod's Debian too."""

COMMAND = "sudo make system-packages"


@dataclass(frozen=True)
class Lack:
    """What is missing."""

    packages: tuple[str, ...] = ()
    """Debian packages."""
    lists: bool = False
    """apt knows no packages; the base image is made of what it knows."""

    def __bool__(self) -> bool:
        return bool(self.packages) or self.lists

    def __str__(self) -> str:
        named = f"the Debian packages {', '.join(self.packages)}" if self.packages else ""
        return " and ".join(filter(None, [named, "apt's package lists" if self.lists else ""]))


def lack(present: Callable[[str], bool] = tools.is_present) -> Lack:
    """What is missing now; a few looks at the file system."""
    requirements = (*tools.REQUIREMENTS, ENGINE_PYTHON)
    missing = [one.package for one in requirements if not all(map(present, one.uses))]
    if importlib.util.find_spec("ensurepip") is None:  # Debian has it in a package of its own, and venv needs it
        missing.append(f"python{sys.version_info.major}.{sys.version_info.minor}-venv")
    return Lack(tuple(sorted(missing)), lists=not debian.lists_state())


def prepare(found: Lack, *, root: bool, say: Callable[[str], None], run: Callable[[Sequence[str]], int]) -> None:
    """Install what is missing; nothing where nothing is.

    Raises:
        ClusterError: Only root may, or apt could not; the message says what to do.
    """
    if not found:
        return
    if not root:
        raise ClusterError(f"this machine lacks {found}. Install them, and go on:\n  {COMMAND}")
    if not tools.is_present("apt-get"):
        raise ClusterError(f"this machine lacks {found}, and has no apt-get: the test cluster is made for Debian")
    commands = [["apt-get", "update", "-q"]]
    if found.packages:
        say(f"installing {found}")
        commands.append(["apt-get", "install", "-y", "-q", "--no-install-recommends", *found.packages])
    for command in commands:
        if run(command):
            raise ClusterError(f"this machine lacks {found}, and `{' '.join(command[:2])}` failed: see above")


def run_apt(command: Sequence[str]) -> int:
    """Run apt without questions; its output is shown. Returns its exit code."""
    return subprocess.run(command, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, check=False).returncode


def make_ready(say: Callable[[str], None]) -> None:
    """Install what this machine lacks.

    Raises:
        ClusterError: It cannot be, or something is missing still.
    """
    prepare(lack(), root=os.geteuid() == 0, say=say, run=run_apt)
    rest = lack()
    if rest:
        raise ClusterError(f"apt-get has installed what was asked for, and this machine still lacks {rest}")
