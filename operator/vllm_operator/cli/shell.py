"""The `vllm serve` command line, as people run it on a machine."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final

from vllm_operator.cli.engine import ONE_KEY_ALONE, Outside, names_outside
from vllm_operator.cli.outside import ONLY_IN_A_CLUSTER, ONLY_IN_A_CONTAINER, comment, set_fields
from vllm_operator.cli.places import Place, places
from vllm_operator.render.environment import HOME

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from vllm_operator.cli.engine import Engine, Text

_FLAG: Final = re.compile(r"--?[A-Za-z]")
_SHELL_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def script(engines: Iterable[Engine]) -> str:
    """The command lines of all engines, each below comments that say what it needs."""
    return "\n".join(_block(engine.bare()) for engine in engines)


def _block(engine: Engine) -> str:
    shell_names = names_outside(engine.outside)
    notes = "".join(f"# {comment(note)}\n" for note in _notes(engine, shell_names))
    assignments = "".join(f"{line} \\\n" for line in _assignments(engine, shell_names))
    return notes + assignments + " \\\n  ".join(_command(engine, shell_names)) + "\n"


def _notes(engine: Engine, shell_names: Mapping[Outside, str]) -> Iterator[str]:
    model = engine.model
    yield f"{model.name}: {model.spec.model.source}"
    for variable in engine.outside:
        needed = "Set it if you want it" if variable.optional else "Set it before"
        yield f"{shell_names[variable]}: {variable.origin}. {needed}."
    for source in engine.sources:
        prefix = f", with {source.prefix} before each" if source.prefix else ""
        yield f"Export the keys of {source.kind} {source.name}{prefix}."
    for place in places(engine):
        yield _told(place)
    if engine.leaves_keys_out:
        yield f"{ONE_KEY_ALONE[0].upper()}{ONE_KEY_ALONE[1:]}."
    homely = [name for name, text in engine.variables.items() if _is_below_home(text)]
    if homely:
        yield f"Left to this machine, since a pod has a home of its own: {', '.join(homely)}."
    if model.spec.pod.patch:
        yield "Of spec.pod.patch only what it says of the engine's args and env is here."
    silent = set_fields(model, (*ONLY_IN_A_CONTAINER, *ONLY_IN_A_CLUSTER))
    if silent:
        yield f"Without meaning for a single command: {', '.join(silent)}."


def _told(place: Place) -> str:
    return f"{place.path} is there in a pod only: put {place.content} there."


def _assignments(engine: Engine, shell_names: Mapping[Outside, str]) -> Iterator[str]:
    """Variables before the command."""
    given = {
        name: text
        for name, text in engine.variables.items()
        if not _is_below_home(text) and not any(isinstance(part, Outside) and part.optional for part in text)
    }
    strange = {name: text for name, text in given.items() if not _SHELL_NAME.fullmatch(name)}
    for name, text in given.items():
        if name not in strange:
            yield f"{name}={_quoted(text, shell_names, required=True)}"
    if strange:
        yield "env"  # sets names that a shell cannot, on its own command line: so nothing else, which may be a key
    for name, text in strange.items():
        yield f"{name}={_quoted(text, shell_names, required=True)}"


def _is_below_home(text: Text) -> bool:
    """Whether it is a folder in the home that a pod has; a machine has its own."""
    first = text[0] if text else ""
    return isinstance(first, str) and (first == HOME or first.startswith(f"{HOME}/"))


def _command(engine: Engine, shell_names: Mapping[Outside, str]) -> list[str]:
    """The words, each flag with its values on a line of its own."""
    lines: list[str] = []
    for text in engine.words:
        word, first = _quoted(text, shell_names), text[0] if text else ""
        if lines and not (isinstance(first, str) and _FLAG.match(first)):
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _quoted(text: Text, shell_names: Mapping[Outside, str], *, required: bool = False) -> str:
    """The text as one word of a shell that hands it on unchanged; a required variable that is not set stops it."""
    words = (
        f'"${{{shell_names[part]}{":?" if required else ""}}}"' if isinstance(part, Outside) else shlex.quote(part)
        for part in text
    )
    return "".join(words) or "''"
