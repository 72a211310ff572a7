"""What people are told of an engine: by the status of its model, and by its own manager."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from tests.cluster.errors import ClusterError
from vllm_operator.api.spec.operations import DEFAULT_GATE_PORT
from vllm_operator.render import manager
from vllm_operator.render.pod import CONTAINER_NAME

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.e2e.matrix.fleet import Fleet
    from tests.support.site import Site

TOLD_SECONDS = 45.0
"""The operator asks managers on transitions and seldom otherwise."""


def manager_status(site: Site, pod: str) -> dict[str, Any]:
    """The manager's own /status, asked for inside the pod."""
    words = (*manager.INTERPRETER, manager.TELL, str(DEFAULT_GATE_PORT))
    found: dict[str, Any] = json.loads(site.kubectl("exec", pod, "-c", CONTAINER_NAME, "--", *words))
    return found


def wait_told(site: Site, model: str, pod: str, text: str) -> None:
    """Until the model's status says that of an engine, in its list of engines."""

    def look() -> bool:
        engines = site.get("vllmmodel", model).get("status", {}).get("engines", [])
        return any(text in one.get("sentence", "") for one in engines if one["pod"] == pod)

    site.until(f"the status of {model} says {text!r} of {pod}", look, TOLD_SECONDS)


def timelines(fleet: Fleet) -> str:
    """What the managers of a fleet have noted, a line each, for whoever wonders about a figure."""
    lines = []
    for pod in fleet.pods():
        name = pod["metadata"]["name"]
        with contextlib.suppress(ClusterError):  # it does not run just now
            noted = manager_status(fleet.site, name)["timeline"]
            lines += [f"{name} {one['time']} {one['verdict']} {one['cause']}: {one['sentence']}" for one in noted]
    return "\n".join(lines)


def verdicts(entries: Sequence[dict[str, Any]]) -> list[str]:
    """Each verdict once, in the order in which they came first."""
    return list(dict.fromkeys(entry["verdict"] for entry in entries))
