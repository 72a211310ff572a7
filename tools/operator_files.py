"""Makes the files of the operator's image: once for operator/Dockerfile, once for the image of the test cluster.

    python3 operator_files.py packages REQUIREMENTS TARGET   # the pinned packages
    python3 operator_files.py source PACKAGE TARGET          # a package of ours, below its own name

Both leave out what no container of the operator reads, and add byte code: the image's file system is read-only, so
that an interpreter could not keep what it compiles, and would compile everything at each start. The same input makes
the same bytes, so that a layer of the same pins is the same layer in each release.

The standard library only: the Dockerfile runs this file alone, with the Python that its byte code is for.
"""

from __future__ import annotations

import argparse
import importlib.util
import marshal
import shlex
import shutil
import subprocess
import sys
import types
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PIP = (
    sys.executable,
    "-m",
    "pip",
    "install",
    "--no-cache-dir",
    "--disable-pip-version-check",
    "--root-user-action=ignore",
)
"""What installs by default: for the interpreter that runs this."""

CHECKED = ("--no-deps", "--require-hashes", "--only-binary=:all:")
"""Options that pip and uv share: each file has a hash in the requirements, and nobody's build script runs."""

NEEDLESS_FOLDERS = ("__pycache__", "bin", "tests")
"""Command lines and tests of packages; byte code is made anew, without the path where it was made."""

NEEDLESS_FILES = (".lock", "INSTALLER", "RECORD", "REQUESTED", "direct_url.json")
"""What an installer notes for itself. METADATA stays for scanners, and licences because they ask for it."""

NEEDLESS_SUFFIXES = (".c", ".h", ".pxd", ".pyc", ".pyi", ".pyx")
"""What only compilers and type checkers read."""


def install_packages(requirements: Path, target: Path, installer: Sequence[str]) -> None:
    """Put the packages of a requirements file into the folder, as wheels whose hashes are checked.

    Raises:
        RuntimeError: the installer failed; the message is its own.
    """
    command = [*installer, *CHECKED, "--target", str(target), "-r", str(requirements)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"installing the packages of {requirements} failed: {done.stderr.strip()}")
    finish(target)


def copy_source(package: Path, target: Path) -> None:
    """Copy a package into the folder, below its own name."""
    shutil.copytree(package, target / package.name, dirs_exist_ok=True)
    finish(target)


def finish(folder: Path) -> None:
    """Take out what is needless, and add byte code beside each source."""
    for path in sorted(folder.rglob("*")):
        if path.is_dir() and path.name in NEEDLESS_FOLDERS:
            shutil.rmtree(path)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and (path.name in NEEDLESS_FILES or path.suffix in NEEDLESS_SUFFIXES):
            path.unlink()
    for path in sorted(folder.rglob("*.py")):
        compiled = byte_code(path.read_bytes(), path.relative_to(folder).as_posix())
        if compiled:
            cache = path.parent / "__pycache__"
            cache.mkdir(exist_ok=True)
            (cache / f"{path.stem}.{sys.implementation.cache_tag}.pyc").write_bytes(compiled)


def byte_code(source: bytes, name: str) -> bytes:
    """A .pyc file of this interpreter's version; empty where the source is none of it, as templates are.

    It carries the hash of its source and is not checked against it (PEP 552): times of files play no part. The same
    source gives the same bytes in each process. marshal marks objects that somebody else refers to, and texts that are
    interned, which depends on what the process has loaded: here all objects are referred to, and the texts that a
    process has but once, those of one character, are interned.
    """
    for character in map(chr, range(256)):
        sys.intern(character)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other people's escape sequences
            code = compile(source, name, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):  # Python would not import it either
        return b""
    referred = list(_parts(code))
    header = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + importlib.util.source_hash(source)
    compiled = header + marshal.dumps(code)
    del referred
    return compiled


def _parts(value: object) -> Iterator[object]:
    """A code object, or a constant of one, and all that it is made of."""
    yield value
    if isinstance(value, types.CodeType):
        names = (value.co_names, value.co_varnames, value.co_cellvars, value.co_freevars)
        tables = (value.co_filename, value.co_name, value.co_qualname, value.co_linetable, value.co_exceptiontable)
        for part in (*names, *tables, value.co_consts):
            yield from _parts(part)
    elif isinstance(value, tuple | frozenset):
        for part in value:
            yield from _parts(part)


def main() -> None:
    """Make one of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("packages", "source"), help="packages, or a package of ours")
    parser.add_argument("origin", type=Path, help="requirements file, or the package's folder")
    parser.add_argument("target", type=Path, help="folder that the files go into")
    parser.add_argument("--installer", type=shlex.split, default=PIP, help="command that installs packages, not pip")
    options = parser.parse_args()
    if options.what == "packages":
        install_packages(options.origin, options.target, options.installer)
    else:
        copy_source(options.origin, options.target)


if __name__ == "__main__":
    main()
