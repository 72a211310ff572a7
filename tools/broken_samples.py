"""Ways in which people break a sample, as data, and the part of docs/troubleshooting.md that lists them.

The tests apply each of them and read what kubectl prints, so the page promises what was seen.
"""

from __future__ import annotations

import json
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter

from tools.page import cell

DATA: Final = Path(__file__).parent.parent / "tests" / "data" / "broken" / "samples.yaml"
SAMPLES: Final = Path(__file__).parent.parent / "manifests" / "samples"

BEGIN: Final = "<!-- broken samples, written by make generate -->\n"
END: Final = "<!-- broken samples end here -->\n"
_HEAD: Final = (
    "\n| what was done | READY, REASON | what is told | field | what to do | whose words |\n|---|---|---|---|---|---|\n"
)

Words = Annotated[str, StringConstraints(min_length=1, max_length=4096)]


class Chapter(StrEnum):
    """Where people look for a failure; the value is the heading."""

    MEMORY = "CUDA out of memory"
    CONNECTION = "Connection refused"
    SPEED = "Slow inference"
    LOADING = "Model loading errors"
    CLUSTER = "Never scheduled, never started"
    APPLY = "Refused by `kubectl apply`"


class Engine(StrEnum):
    """Whose words the status has; the value is what the page says."""

    REAL = "vLLM"
    LOG = "a log of vLLM on GPUs"
    NONE = "Kubernetes"


class BrokenSample(BaseModel):
    """One way to break a sample, and what has to be told of it. tests/data/broken/samples.yaml says what is what."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z-]{2,40}$")]
    chapter: Chapter
    done: Words
    sample: Annotated[str, StringConstraints(pattern=r"^[a-z0-9.-]+\.yaml$")]
    patch: dict[str, Any]
    engine: Engine
    here: dict[str, Any] = {}
    beside: tuple[dict[str, Any], ...] = ()
    log: str = ""
    load: bool = False
    reason: str = ""
    """Empty where `kubectl apply` refuses the file."""
    ready: Literal["True", "False"] = "False"
    stalled: bool = False
    says: Annotated[tuple[Words, ...], Field(min_length=1)]
    field: Words
    remedy: Words
    never: tuple[Words, ...] = ()
    seen: tuple[Annotated[str, StringConstraints(pattern=r"^[\w.-]+/[\w.-]+#\d+$")], ...] = ()

    @property
    def document(self) -> dict[str, Any]:
        """The sample with the change."""
        found: dict[str, Any] = merged(sample(self.sample), self.patch)
        return found


def merged(target: Any, patch: Any) -> Any:
    """A document after a JSON merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    whole = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            whole.pop(key, None)
        else:
            whole[key] = merged(whole.get(key), value)
    return whole


def sample(name: str) -> dict[str, Any]:
    """The resource in a sample."""
    found: dict[str, Any] = yaml.safe_load((SAMPLES / name).read_text(encoding="utf-8"))
    return found


@cache
def broken_samples() -> tuple[BrokenSample, ...]:
    """All of them, in the order of the page.

    Raises:
        pydantic.ValidationError: one has another form than it must have.
    """
    found = yaml.safe_load(DATA.read_text(encoding="utf-8"))
    for row in found:
        row["chapter"], row["engine"] = Chapter[row["chapter"].upper()], _ENGINES[row["engine"]]
    return TypeAdapter(tuple[BrokenSample, ...]).validate_python(found)


_ENGINES: Final = {"vLLM": Engine.REAL, "log": Engine.LOG, "none": Engine.NONE}


def with_broken_samples(page: str) -> str:
    """A page whose list of broken samples, between its two marks, is that of today."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{''.join(map(_chapter, Chapter))}\n{END}{after}"


def _chapter(chapter: Chapter) -> str:
    rows = "".join(_row(one) for one in broken_samples() if one.chapter is chapter)
    return f"\n### {chapter}\n{_HEAD}{rows}"


def _row(one: BrokenSample) -> str:
    done = f"{one.done}: [{one.sample}](../manifests/samples/{one.sample}){_change(one.patch)}"
    told = f"`{one.ready}`, `{one.reason}`{', `Stalled`' if one.stalled else ''}" if one.reason else "refused"
    says = " ... ".join(one.says)
    whose = f"{one.engine}{''.join(f', {report}' for report in one.seen)}"
    return "| " + " | ".join(map(cell, (done, told, says, f"`{one.field}`", one.remedy, whose))) + " |\n"


def _change(patch: dict[str, Any]) -> str:
    """The change as people write it, a field in each line; empty where the file is as it was."""
    lines = ", ".join(f"`{path}{_value(value)}`" for path, value in _leaves(patch))
    return f" with {lines}" if lines else ""


def _value(value: Any) -> str:
    return " left out" if value is None else f": {value if isinstance(value, str) else json.dumps(value)}"


def _leaves(node: dict[str, Any], path: str = "") -> list[tuple[str, Any]]:
    """Each value that a patch sets, with its path."""
    found: list[tuple[str, Any]] = []
    for key, value in node.items():
        below = f"{path}.{key}" if path else key
        found += _leaves(value, below) if isinstance(value, dict) else [(below, value)]
    return found
