"""What kopf calls: the events of its watches are handed to the intake."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import kopf

from vllm_operator.api.live import live_object
from vllm_operator.cluster.kinds import WATCHED

if TYPE_CHECKING:
    from vllm_operator.cluster.kinds import Kind
    from vllm_operator.controller.intake import Intake


def register(registry: kopf.OperatorRegistry, intake: Intake) -> None:
    """Watch the resource, its children and the engines' pods."""
    for kind in WATCHED:
        group, _, version = kind.api_version.rpartition("/")
        handler = functools.partial(_on_event, intake, kind)
        watch = kopf.on.event(group=group, version=version, plural=kind.plural, id=kind.plural, registry=registry)
        watch(handler)


async def _on_event(intake: Intake, kind: Kind, /, event: kopf.RawEvent, **_: Any) -> None:
    """Hand one event of a watch on. It returns nothing: kopf would write a result into the status."""
    live = live_object(event["object"], kind=kind.kind)
    if event["type"] == "DELETED":
        intake.deleted(kind, live)
    else:
        intake.changed(kind, live)
