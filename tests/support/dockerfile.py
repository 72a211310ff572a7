"""Reads the last stage of a Dockerfile, so that an image built without Docker holds and starts what the file says.

Only what operator/Dockerfile uses is understood; anything else is refused, so that nothing is silently left out.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_PINNED = re.compile(r"^[\w.-]+(?:/[\w.-]+)+:[\w.-]+@sha256:[0-9a-f]{64}$")


class DockerfileError(Exception):
    """The file says something that this reader does not understand."""


@dataclass(frozen=True, kw_only=True)
class Copied:
    """One COPY: from the stage of that name, or from the build context where it is empty."""

    stage: str
    sources: tuple[str, ...]
    target: str


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What one FROM begins."""

    base: str
    name: str
    copies: tuple[Copied, ...]
    runs: tuple[tuple[str, ...], ...]
    env: Mapping[str, str]
    labels: Mapping[str, str]
    user: str
    entrypoint: tuple[str, ...]

    @property
    def is_pinned(self) -> bool:
        """Whether the base is a full name with a tag, for people, and a digest, which counts."""
        return _PINNED.match(self.base) is not None


def read_stages(path: Path) -> list[Stage]:
    """The stages of a Dockerfile, in their order.

    Raises:
        DockerfileError: an instruction, or a form of one, that this reader does not know.
    """
    grouped: list[list[tuple[str, str]]] = []
    for word, rest in _instructions(path.read_text(encoding="utf-8")):
        if word == "FROM":
            grouped.append([])
        if not grouped:
            raise DockerfileError(f"{path}: {word} stands before FROM")
        grouped[-1].append((word, rest))
    return [_stage(path, lines) for lines in grouped]


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    joined = re.sub(r"\\\n\s*", " ", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE))
    for line in joined.splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            yield word.upper(), rest.strip()


def _stage(path: Path, lines: list[tuple[str, str]]) -> Stage:
    base, _, name = lines[0][1].partition(" AS ")
    copies, runs = [], []
    pairs: dict[str, dict[str, str]] = {"ENV": {}, "LABEL": {}}
    words: dict[str, str] = {"USER": "", "ENTRYPOINT": "[]"}
    for word, rest in lines[1:]:
        if word == "COPY":
            copies.append(_copied(rest))
        elif word == "RUN" and rest.startswith("["):
            runs.append(tuple(json.loads(rest)))
        elif word in pairs:
            pairs[word] |= dict(part.split("=", 1) for part in shlex.split(rest))
        elif word in words:
            words[word] = rest
        else:
            raise DockerfileError(f"{path}: {word} {rest}: tests/support/dockerfile.py does not know this form")
    return Stage(
        base=base,
        name=name,
        copies=tuple(copies),
        runs=tuple(runs),
        env=pairs["ENV"],
        labels=pairs["LABEL"],
        user=words["USER"],
        entrypoint=tuple(json.loads(words["ENTRYPOINT"])),
    )


def _copied(rest: str) -> Copied:
    parts = shlex.split(rest)
    stage = parts.pop(0).removeprefix("--from=") if parts[0].startswith("--from=") else ""
    if any(part.startswith("--") for part in parts):
        raise DockerfileError(f"COPY {rest}: tests/support/dockerfile.py knows no option but --from")
    return Copied(stage=stage, sources=tuple(parts[:-1]), target=parts[-1])
