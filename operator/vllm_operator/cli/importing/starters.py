"""Programs that start another one: in a session of its own, as another user, on another machine, out of a text.

What they start is read as if it stood there alone, and that they did is told.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from vllm_operator.cli.importing.shell import ShellError, behind_keywords, parsed, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from vllm_operator.cli.importing.shell import Statement

SHELLS: Final = frozenset({"sh", "bash", "zsh", "ash", "dash"})
_STARTERS: Final = (
    frozenset({"setsid", "eval", "script", "unbuffer", "caffeinate", "xvfb-run", "chroot", "systemd-run", "pm2"})
    | frozenset({"su", "sg", "runuser", "gosu", "su-exec", "ssh", "srun", "tmux", "screen"})
    | frozenset({"mamba", "micromamba", "pixi", "singularity", "apptainer", "docker", "podman", "nerdctl", "kubectl"})
)
_BEFORE_STARTERS: Final = frozenset({"sudo", "nohup", "exec", "time"})
_LONGEST_TOLD: Final = 40

_IMAGES: Final = frozenset({"singularity", "apptainer"})
_IN_CONTAINERS: Final = _IMAGES | {"docker", "podman", "nerdctl", "kubectl"}
_IN_REGISTRY: Final = "docker://"
_AS_DOCKER: Final = {"--bind": "-v", "-B": "-v", "--env": "-e"}


def started(
    statement: Statement, values: Mapping[str, str], is_server: Callable[[Sequence[str]], bool]
) -> list[Statement]:
    """The commands that a command starts, as far as one of them is a server; otherwise the command itself."""
    words = behind_keywords(statement.words)
    while words and words[0] in _BEFORE_STARTERS:
        words = words[1:]
    program = words[0].rpartition("/")[2] if words else ""
    if program in _IMAGES and (run := _as_docker(words)):
        return [replace(statement, words=run)]
    if program not in _STARTERS | SHELLS or is_server(words):
        return [statement]
    if program in _STARTERS:
        for place in range(1, len(words)):
            if is_server(words[place:]):
                return [replace(statement, words=words[place:], started_by=_told(words[:place]))]
    for place, word in enumerate(words):
        found = _within(word, values, is_server) if re.search(r"\s", word) else []
        if found:
            return [replace(one, started_by=_told(words[:place]), loop=one.loop or statement.loop) for one in found]
    return [statement]


def is_in_container(told: str) -> bool:
    """Whether what starts a server does it in a container that is there already, of an image that it does not name."""
    return any(told.split()[:1] == [name] for name in _IN_CONTAINERS)


def _within(text: str, values: Mapping[str, str], is_server: Callable[[Sequence[str]], bool]) -> list[Statement]:
    """The commands of a text, if one of them is a server."""
    try:
        script = parsed(text, values)
    except ShellError:
        return []
    found = [one for statement in script.statements for one in started(statement, values, is_server)]
    if not any(is_server(behind_keywords(one.words)) for one in found):
        return []
    return [replace(one, assigned=script.exported | one.assigned) for one in found]


def _as_docker(words: Sequence[str]) -> list[str]:
    """`apptainer exec docker://IMAGE ...` as the `docker run` that does the same; empty for an image in a file."""
    image = next((place for place, word in enumerate(words) if word.startswith(_IN_REGISTRY)), 0)
    if not image or not {"exec", "run"} & {*words[1:image]}:
        return []
    options: list[str] = []
    for word, following in itertools.pairwise(words[1 : image + 1]):
        name, equals, value = word.partition("=")
        if name in _AS_DOCKER:
            options += [_AS_DOCKER[name], value if equals else following]
    return ["docker", "run", "--gpus", "all", *options, words[image].removeprefix(_IN_REGISTRY), *words[image + 1 :]]


def _told(words: Sequence[str]) -> str:
    text = shown(" ".join(word.partition("=")[0] for word in words))  # a value may be a secret
    return text if len(text) <= _LONGEST_TOLD else f"{text[:_LONGEST_TOLD]}..."
