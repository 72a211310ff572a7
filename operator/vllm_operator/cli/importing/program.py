"""The vLLM server in a command line: what stands before it is taken off, and told where it did something."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from vllm_operator.cli.importing.blocks import CONDITIONAL_LOOPS, KEYWORDS, LOOPS
from vllm_operator.cli.importing.draft import NotImportableError
from vllm_operator.cli.importing.loops import goes_over_list
from vllm_operator.cli.importing.shell import (
    ShellError,
    Statement,
    behind_keywords,
    mark,
    parsed,
    shown,
    without_conditional,
)
from vllm_operator.cli.importing.starters import SHELLS, is_in_container, started

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vllm_operator.cli.importing.draft import Draft
    from vllm_operator.cli.importing.shell import Script

SERVERS: Final = ("vllm.entrypoints.openai.api_server", "vllm.entrypoints.openai.run_batch")
_API_SERVER: Final = "vllm.entrypoints.openai.api_server"
_PYTHON: Final = re.compile(r"python(3(\.\d+)?)?")
_SILENT: Final = frozenset(
    {"exec", "nice", "command", "nohup", "time", "tini", "dumb-init", "uv", "uvx", "poetry", "stdbuf"}
)
"""Programs that start another one and change nothing about it."""

_VALUED: Final[dict[str, frozenset[str]]] = {
    "sudo": frozenset({"-u", "-g", "--user", "--group"}),
    "nice": frozenset({"-n"}),
    "uv": frozenset({"--with", "--python", "-p", "--extra", "--directory", "--from"}),
    "uvx": frozenset({"--with", "--python", "-p", "--from"}),
    "conda": frozenset({"-n", "-p", "--name", "--prefix"}),
    "numactl": frozenset({"-N", "-m", "-C"}),
    "taskset": frozenset(),
    "timeout": frozenset({"-k", "-s"}),
}
_SUBCOMMANDS: Final = {"uv": "run", "poetry": "run", "conda": "run"}
_POSITIONAL: Final = {"taskset": 1, "timeout": 1}
_CHANGING: Final = frozenset({"numactl", "taskset", "timeout", "opentelemetry-instrument", "nsys", "ddtrace-run"})
_WRAPPERS: Final = _SILENT | _CHANGING | {"sudo", "conda"}
_HARMLESS: Final = frozenset(
    {"echo", "printf", "set", "source", ".", "sleep", "nvidia-smi", "rocm-smi", "ulimit", "true", ":", "wait", "date"}
    | {"[", "[[", "test", "shift", "module", "return", "mkdir", "unset", "shopt", "umask", "hostname", "free", "df"}
    | {"kill", "pkill", "fuser", "lsof", "grep", "disown", "rm", "ps", "pgrep", "ss", "netstat", "command", "which"}
    | {"break", "continue", "getopts", "read", "let", "usage", "case", "esac"}
    | {"ls", "pwd", "env", "conda", "deactivate", "tee", "trap", "exit", "curl", "docker", "podman", "sudo", "cat"}
)
"""Commands beside the server that leave nothing behind which it needs."""

_RAY_SCRIPTS: Final = frozenset({"multi-node-serving.sh", "run_cluster.sh", "multi-node-serving", "ray_init.sh"})
"""Scripts of vLLM's examples that start Ray."""

_SHELL_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
"""What `env` sets; a shell would take some of these names for commands."""


@dataclass(slots=True)
class Launch:
    """The server's command line."""

    words: list[str]
    """Arguments of `vllm serve`; the model may stand among them as a word of its own."""
    variables: dict[str, str] = field(default_factory=dict)
    """What is set for it alone."""


def launch_in(words: Sequence[str], draft: Draft, values: Mapping[str, str] | None = None) -> Launch | None:
    """The server that a command line starts; None where it starts something else.

    `values` are variables that a shell in the command line would find.

    Raises:
        NotImportableError: a script in it is none.
    """
    rest, variables = _unwrapped(behind_keywords(words), draft)
    if not rest:
        return None
    program = _base(rest[0])
    if program in SHELLS:
        return _in_script(rest, variables, draft, dict(values or {}))
    arguments = _arguments(rest)
    return None if arguments is None else Launch(unconditional(arguments, draft), variables)


