"""Models and their engines as plain tables and as data. Pure."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from vllm_operator.cli.status.progress import size
from vllm_operator.cli.table import aligned, cells_of
from vllm_operator.manager.signatures import DOWNLOADING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vllm_operator.cli.status.view import DiagnosisView, DownloadView, EngineView, ModelView

_MODELS: Final = ("NAME", "READY", "REASON", "SERVING", "UPDATED", "LOADING", "DIAGNOSIS", "SINCE", "MESSAGE")
_MODEL: Final = ("NAME", "READY", "REASON", "SERVING", "UPDATED", "SINCE", "MESSAGE")
_ENGINES: Final = ("POD", "STATE", "PHASE", "PROGRESS", "RATE", "RESTARTS", "NODE", "SINCE", "SENTENCE")
_DOWNLOADS: Final = ("DOWNLOAD", "STATE", "PROGRESS", "BYTES", "RATE", "LEFT", "MESSAGE")
_MOVING: Final = ("PROGRESS", "BYTES", "RATE", "LEFT")
"""Columns that change from look to look, while the phase beside them counts shards and files."""
_NAMESPACE: Final = "NAMESPACE"
_STARTING: Final = "Starting"
_SERVING: Final = "Serving"


class Line(NamedTuple):
    """One line to print. While models are watched, it is printed again only when what it is about has changed."""

    text: str
    about: tuple[str, ...]


def list_lines(views: Sequence[ModelView], *, everywhere: bool) -> Iterator[Line]:
    """A row of each model."""
    rows = [_models_row(view) for view in views]
    if everywhere:
        rows = [(view.namespace, *row) for view, row in zip(views, rows, strict=True)]
    yield from _table((_NAMESPACE, *_MODELS) if everywhere else _MODELS, rows)


def model_lines(view: ModelView) -> Iterator[Line]:
    """All of one model."""
    row = (view.name, ready(view), view.reason, serving(view), updated(view), view.since, view.message)
    yield from _table(_MODEL, [row])
    if view.downloads:
        yield Line("", ())
        yield from _table(_DOWNLOADS, [download_row(one) for one in view.downloads])
    if view.engines:
        yield Line("", ())
        yield from _table(_ENGINES, [_engine_row(engine) for engine in view.engines])
    remarks = list(remarks_of(view))
    if remarks:
        yield Line("", ())
        yield from (Line(text, (text,)) for text in remarks)


def remarks_of(view: ModelView) -> Iterator[str]:
    """What no table has room for, a line each."""
    if view.rollout:
        yield f"rollout: {rollout(view)}"
    yield from _adapters(view)
    for known in view.diagnosis:
        yield f"diagnosis: {known.engine}: {known.id}: {known.sentence}{tried(known)}"
    for known in view.symptoms:
        yield f"slow: {known.engine}: {known.id}: {known.sentence}{tried(known)}"
    for warning in view.warnings:
        yield f"warning: {warning}"
    for engine in view.engines:
        if engine.note:
            yield f"note: {engine.pod}: no word of its manager: {engine.note}"
    for note in view.notes:
        yield f"note: {note}"


def _adapters(view: ModelView) -> Iterator[str]:
    """The adapters that are served in one line, and each other one with why it is not."""
    served = [one.name for one in view.adapters if one.state == _SERVING]
    if served:
        yield f"adapters: {len(served)} of {len(view.adapters)} are served: {', '.join(served)}"
    for one in view.adapters:
        if one.state != _SERVING:
            yield f"adapter: {one.name}: {one.state}{f': {one.message}' if one.message else ''}"


def ready(view: ModelView) -> str:
    """The condition Ready, and whether somebody has to act."""
    return f"{view.ready} (stalled)" if view.stalled else view.ready


def serving(view: ModelView) -> str:
    """How many of the wanted engines serve."""
    return f"{view.serving}/{view.wanted}"


def updated(view: ModelView) -> str:
    """How many of the wanted engines are of the newest template, while engines are replaced."""
    return f"{view.rollout.get('updated', 0)}/{view.rollout.get('wanted', view.wanted)}" if view.rollout else ""


def rollout(view: ModelView) -> str:
    """How far the rollout is."""
    how = ": ".join(str(view.rollout[name]) for name in ("strategy", "reason") if view.rollout.get(name))
    counts = f"{view.rollout.get('updated', 0)} of {view.rollout.get('wanted', 0)} engines are updated"
    return f"{counts} ({how})" if how else counts


def tried(known: DiagnosisView) -> str:
    """The field to change first, with the value to try."""
    if not known.field:
        return ""
    return f" ({known.field}{f': try {known.value}' if known.value else ''})"


def phase(engine: EngineView) -> str:
    """How far an engine has loaded, in one cell."""
    return f"{engine.phase} ({engine.detail})" if engine.detail else engine.phase


def progress(engine: EngineView) -> str:
    """How much of its phase is done."""
    if engine.progress is not None:
        return f"{engine.progress.share:.0%}"
    return size(engine.downloaded.size_bytes) if engine.downloaded and _is_downloading(engine) else ""


def rate(engine: EngineView) -> str:
    """How fast it loads."""
    return f"{size(engine.bytes_per_second)}/s" if engine.bytes_per_second else ""


def download_row(one: DownloadView) -> tuple[str, ...]:
    """How far a source has come into the claim."""
    share = f"{min(one.done / one.total, 1.0):.0%}" if one.total else ""
    sizes = f"{size(one.done)} of {size(one.total)}" if one.total else ""
    rate = f"{size(one.bytes_per_second)}/s" if one.bytes_per_second else ""
    left = "" if one.seconds_left is None else in_words(one.seconds_left)
    what = f"{one.source}@{one.revision}" if one.revision else one.source
    return (what, one.state, share, sizes, rate, left, f"{one.reason}: {one.message}" if one.reason else "")


def in_words(seconds: int) -> str:
    """How long something takes, as people say it."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes_left = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes_left} min"
    return f"{minutes} min" if minutes else f"{rest} s"


