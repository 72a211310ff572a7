"""The story for people and as data. Pure."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from vllm_operator.cli.diagnose.texts import text, text_or
from vllm_operator.cli.status.progress import size
from vllm_operator.cli.status.text import as_document, rollout
from vllm_operator.cli.table import aligned, cells_of
from vllm_operator.diagnosis.signatures import ENGLISH

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from vllm_operator.cli.diagnose.story import Remedy, Story
    from vllm_operator.cli.status.view import DiagnosisView, EngineView

_CONDITIONS = ("CONDITION", "STATUS", "REASON", "SINCE", "MESSAGE")
_EVENTS = ("TIME", "TYPE", "REASON", "MESSAGE")


def lines(story: Story) -> Iterator[str]:
    """All lines."""
    yield story.verdict
    if story.view.message:
        yield f"{story.view.reason}: {story.view.message}"
    if story.seen_now:
        yield story.seen_now
    yield from _section(story, "conditions", _table(_CONDITIONS, list(_conditions(story))))
    yield from _section(story, "engines", _engines(story))
    yield from _section(story, "rollout", [rollout(story.view)] if story.view.rollout else [])
    yield from _section(story, "warnings", story.view.warnings)
    events = [(one.at, one.type, one.reason, one.message) for one in story.events]
    yield from _section(story, "events", _table(_EVENTS, events))
    yield from _section(story, "gaps", story.view.notes)
    yield from _section(story, "remedies", _remedies(story))


def as_data(story: Story) -> dict[str, Any]:
    """The same for programs: the document of `kubectl vllm status`, and what is told besides."""
    return {
        **as_document(story.view),
        "language": story.language,
        "verdict": story.verdict,
        "seenNow": story.seen_now or None,
        "conditions": [asdict(one) for one in story.conditions],
        "endedPods": story.ended or None,
        "events": [asdict(one) for one in story.events],
        "remedies": [
            {
                "text": one.text,
                "id": one.id,
                "field": one.field or None,
                "value": one.value or None,
                "command": one.command or None,
                "engines": list(one.engines),
            }
            for one in story.remedies
        ],
    }


def _conditions(story: Story) -> Iterator[tuple[str, ...]]:
    """A row of each; the message of the model, which several have, stands above them already."""
    above = text("sentences", "above", story.language)
    for one in story.conditions:
        message = above if one.message and one.message == story.view.message else one.message
        yield (one.type, one.status, one.reason, one.since, message)


def _section(story: Story, heading: str, content: Iterable[str]) -> Iterator[str]:
    found = list(content)
    if found:
        yield ""
        yield text("headings", heading, story.language)
        yield from (f"  {line}" for line in found)


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    return list(aligned(cells_of([heads, *rows]))) if rows else []


def _engines(story: Story) -> Iterator[str]:
    view = story.view
    yield text("sentences", "serving", story.language, serving=view.serving, wanted=view.wanted)
    if not view.engines:
        yield text("sentences", "no_pods", story.language)
    if story.ended:
        yield story.ended
    known = {one.engine: one for one in view.diagnosis}
    for engine in view.engines:
        yield from _engine(story, engine, known.get(engine.pod))


def _engine(story: Story, engine: EngineView, known: DiagnosisView | None) -> Iterator[str]:
    language = story.language
    place = "where" if engine.node else "nowhere"
    about = [
        text_or(engine.state, "states", engine.state, language),
        text("sentences", place, language, node=engine.node, restarts=engine.restarts),
        text("sentences", "since", language, since=engine.since) if engine.since else "",
    ]
    yield f"{engine.pod}: {', '.join(filter(None, about))}"
    if engine.sentence:
        yield f"  {engine.sentence}"
    if engine.phase and language != ENGLISH:
        yield _labelled(story, "phase", _phase(story, engine))
    if known is not None:
        yield from _diagnosis(story, known)
    for slow in story.view.symptoms:
        if slow.engine == engine.pod:
            yield _labelled(story, "slow", f"{slow.cause} ({slow.id})")
    if engine.note:
        yield _labelled(story, "note", engine.note)


def _phase(story: Story, engine: EngineView) -> str:
    """The phase in the reader's language; the sentence tells it in English."""
    done = engine.detail or (size(engine.downloaded.size_bytes) if engine.downloaded else "")
    name = text_or(engine.phase, "phases", engine.phase, story.language)
    return f"{name} ({done})" if done else name


def _diagnosis(story: Story, known: DiagnosisView) -> Iterator[str]:
    yield _labelled(story, "cause", f"{known.cause} ({known.id})")
    yield _labelled(story, "advice", known.advice)
    if known.excerpt:
        yield _labelled(story, "seen", known.excerpt)


def _labelled(story: Story, label: str, content: str) -> str:
    return f"  {text('labels', label, story.language)}: {content}"


def _remedies(story: Story) -> Iterator[str]:
    if not story.remedies:
        reason = story.view.reason
        settled = story.view.ready == "True" or not reason
        yield text("sentences", "nothing" if settled else "in_its_words", story.language, reason=reason)
    for number, remedy in enumerate(story.remedies, start=1):
        yield f"{number}. {remedy.text}"
        yield from (f"   {line}" for line in _details(story, remedy))


def _details(story: Story, remedy: Remedy) -> Iterator[str]:
    if remedy.field and remedy.value:
        yield text("sentences", "try", story.language, field=remedy.field, value=remedy.value)
    if remedy.command:
        yield remedy.command
    if remedy.engines:
        yield f"{text('labels', 'engines', story.language)}: {', '.join(remedy.engines)}"
