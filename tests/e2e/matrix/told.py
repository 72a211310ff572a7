"""What people are told of an engine: by the status of its model, and by its own manager."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from vllm_operator.api.spec.operations import DEFAULT_GATE_PORT
from vllm_operator.render import manager
from vllm_operator.render.pod import CONTAINER_NAME

if TYPE_CHECKING:
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
