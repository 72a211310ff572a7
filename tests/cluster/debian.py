"""Debian packages as image content: which packages a base image needs, fetched with apt, read with dpkg-deb.

Nothing is installed and nothing is unpacked on disk: the packages' archives are merged in memory, so no root is needed.
"""

from __future__ import annotations

import io
import os
import posixpath
import re
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster.errors import ClusterError
from tests.cluster.oci import Entry, folder_entry, link_entry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

ROOTS = (
    "base-files",
    "busybox",
    "libnuma1",  # the CPU build of vLLM links it
    "libsmartcols1",  # lscpu links it
    "libstdc++6",
    "media-types",
    "netbase",
    "python3",
    "tzdata",
    "util-linux",
)
"""What the base image is made of; the libraries follow from the packages' own dependencies."""

ONLY = {"util-linux": ("usr/bin/lscpu",)}
"""Packages of which only some files are wanted (vLLM asks lscpu for the processors); their dependencies are ignored."""

NEEDLESS = frozenset({"debconf", "dpkg", "install-info", "libpam0g", "mailcap", "perl-base", "tar"})
"""Dependencies of installation scripts, which never run here."""

DROPPED = ("usr/share/doc/", "usr/share/man/", "usr/share/locale/", "usr/share/lintian/", "usr/share/bash-completion/")
MERGED = ("bin", "sbin", "lib", "lib64")
_DEPENDS = re.compile(r"^ ( |\|)(?:Pre)?Depends: (.+)$")


def needed_packages(roots: Iterable[str] = ROOTS) -> tuple[str, ...]:
    """The packages and everything that they depend on, sorted."""
    roots = tuple(roots)
    kinds = ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
    known = parse_dependencies(_apt("apt-cache", "depends", "--recurse", *(f"--no-{kind}" for kind in kinds), *roots))
    return closure(roots, known)


def closure(roots: Iterable[str], known: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The packages and what they depend on, without NEEDLESS ones and what only those ask for, sorted."""
    found: set[str] = set()
    wave = set(roots)
    while wave:
        found |= wave
        wave = {needed for name in wave - ONLY.keys() for needed in known.get(name, ())} - found - NEEDLESS
    return tuple(sorted(found))


def parse_dependencies(listing: str) -> dict[str, list[str]]:
    """What each package of an `apt-cache depends` listing needs: the first of alternatives, nothing virtual."""
    known: dict[str, list[str]] = {}
    package, alternative = "", False
    for line in listing.splitlines():
        match = _DEPENDS.match(line)
        if match is not None:
            if not alternative and not match[2].startswith("<"):
                known[package].append(match[2])
            alternative = match[1] == "|"
        elif not line.startswith(" "):
            package, alternative = line, False
            known[package] = []
    return known


def lists_state() -> str:
    """Changes whenever `apt-get update` changed the package lists."""
    lists = sorted(Path("/var/lib/apt/lists").glob("*_Packages*"))
    return " ".join(f"{path.name}:{path.stat().st_mtime_ns}:{path.stat().st_size}" for path in lists)


def refresh_lists() -> bool:
    """Get the package lists anew, where this process may; whether they are others now.

    Raises:
        ClusterError: apt cannot; the message is its own.
    """
    if os.geteuid() != 0:
        return False
    before = lists_state()
    _apt("apt-get", "update", "-q")
    return lists_state() != before


def package_hashes(packages: Sequence[str]) -> tuple[str, ...]:
    """File name and hash of each package as the package lists have it: what the base layer's cache key is made of."""
    listing = _apt("apt-get", "--print-uris", "download", *packages)
    return tuple(" ".join(line.split()[1:]) for line in listing.splitlines() if line.startswith("'"))


def download(packages: Sequence[str], folder: Path) -> tuple[Path, ...]:
    """Fetch the package files into the folder."""
    _apt("apt-get", "-q", "download", *packages, cwd=folder)
    return tuple(sorted(folder.glob("*.deb")))


def merged_entries(packages: Iterable[Path]) -> dict[str, Entry]:
    """The files of all packages as one usr-merged tree."""
    entries: dict[str, Entry] = {name: link_entry(f"usr/{name}") for name in MERGED}
    entries |= {f"usr/{name}": folder_entry() for name in MERGED}
    for package in packages:
        wanted = ONLY.get(package.name.partition("_")[0])
        for name, entry in _package_entries(package):
            if (wanted is None or name in wanted) and not f"{name}/".startswith(DROPPED):
                entries[name] = entry
    return entries


def program_links(busybox: Mapping[str, Entry], programs: Iterable[str]) -> dict[str, Entry]:
    """A link to busybox for each of its programs that no package brought."""
    return {
        f"usr/bin/{program}": link_entry("busybox")
        for program in programs
        if f"usr/bin/{program}" not in busybox and f"usr/sbin/{program}" not in busybox
    }


def _package_entries(package: Path) -> list[tuple[str, Entry]]:
    content = subprocess.run(["dpkg-deb", "--fsys-tarfile", package], check=True, stdout=subprocess.PIPE).stdout
    found: list[tuple[str, Entry]] = []
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for member in archive:
            name = _merged(posixpath.normpath(member.name))
            if name in {".", *MERGED}:
                continue
            handle = archive.extractfile(member) if member.isreg() else None
            body = handle.read() if handle else b""
            link = _merged(posixpath.normpath(member.linkname)) if member.islnk() else member.linkname
            found.append((name, Entry(kind=member.type, mode=member.mode, content=body, link=link)))
    return found


def _merged(name: str) -> str:
    first = name.partition("/")[0]
    return f"usr/{name}" if first in MERGED and name != first else name


def _apt(*command: str, cwd: Path | None = None) -> str:
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, cwd=cwd).stdout
    except FileNotFoundError as error:
        message = f"the base image is made of Debian packages and needs {command[0]}, which this machine does not have"
        raise ClusterError(message) from error
    except subprocess.CalledProcessError as error:
        message = (
            f"cannot get the base image's packages; when the lists are old or missing, run `apt-get update`.\n"
            f"{' '.join(command[:3])} ... said:\n{error.stderr.strip()}"
        )
        raise ClusterError(message) from error
