"""`kubectl vllm gates`: what the manager of each engine says now, and what it said before.

The manager is asked inside its own pod, by `kubectl exec`: no network to the pods is needed. Of an engine whose
container does not run, or whose manager does not answer, its pod's own status tells.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer

from vllm_operator.api import meta
from vllm_operator.api.names import instance_name, selector_text
from vllm_operator.cli.kubectl import Kubectl, KubectlError
from vllm_operator.cli.pods import each, manager_status
from vllm_operator.cli.table import aligned, cells_of
from vllm_operator.diagnosis.engines import report
from vllm_operator.diagnosis.facts import is_dead, is_leaving
from vllm_operator.render.untyped import items, part

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

WATCH_SECONDS: Final = 2.0
_FAILED: Final = 1


class Output(StrEnum):
    """How it is printed."""

    TABLE = "table"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine, as its manager tells it; as its pod does, where no manager answers."""

    pod: str
    state: str
    """The manager's verdict, or what the operator makes of the pod alone."""
    since: str
    sentence: str
    phase: str = ""
    """How far it has come in loading: `LoadingWeights (3 of 8 shards)`."""
    longest_step_seconds: float | None = None
    """Longest step of the last hour."""
    in_flight: float | None = None
    """Requests that are computed or wait."""
    timeline: tuple[Mapping[str, Any], ...] = ()
    """The manager's verdicts, the oldest first: time, verdict, cause and sentence of each change."""
    status: Mapping[str, Any] = field(default_factory=dict)
    """All that the manager says; empty where none answers."""
    unread: str = ""
    """Why no manager answers."""


class Line(NamedTuple):
    """One line to print. While engines are watched, it is printed again only when what it is about has changed."""

    text: str
    about: tuple[str, ...]


def gates(
    name: Annotated[str, typer.Argument(help="The VLLMModel.")],
    *,
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Its namespace; kubectl's own by default.")] = "",
    context: Annotated[str, typer.Option(help="Context of the kubeconfig; kubectl's own by default.")] = "",
    output: Annotated[Output, typer.Option("--output", "-o", help="A table, or everything as data.")] = Output.TABLE,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on, and print what is new.")] = False,
) -> None:
    """Print what the manager of each engine of a VLLMModel says, and how that came about."""
    kubectl = Kubectl(namespace, context)
    printed: set[tuple[str, ...]] = set()
    try:
        while True:
            for line in _lines(look(kubectl, name), output):
                if line.about not in printed or not watch:
                    typer.echo(line.text)
                printed.add(line.about)
            if not watch:
                return
            time.sleep(WATCH_SECONDS)
    except KubectlError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(_FAILED) from None
    except KeyboardInterrupt:
        return


def look(kubectl: Kubectl, name: str) -> list[Engine]:
    """The engines of a model, by name.

    Raises:
        KubectlError: there is no such model, or kubectl may not read it or its pods.
    """
    kubectl.run("get", f"{meta.PLURAL}.{meta.GROUP}", name)
    found = kubectl.get("pods", "--selector", selector_text(instance_name(name)))["items"]
    living = (pod for pod in found if not (is_leaving(pod) or is_dead(pod)))
    pods = sorted(living, key=lambda pod: str(pod["metadata"]["name"]))
    return each(lambda pod: _engine(kubectl, pod), pods)


def _engine(kubectl: Kubectl, pod: Mapping[str, Any]) -> Engine:
    try:
        return _told(pod["metadata"]["name"], manager_status(kubectl, pod))
    except KubectlError as error:
        seen = report(pod, now=datetime.now(UTC))
        return Engine(seen.pod, seen.state, seen.since, seen.sentence, unread=str(error))


def _told(pod: str, status: Mapping[str, Any]) -> Engine:
    phase = part(status, "phase")
    detail = f" ({phase['detail']})" if phase.get("detail") else ""
    return Engine(
        pod=pod,
        state=str(status.get("verdict") or "unknown"),
        since=str(status.get("since") or ""),
        sentence=str(status.get("sentence") or ""),
        phase=f"{phase.get('name') or ''}{detail}",
        longest_step_seconds=_number(status, "longest_step_seconds"),
        in_flight=_number(status, "in_flight"),
        timeline=tuple(items(status, "timeline")),
        status=status,
    )


def _number(status: Mapping[str, Any], name: str) -> float | None:
    value = status.get(name)
    return value if isinstance(value, int | float) else None


_NOW: Final = ("POD", "STATE", "PHASE", "SINCE", "LONGEST STEP", "IN FLIGHT", "SENTENCE")
_MOVING: Final = ("LONGEST STEP", "IN FLIGHT")
_HISTORY: Final = ("POD", "VERDICT", "TIME", "SENTENCE")


def _lines(engines: Sequence[Engine], output: Output) -> list[Line]:
    if output is Output.JSON:
        text = json.dumps([asdict(engine) for engine in engines])
        return [Line(text, (text,))]
    history = [row for engine in engines for row in _history(engine)]
    return [*_table(_NOW, [_now(engine) for engine in engines]), Line("", ()), *_table(_HISTORY, history)]


def _now(engine: Engine) -> tuple[str, ...]:
    longest, flight = engine.longest_step_seconds, engine.in_flight
    return (
        engine.pod,
        engine.state,
        engine.phase,
        engine.since,
        "" if longest is None else f"{longest:.1f} s",
        "" if flight is None else f"{flight:.0f}",
        engine.sentence,
    )


def _history(engine: Engine) -> Iterator[tuple[str, ...]]:
    for entry in engine.timeline:
        yield (engine.pod, *(str(entry.get(key) or "") for key in ("verdict", "time", "sentence")))
    if engine.status.get("trouble"):
        yield (engine.pod, "", "", f"trouble of the manager itself: {engine.status['trouble']}")
    if engine.unread:
        yield (engine.pod, "", "", f"no word of a manager: {engine.unread}")


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[Line]:
    """A table, each line with what it is about."""
    cells = cells_of([heads, *rows])
    for text, row in zip(aligned(cells), cells, strict=True):
        yield Line(text, tuple(cell for head, cell in zip(heads, row, strict=True) if head not in _MOVING))