def as_document(view: ModelView) -> dict[str, Any]:
    """All of it, for programs."""
    return {
        "namespace": view.namespace,
        "name": view.name,
        "ready": view.ready,
        "reason": view.reason,
        "message": view.message,
        "since": view.since,
        "stalled": view.stalled,
        "wantedReplicas": view.wanted,
        "replicas": view.existing,
        "readyReplicas": view.serving,
        "updatedReplicas": view.updated,
        "rollout": dict(view.rollout) or None,
        "engines": [_engine_document(engine) for engine in view.engines],
        "diagnosis": [_diagnosis_document(known) for known in view.diagnosis],
        "symptoms": [_diagnosis_document(known) for known in view.symptoms],
        "downloads": [_download_document(one) for one in view.downloads],
        "adapters": [asdict(one) for one in view.adapters],
        "warnings": list(view.warnings),
        "notes": list(view.notes),
    }


def _download_document(one: DownloadView) -> dict[str, Any]:
    return {
        "source": one.source,
        "revision": one.revision or None,
        "state": one.state,
        "reason": one.reason or None,
        "message": one.message or None,
        "bytesDone": one.done,
        "bytesTotal": one.total,
        "bytesPerSecond": one.bytes_per_second or None,
        "secondsLeft": one.seconds_left,
    }


def _diagnosis_document(known: DiagnosisView) -> dict[str, Any]:
    names = ("engine", "id", "cause", "advice", "field", "value", "since", "excerpt")
    return {name: getattr(known, name) or None for name in names}


def _engine_document(engine: EngineView) -> dict[str, Any]:
    return {
        "pod": engine.pod,
        "node": engine.node or None,
        "state": engine.state,
        "reason": engine.reason or None,
        "phase": engine.phase or None,
        "detail": engine.detail or None,
        "progress": asdict(engine.progress) if engine.progress else None,
        "downloadedBytes": engine.downloaded.size_bytes if engine.downloaded else None,
        "bytesPerSecond": None if engine.bytes_per_second is None else round(engine.bytes_per_second),
        "since": engine.since or None,
        "restarts": engine.restarts,
        "sentence": engine.sentence or None,
        "note": engine.note or None,
    }


def _is_downloading(engine: EngineView) -> bool:
    """Whether what is on the disk says something: what is there from an earlier start does not grow."""
    return engine.bytes_per_second is not None or engine.phase == DOWNLOADING


def _models_row(view: ModelView) -> tuple[str, ...]:
    return (
        view.name,
        ready(view),
        view.reason,
        serving(view),
        updated(view),
        loading(view),
        ", ".join(dict.fromkeys(known.id for known in view.diagnosis)),
        view.since,
        view.message,
    )


def loading(view: ModelView) -> str:
    """How far the first engine that loads has come, and how many load besides it."""
    found = [engine for engine in view.engines if engine.state == _STARTING and engine.phase]
    if not found:
        return ""
    return phase(found[0]) + (f" +{len(found) - 1}" if len(found) > 1 else "")


def _engine_row(engine: EngineView) -> tuple[str, ...]:
    return (
        engine.pod,
        engine.state,
        phase(engine),
        progress(engine),
        rate(engine),
        str(engine.restarts),
        engine.node,
        engine.since,
        engine.sentence,
    )


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[Line]:
    cells = cells_of([heads, *rows])
    for text, row in zip(aligned(cells), cells, strict=True):
        yield Line(text, tuple(cell for head, cell in zip(heads, row, strict=True) if head not in _MOVING))
