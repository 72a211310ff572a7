"""Says whether this commit can be tagged as a release, and if not, what to do: `make release-check`.

The workflow that releases runs the same with the tag's name. docs/versions.md says what is promised, CONTRIBUTING.md
how a release is made.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import yaml

from tools.crd_compatibility import compare
from tools.generate import REPOSITORY, generated
from vllm_operator.api.crd import FILE_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CRD: Final = Path("crds") / FILE_NAME
CHANGELOG: Final = Path("CHANGELOG.md")
_SHOWN: Final = 8
"""Most findings of one kind that are told one by one."""

_DATED: Final = re.compile(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d$")
_HEADING: Final = re.compile(r"^## (.*)$", re.MULTILINE)

_NAMED: Final = (
    re.compile(r"vllm-operator:(\d+\.\d+\.\d+)"),
    re.compile(r"newName: \S*vllm-operator, newTag: (\d+\.\d+\.\d+)"),
)
"""How pages and manifests name the image of the release that they belong to."""

PAGES: Final = (Path("README.md"), Path("README.zh-TW.md"), Path("docs/install.md"), Path("dist/install.yaml"))
"""Files that name it."""


@dataclass
class Findings:
    """What was found."""

    problems: list[str] = field(default_factory=list)
    """What stands in the way: file, fault, remedy."""
    notices: list[str] = field(default_factory=list)
    """What somebody should look at."""


def project_version(root: Path) -> str:
    """The version in pyproject.toml, which the others follow."""
    version: str = tomllib.loads(_text(root, "pyproject.toml"))["project"]["version"]
    return version


def check_versions(root: Path, tag: str, found: Findings) -> None:
    """Every place names the version of pyproject.toml, and so does the tag."""
    version = project_version(root)
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        found.problems.append(f"pyproject.toml: version {version} is not X.Y.Z: Helm and pip read nothing else alike")
    if tag and tag != f"v{version}":
        found.problems.append(f"tag {tag}: pyproject.toml has version {version}: tag v{version}, or set the version")
    chart = yaml.safe_load(_text(root, "charts/vllm-operator/Chart.yaml"))
    package = re.findall(r'^__version__ = "(.*)"$', _text(root, "operator/vllm_operator/__init__.py"), re.MULTILINE)
    places = {
        "charts/vllm-operator/Chart.yaml: version": str(chart["version"]),
        "charts/vllm-operator/Chart.yaml: appVersion": str(chart["appVersion"]),
        "operator/vllm_operator/__init__.py: __version__": "".join(package),
    }
    for place, value in places.items():
        if value != version:
            found.problems.append(
                f"{place} is {value or 'missing'}, and pyproject.toml has {version}: set it to {version}"
            )
    for path in PAGES:
        named = {name for pattern in _NAMED for name in pattern.findall(_text(root, path))}
        for other in sorted(named - {version}):
            remedy = "run make generate" if path.parts[0] == "dist" else f"write {version}"
            found.problems.append(f"{path}: names the image of {other}, and pyproject.toml has {version}: {remedy}")
        if not named:
            found.problems.append(
                f"{path}: names no image vllm-operator:{version} any more: tools/release_check.py expects one"
            )


def check_changelog(root: Path, found: Findings) -> None:
    """The newest section is this version's, with its date, and nothing waits for a release."""
    version = project_version(root)
    text = _text(root, CHANGELOG)
    if section(text, "[Unreleased]").strip():
        remedy = f"write ## [{version}] - YYYY-MM-DD below that heading"
        found.problems.append(f"{CHANGELOG}: entries stand below [Unreleased], which no release has: {remedy}")
    headings = [heading for heading in _HEADING.findall(text) if heading != "[Unreleased]"]
    if not headings or not headings[0].startswith(f"[{version}]"):
        newest = headings[0] if headings else "no version"
        found.problems.append(f"{CHANGELOG}: the newest section is {newest}: add ## [{version}] - YYYY-MM-DD")
    for heading in headings:
        if not _DATED.match(f"## {heading}"):
            found.problems.append(f"{CHANGELOG}: ## {heading}: write ## [X.Y.Z] - YYYY-MM-DD")


def check_definition(root: Path, tag: str, found: Findings) -> None:
    """The definition takes all that the last release's took."""
    last = last_release(root, tag)
    if not last:
        found.notices.append("git has no tag of a release before this one: the definition was compared with nothing")
        return
    before, now = _git(root, "show", f"{last}:{CRD.as_posix()}"), _text(root, CRD)
    compared = compare(*(yaml.load(text, Loader=yaml.CSafeLoader) for text in (before, now)))
    remedy = "bring it back in operator/vllm_operator/api, or add an API version (docs/versions.md)"
    found.problems += [f"{CRD}: {told} since {last}: {remedy}" for told in _some(compared.breaks)]
    remedy = f"see that it takes what {last} took"
    found.notices += [f"{CRD}: {told} since {last}: {remedy}" for told in _some(compared.to_read)]


def check_generated(root: Path, wanted: Mapping[Path, str], found: Findings) -> None:
    """What is generated was generated from what is here."""
    for path, text in wanted.items():
        if not (root / path).exists() or _text(root, path) != text:
            found.problems.append(f"{path}: is not what `make generate` writes: run it, and commit that")


def check_tree(root: Path, found: Findings) -> None:
    """What was looked at is what is committed."""
    changed = [line[3:] for line in _git(root, "status", "--porcelain").splitlines()]
    found.problems += [f"{path}: is not committed: commit it, or take it away" for path in _some(changed)]


def last_release(root: Path, tag: str = "") -> str:
    """The tag of the newest release before this one; empty where there is none."""
    tags = _git(root, "tag", "--list", "v[0-9]*", "--merged", "HEAD", "--sort=-version:refname").split()
    current = tag or f"v{project_version(root)}"
    return next((name for name in tags if name != current), "")


def section(text: str, name: str) -> str:
    """What stands in the change log below the heading that begins so."""
    parts = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    return "".join(part.partition("\n")[2] for part in parts if part.startswith(f"## {name}"))


def check(root: Path, tag: str, wanted: Mapping[Path, str]) -> Findings:
    """All of it.

    Raises:
        subprocess.CalledProcessError: git refused something.
        OSError: a file that is looked at is missing.
    """
    found = Findings()
    check_versions(root, tag, found)
    check_changelog(root, found)
    check_definition(root, tag, found)
    check_generated(root, wanted, found)
    check_tree(root, found)
    return found


def _some(told: Iterable[str]) -> list[str]:
    every = list(told)
    rest = [f"and {len(every) - _SHOWN} more"] if len(every) > _SHOWN else []
    return [*every[:_SHOWN], *rest]


def _text(root: Path, path: Path | str) -> str:
    return (root / path).read_text(encoding="utf-8")


def _git(root: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=root, check=True, capture_output=True, text=True).stdout


def main() -> int:
    """Print what stands in the way; 1 where something does."""
    parser = argparse.ArgumentParser(prog="python -m tools.release_check", description=__doc__)
    parser.add_argument("--tag", default="", help="name of the tag, where there is one already")
    options = parser.parse_args()
    found = check(REPOSITORY, options.tag, generated())
    for notice in found.notices:
        sys.stdout.write(f"notice: {notice}\n")
    for problem in found.problems:
        sys.stdout.write(f"problem: {problem}\n")
    version = project_version(REPOSITORY)
    if not found.problems:
        sys.stdout.write(f"version {version} can be tagged: git tag -a v{version} -m v{version}\n")
    return 1 if found.problems else 0


if __name__ == "__main__":
    sys.exit(main())
