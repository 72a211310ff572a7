"""The Python sources of vLLM's releases that make its parser, from the package index by pip into the cache folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from tools.vllm_flags import parser_program

if TYPE_CHECKING:
    from collections.abc import Iterator

OLDEST: Final = (0, 8, 0)
"""The first release that the table has."""

_ALSO: Final = frozenset({"vllm/platforms/cpu.py", "vllm/v1/worker/cpu_worker.py"})
"""Files beside those of the parser: what the engine on CPU reads."""

_NO_BUILD: Final = '''\
"""A build backend that only says what a source distribution says of itself: no torch, no compiler."""

from pathlib import Path


def get_requires_for_build_wheel(config_settings=None):
    return []


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    folder = Path(metadata_directory) / "vllm.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_bytes(Path("PKG-INFO").read_bytes())
    return folder.name
'''
"""Stands for setuptools while pip downloads: pip asks for metadata, and vLLM's own setup.py imports torch for it."""


class FetchError(Exception):
    """The package index, or pip, did not give a release."""


def cache_folder() -> Path:
    """Where the sources of releases are kept: VLLM_OPERATOR_CACHE, or the user's own cache."""
    chosen = os.environ.get("VLLM_OPERATOR_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return (Path(chosen) if chosen else Path(base) / "vllm-operator").resolve() / "vllm-releases"


def published() -> list[str]:
    """All releases from `OLDEST` on, the oldest first.

    Raises:
        FetchError: the index does not answer.
    """
    said = _pip("index", "versions", "vllm")
    found = re.search(r"Available versions: (.*)", said)
    if not found:
        raise FetchError(f"pip tells no versions of vllm: {said[-500:]}")
    releases = [one.strip() for one in found[1].split(",")]
    return sorted((one for one in releases if _numbers(one) >= OLDEST), key=_numbers)


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(int(one) for one in re.findall(r"\d+", release))


def sources(release: str) -> Path:
    """The folder with the package `vllm` of a release, which is fetched where it is not in the cache.

    Raises:
        FetchError: the index has neither a source distribution nor a wheel of it.
    """
    folder = cache_folder() / release
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            archive = _download(release, Path(scratch))
            made = Path(scratch) / "sources"
            for name, content in _python_files(archive):
                place = made / name
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(content)
            made.rename(folder)
    return folder


def require(release: str) -> Path:
    """The folder of a release that has been fetched.

    Raises:
        FetchError: it has not; the message says how to.
    """
    folder = cache_folder() / release
    if not folder.exists():
        raise FetchError(f"the sources of vLLM {release} are not in {folder}: run make vllm-releases")
    return folder


def _download(release: str, scratch: Path) -> Path:
    """The source distribution, or the wheel where there is none."""
    stand_in = scratch / "no-build" / "setuptools"
    stand_in.mkdir(parents=True)
    (stand_in / "__init__.py").write_text("", encoding="utf-8")
    (stand_in / "build_meta.py").write_text(_NO_BUILD, encoding="utf-8")
    target = ("--no-deps", "--dest", str(scratch / "archive"), f"vllm=={release}")
    try:
        _pip("download", "--no-binary", ":all:", "--no-build-isolation", *target, path=stand_in.parent)
    except FetchError:
        _pip("download", "--only-binary", ":all:", *target)
    (archive,) = (scratch / "archive").iterdir()
    return archive


def _pip(*words: str, path: Path | None = None) -> str:
    environment = {**os.environ, **({"PYTHONPATH": str(path)} if path else {})}
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *words],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise FetchError(f"pip {' '.join(words[:2])} failed: {done.stderr.strip()[-500:]}")
    return done.stdout


def _python_files(archive: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    """The files that make the parser, by their paths from the package's own folder on."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            for name in wheel.namelist():
                if _is_wanted(PurePosixPath(name)):
                    yield PurePosixPath(name), wheel.read(name)
        return
    with tarfile.open(archive) as distribution:
        for member in distribution:
            inner = PurePosixPath(*PurePosixPath(member.name).parts[1:])
            content = distribution.extractfile(member) if member.isfile() and _is_wanted(inner) else None
            if content is not None:
                yield inner, content.read()


def _is_wanted(path: PurePosixPath) -> bool:
    if path.suffix != ".py" or path.parts[:1] != ("vllm",):
        return False
    module = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
    return str(path) in _ALSO or parser_program.is_own_code(module)
