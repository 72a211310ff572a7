"""`kubectl vllm gates`: what the gate of each engine says now, and what it said before.

What is read: pods, the Events of those that are not ready, and the time line that the gate keeps in the pod.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from vllm_operator.api import meta
from vllm_operator.api.names import instance_name, selector_text
from vllm_operator.cli.kubectl import Kubectl, KubectlError
from vllm_operator.diagnosis.engines import needs_lookup, report
from vllm_operator.diagnosis.events import latest_message
from vllm_operator.diagnosis.facts import explained_from, is_dead, is_leaving
from vllm_operator.render.manager import STATE_FOLDER
from vllm_operator.render.pod import CONTAINER_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from vllm_operator.diagnosis.events import KubeletMessage

WATCH_SECONDS: Final = 2.0
_FAILED: Final = 1
_READ_TIME_LINE: Final = f"print(open('{STATE_FOLDER}/timeline.jsonl', encoding='utf-8', errors='replace').read())"


class Output(StrEnum):
    """How it is printed."""

    TABLE = "table"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine, as its pod and its gate tell it."""

    pod: str
    state: str
    reason: str
    since: str
    sentence: str
    timeline: tuple[Mapping[str, Any], ...] = ()
    """The gate's verdicts, the oldest first: time, verdict, cause and sentence of each change."""
    unread: str = ""
    """Why there is no time line."""


def gates(
    name: Annotated[str, typer.Argument(help="The VLLMModel.")],
    *,
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Its namespace; kubectl's own by default.")] = "",
    context: Annotated[str, typer.Option(help="Context of the kubeconfig; kubectl's own by default.")] = "",
    output: Annotated[Output, typer.Option("--output", "-o", help="A table, or everything as data.")] = Output.TABLE,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on, and print what is new.")] = False,
) -> None:
    """Print what the gate of each engine of a VLLMModel says, and how that came about."""
    kubectl = Kubectl(namespace, context)
    printed: set[str] = set()
    try:
        while True:
            for line in _lines(look(kubectl, name), output):
                if line not in printed or not watch:
                    typer.echo(line)
                printed.add(line)
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
    return [
        _engine(kubectl, pod)
        for pod in sorted(found, key=lambda pod: str(pod["metadata"]["name"]))
        if not (is_leaving(pod) or is_dead(pod))
    ]


def _engine(kubectl: Kubectl, pod: Mapping[str, Any]) -> Engine:
    found = report(pod, _kubelet_message(kubectl, pod), now=datetime.now(UTC))
    timeline, unread = _timeline(kubectl, found.pod)
    return Engine(found.pod, found.state, found.reason, found.since, found.sentence, timeline, unread)


def _kubelet_message(kubectl: Kubectl, pod: Mapping[str, Any]) -> KubeletMessage | None:
    """What kubelet says of an engine that is not ready, as the operator reads it."""
    since = explained_from(pod)
    if since is None or not needs_lookup(pod):
        return None
    selector = f"involvedObject.uid={pod['metadata']['uid']},type=Warning"
    return latest_message(kubectl.get("events", "--field-selector", selector)["items"], since)


def _timeline(kubectl: Kubectl, pod: str) -> tuple[tuple[Mapping[str, Any], ...], str]:
    """The time line in a pod, or why it cannot be read: most often the container does not run."""
    command = ("python3", "-S", "-E", "-c", _READ_TIME_LINE)
    try:
        text = kubectl.run("exec", pod, "--container", CONTAINER_NAME, "--", *command)
    except KubectlError as error:
        return (), str(error)
    return tuple(_entries(text.splitlines())), ""


def _entries(lines: Iterable[str]) -> Iterator[Mapping[str, Any]]:
    """What can be read of a time line, which the pod may be writing at this moment."""
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            yield entry


def _lines(engines: Sequence[Engine], output: Output) -> list[str]:
    if output is Output.JSON:
        return [json.dumps([asdict(engine) for engine in engines])]
    now = [(engine.pod, engine.state, engine.since or "-", engine.sentence or "-") for engine in engines]
    return [*_table(("POD", "STATE", "SINCE", "SENTENCE"), now), "", *_table(_HISTORY, _history(engines))]


_HISTORY: Final = ("POD", "VERDICT", "TIME", "SENTENCE")


def _history(engines: Sequence[Engine]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for engine in engines:
        rows += [
            (engine.pod, *(str(entry.get(key, "-")) for key in ("verdict", "time", "sentence")))
            for entry in engine.timeline
        ]
        if engine.unread:
            rows.append((engine.pod, "-", "-", f"no time line: {engine.unread}"))
    return rows


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Columns of equal width; the last one, which holds sentences, is as long as it is."""
    widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(len(heads) - 1)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]])
        for row in (heads, *rows)
    ]