def unconditional(words: Sequence[str], draft: Draft) -> list[str]:
    """The words without those that depend on whether a variable is set that nobody has filled in; they are told."""
    kept, conditional = without_conditional(words)
    for told, name in conditional.items():
        draft.check(f"{told} is left out: nobody has filled in ${{{name}}}; --set {name}=VALUE has it where it is set")
    return kept


def _base(word: str) -> str:
    return word.rpartition("/")[2]


def is_server(words: Sequence[str]) -> bool:
    """Whether a command line begins with the server."""
    return bool(words) and _arguments(list(words)) is not None


def _arguments(words: list[str]) -> list[str] | None:
    """What follows the server's name."""
    program, rest = _base(words[0]), words[1:]
    if program == "vllm":
        return rest[1:] if rest[:1] == ["serve"] else None
    if not _PYTHON.fullmatch(program):
        return None
    while rest and rest[0].startswith("-") and rest[0] != "-m":
        rest = rest[1:]
    if not rest:
        return None
    if rest[0] != "-m":
        return rest[1:] if rest[0].endswith(("openai/api_server.py", "api_server_openai.py")) else _arguments(rest)
    module, rest = rest[1:2], rest[2:]
    if module == [_API_SERVER]:
        return rest
    return rest[1:] if module in (["vllm"], ["vllm.entrypoints.cli.main"]) and rest[:1] == ["serve"] else None


def _unwrapped(words: list[str], draft: Draft) -> tuple[list[str], dict[str, str]]:
    """The words without the programs that start others, and the variables that are set on the way."""
    variables: dict[str, str] = {}
    names = _SHELL_NAME
    while words:
        program = _base(words[0])
        name, equals, value = words[0].partition("=")
        if equals and names.fullmatch(name):
            variables[name] = value
            words = words[1:]
        elif program == "env":
            names, words = _ENV_NAME, words[1:]
            while words and words[0].startswith("-"):
                words = words[2:] if words[0] == "-u" else words[1:]
        elif program in _WRAPPERS and len(words) > 1:
            if program in _CHANGING:
                draft.lost(f"`{program}` before the server: a pod has no such thing; see spec.pod.patch")
            words = _after_wrapper(program, words[1:])
        else:
            break
    return words, variables


def _after_wrapper(program: str, words: list[str]) -> list[str]:
    if words[:1] == [_SUBCOMMANDS.get(program, "")]:
        words = words[1:]
    valued = _VALUED.get(program, frozenset())
    while words and words[0].startswith("-"):
        words = words[2:] if words[0] in valued else words[1:]
    return words[_POSITIONAL.get(program, 0) :]


def _in_script(words: list[str], variables: dict[str, str], draft: Draft, values: dict[str, str]) -> Launch | None:
    """The server that a shell starts: `sh -c SCRIPT`."""
    rest = words[1:]
    options = list(itertools.takewhile(lambda word: word.startswith(("-", "+")), rest))
    if not any("c" in option for option in options if not option.startswith("--")) or len(rest) == len(options):
        return None
    script, behind = rest[len(options)], rest[len(options) + 2 :]
    launch = launch_of_script(script, draft, values | variables)
    if launch is None:
        return None
    launch.variables = variables | launch.variables
    launch.words = [one for word in launch.words for one in (behind if word == mark("@") else [word])]
    return launch


