"""The log as JSON: one document a line, with the object and the reason of each write."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

from tests.support.resources import as_live, child_of, live, resource
from vllm_operator.telemetry import logs


def line(message: str, *words: object, **more: Any) -> dict[str, Any]:
    """What a line holds."""
    record = logging.LogRecord(
        "vllm_operator.controller", logging.INFO, "", 1, message, words, more.pop("exc_info", None)
    )
    record.__dict__.update(more)
    text = logs.JsonFormatter().format(record)
    assert "\n" not in text
    document: dict[str, Any] = json.loads(text)
    return document


def test_a_line_has_time_level_logger_and_message() -> None:
    found = line("cannot watch %s:\n%s", "pods", "403")
    assert found.pop("time").endswith("Z")
    assert found == {"level": "INFO", "logger": "vllm_operator.controller", "message": "cannot watch pods:\n403"}


def test_a_write_is_told_with_the_object_its_model_and_the_reason() -> None:
    deployment = as_live(live(child_of(resource(), "Deployment")))
    found = line("x", **logs.write("applied", deployment, "spec.template: 1 -> 2"))
    assert {name: found[name] for name in logs.FIELDS} == {
        "action": "applied",
        "namespace": deployment.namespace,
        "kind": "Deployment",
        "object": "qwen",
        "model": "qwen",
        "reason": "spec.template: 1 -> 2",
    }
    assert logs.write("status", as_live(resource()), "AllEnginesServe")["model"] == "qwen"


def test_a_mistake_of_ours_stays_one_line() -> None:
    found: dict[str, Any] = {}
    try:
        found["mistake"].strip()
    except KeyError:
        found = line("unexpected", exc_info=sys.exc_info())
    assert "KeyError: 'mistake'" in found["exception"]
    assert "Traceback" in found["exception"]
