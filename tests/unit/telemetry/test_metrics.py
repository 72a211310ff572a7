"""Metrics of the operator itself: their names, and what they count from."""

from __future__ import annotations

import asyncio
import re
import tomllib
from pathlib import Path

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from vllm_operator import __version__
from vllm_operator.cluster.cache import Key
from vllm_operator.cluster.queue import Queue
from vllm_operator.telemetry import Telemetry
from vllm_operator.telemetry.metrics import Outcome

REPOSITORY = Path(__file__).parent.parent.parent.parent


def whole() -> Telemetry:
    """With all that the process reports."""
    telemetry = Telemetry(asyncio.Event())
    telemetry.watch_queue(Queue(waited=telemetry.queue_seconds.observe))
    telemetry.watch_ages(lambda: {"pods": 3.0})
    telemetry.watch_namespaces(lambda: 0)
    return telemetry


async def test_all_that_is_told_has_one_prefix_base_units_and_a_purpose() -> None:
    families = list(text_string_to_metric_families(generate_latest(whole().registry).decode()))
    own = [family for family in families if not family.name.startswith("process_")]
    assert len(own) > 15
    for family in own:
        assert re.fullmatch(r"vllm_operator_[a-z_]+", family.name), family.name
        assert family.documentation.endswith("."), family.name
        assert not family.name.endswith(("_ms", "_minutes", "_count", "_sum", "_bucket")), family.name


async def test_results_are_counted_from_zero_on_so_that_the_first_failure_is_an_increase() -> None:
    telemetry = whole()
    value = telemetry.registry.get_sample_value
    assert {one: value("vllm_operator_reconcile_total", {"result": one}) for one in Outcome} == dict.fromkeys(
        Outcome, 0
    )
    for outcome in Outcome:
        telemetry.looked(outcome)
    assert value("vllm_operator_reconcile_failures_total") == 2, "an error, and a mistake of ours"


async def test_requests_are_counted_by_verb_and_code_and_timed_by_verb() -> None:
    telemetry = whole()
    telemetry.requests.observe("patch", "200", 0.3)
    telemetry.requests.observe("patch", "409", 0.1)
    value = telemetry.registry.get_sample_value
    assert value("vllm_operator_api_requests_total", {"verb": "patch", "code": "409"}) == 1
    assert value("vllm_operator_api_request_seconds_count", {"verb": "patch"}) == 2
    assert value("vllm_operator_watch_last_event_age_seconds", {"resource": "pods"}) == 3


async def test_the_queue_is_told_with_its_age() -> None:
    telemetry, queue = Telemetry(asyncio.Event()), Queue(iter([1.0, 6.0, 6.0]).__next__)
    telemetry.watch_queue(queue)
    queue.add(Key("team", "qwen"))
    value = telemetry.registry.get_sample_value
    assert value("vllm_operator_queue_oldest_seconds") == 5
    assert value("vllm_operator_queue_depth") == 1
    assert value("vllm_operator_longest_running_reconcile_seconds") == 0


def test_the_version_is_that_of_the_package() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == __version__