def launch_of_script(text: str, draft: Draft, values: Mapping[str, str]) -> Launch | None:
    """The server that a shell's text starts; what else the text does is told.

    Raises:
        NotImportableError: a quote is not closed, or several servers are started.
    """
    try:
        script = parsed(text, values)
    except ShellError as error:
        raise NotImportableError(f"this is no shell's text: {error}") from None
    tell_mended(script, draft)
    found: list[Launch] = []
    statements = [one for statement in script.statements for one in started(statement, values, is_server)]
    for statement in statements:
        launch = launch_in(statement.words, draft, values)
        if launch is None:
            tell(statement, draft)
            continue
        tell_surroundings(statement, draft)
        launch.variables = script.exported | statement.assigned | launch.variables
        found.append(launch)
        if statement.words[0] in KEYWORDS - {"do"}:
            draft.check(f"the server is started behind `{statement.words[0]}`: whether it is, nobody knows here")
    if len(found) > 1:
        raise NotImportableError("two servers are started in one script: import each by itself")
    return found[0] if found else None


def tell_mended(script: Script, draft: Draft) -> None:
    """Say of a script that its lines are read as they were meant."""
    if script.mended:
        draft.note(
            "a backslash with blanks or a comment behind it ends no line for a shell, which lost the arguments below: "
            "they are read as what was meant"
        )


def tell_surroundings(statement: Statement, draft: Draft) -> None:
    """Say of a server which program starts it, and of one in a loop that it is started once, and by whom again."""
    if is_in_container(statement.started_by):
        told = f"`{statement.started_by}` names no image: spec.engine.image is that of the profile"
        draft.check(told, "engine", "image")
    elif statement.started_by:
        draft.note(f"`{statement.started_by}` before the server is left out: kubelet starts it")
    if statement.loop in CONDITIONAL_LOOPS or (statement.loop and goes_over_list(statement)):
        draft.note(f"`{statement.loop}` in the script is left out: kubelet starts an engine anew that has ended")
    elif statement.loop:
        draft.lost(f"`{statement.loop}` in the script: loops are not followed, and a server is started in this one")


def tell(statement: Statement, draft: Draft) -> None:
    """Say of a command beside the server that it is not carried over."""
    words = behind_keywords(statement.words)
    if {*statement.words[:1]} & {"if", "elif", *LOOPS}:  # a question, whose answer is looked at elsewhere
        return
    program = _base(words[0]) if words else ":"
    told = shown(" ".join(words))[:80]
    if program in {"done", "case", "esac"}:  # what is done in them is looked at by itself
        return
    if program == "ray" or any(_base(word) in _RAY_SCRIPTS for word in words):
        if draft.pods > 1:
            draft.note(f"`{told}` is left out: vLLM spans the pods of a group by itself, without Ray")
        else:
            draft.lost(f"`{told}`: Ray over several nodes: set spec.parallelism.nodes, which needs no Ray")
    elif program == "cd":
        draft.note(f"`{told}` is left out: paths in the arguments should be absolute")
    elif _makes_environment(words):
        draft.note(f"`{told}` is left out: the engine's image holds vLLM")
    elif program not in _HARMLESS and statement.follows != "|":
        draft.lost(f"`{told}`: runs beside the server; put it into an image or into spec.pod.initContainers")


_PACKAGES: Final = re.compile(r"(vllm|pip|uv|wheel|setuptools|torch)(\[[\w,-]*\])?")
"""What every image of vLLM holds, or what nothing but an installation needs."""

_VALUED_OF_PIP: Final = frozenset({"--index-url", "-i", "--extra-index-url", "--find-links", "-f", "--index-strategy"})


def _makes_environment(words: Sequence[str]) -> bool:
    """Whether a command makes a virtual environment, or puts vLLM into one without choosing its release."""
    rest = list(words)
    if rest[1:2] == ["-m"] and _PYTHON.fullmatch(_base(rest[0])):
        rest = rest[2:]
    if rest[:1] == ["uv"]:
        rest = rest[1:]
    if not rest or rest[0] in {"venv", "virtualenv"}:
        return bool(rest)
    if _base(rest[0]) not in {"pip", "pip3"} or rest[1:2] != ["install"]:
        return False
    valued = {place + 1 for place, word in enumerate(rest) if word in _VALUED_OF_PIP}
    named = [word for place, word in enumerate(rest) if place > 1 and place not in valued and not word.startswith("-")]
    return bool(named) and all(_PACKAGES.fullmatch(word) for word in named)
