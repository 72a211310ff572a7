"""What the test cluster needs from the machine, as data, and one message for everything that is missing."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster.errors import ClusterError
from tests.cluster.spec import NodeKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

CNI_FOLDER = Path("/usr/lib/cni")
CNI_PLUGINS = ("bridge", "host-local", "loopback", "portmap")


@dataclass(frozen=True)
class Requirement:
    """A Debian package and what is used of it: programs on PATH, or absolute paths."""

    package: str
    uses: tuple[str, ...]
    without_node: bool = False
    """Also needed where only the API server runs."""


REQUIREMENTS = (
    Requirement("apt", ("apt-cache", "apt-get")),
    Requirement("conntrack", ("conntrack",)),
    Requirement("containernetworking-plugins", tuple(str(CNI_FOLDER / name) for name in CNI_PLUGINS)),
    Requirement("dpkg", ("dpkg-deb",)),
    Requirement("iproute2", ("ip",)),
    Requirement("iptables", ("iptables",)),
    Requirement("mount", ("mount",)),
    Requirement("nftables", ("nft",)),
    Requirement("runc", ("runc",)),
    Requirement("util-linux", ("nsenter", "setpriv", "unshare"), without_node=True),
)

SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


def packages() -> list[str]:
    """The Debian packages that `make system-packages` installs."""
    return sorted(requirement.package for requirement in REQUIREMENTS)


def search_path() -> str:
    """PATH with the system administrator's folders, which an ordinary user's PATH lacks."""
    return os.pathsep.join([os.environ.get("PATH", ""), *SYSTEM_FOLDERS])


def is_present(use: str) -> bool:
    """Whether the machine has the program."""
    return Path(use).exists() if use.startswith("/") else shutil.which(use, path=search_path()) is not None


def check(kind: NodeKind, present: Callable[[str], bool] = is_present) -> None:
    """Make sure that a cluster of this kind can run here.

    Raises:
        ClusterError: names everything that is missing and the command that installs it.
    """
    if kind not in {NodeKind.REAL, NodeKind.NONE}:
        return
    if sys.platform != "linux":
        raise ClusterError(f"--node {kind} needs Linux; use --node kind or --node existing on {sys.platform}")
    if kind is NodeKind.REAL and os.geteuid() != 0:
        raise ClusterError("--node real needs root, for namespaces, mounts and cgroups; --node none does not")
    needed = [item for item in REQUIREMENTS if kind is NodeKind.REAL or item.without_node]
    missing = [(item, [use for use in item.uses if not present(use)]) for item in needed]
    message = missing_message([(item.package, uses) for item, uses in missing if uses])
    if message:
        raise ClusterError(message)


def missing_message(missing: Iterable[tuple[str, Iterable[str]]]) -> str:
    """One message for all missing programs; empty when nothing is missing."""
    rows = [(package, ", ".join(uses)) for package, uses in missing]
    if not rows:
        return ""
    lines = [f"  {uses}  (package {package})" for package, uses in rows]
    install = f"apt-get install --no-install-recommends {' '.join(package for package, _ in rows)}"
    return "\n".join(
        [
            "the test cluster needs programs that this machine lacks:",
            *lines,
            "install them with `make system-packages`, or:",
            f"  {install}",
        ]
    )
