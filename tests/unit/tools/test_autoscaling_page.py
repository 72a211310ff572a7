"""What docs/autoscaling.md shows is true: its specs are taken, its defaults are those, its rules make the metrics."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.resources import model
from vllm_operator.api.spec.autoscaling import (
    DEFAULT_KV_CACHE_PERCENT,
    DEFAULT_LOAD_SECONDS,
    DEFAULT_TARGETS,
    DEFAULT_WAITING_REQUESTS,
)
from vllm_operator.planner.load_time import STEPS_SECONDS
from vllm_operator.render.autoscaling import AUTOSCALER, autoscaler
from vllm_operator.render.context import RenderContext

PAGE = (Path(__file__).parent.parent.parent.parent / "docs" / "autoscaling.md").read_text(encoding="utf-8")
BLOCKS = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
SPECS = [block.get("spec", block) for block in BLOCKS if "rules" not in block]
(RULES,) = (block["rules"]["custom"] for block in BLOCKS if "rules" in block)


@pytest.mark.parametrize("spec", SPECS)
def test_a_spec_is_one_that_can_be_followed(spec: dict[str, Any]) -> None:
    assert model(**spec).spec.autoscaling


def test_the_default_targets_are_those_of_the_table() -> None:
    told = dict(re.findall(r"^\| `(\w+)` \| `vllm:\w+` \| (\w+) \|", PAGE, re.MULTILINE))
    assert told == {
        "waitingRequests": str(DEFAULT_WAITING_REQUESTS),
        "kvCachePercent": str(DEFAULT_KV_CACHE_PERCENT),
        "runningRequests": "none",
    }
    assert DEFAULT_TARGETS.running_requests is None


def test_the_steps_of_the_measured_time_are_told() -> None:
    steps = [str(step) for step in STEPS_SECONDS]
    assert f"{', '.join(steps[:-1])} or {steps[-1]} s" in " ".join(PAGE.split())
    assert f"at first it is {DEFAULT_LOAD_SECONDS} s" in " ".join(PAGE.split())


def adapted(series: str) -> str:
    """The name that prometheus-adapter gives a series by the rules of the page."""
    for rule in RULES:
        (pattern,) = re.findall(r'__name__=~?"([^"]+)"', rule["seriesQuery"])
        if re.fullmatch(pattern, series):
            return re.sub(rule["name"]["matches"], rule["name"]["as"].replace("${1}", r"\1"), series)
    raise AssertionError(series)


def test_the_rules_of_the_adapter_make_the_metrics_that_are_asked_for() -> None:
    every = {"waitingRequests": 1, "kvCachePercent": 1, "runningRequests": 1}
    (made,) = autoscaler(model(autoscaling={"maxReplicas": 2, "targets": every}), RenderContext(autoscaler=AUTOSCALER))
    asked_for = {metric["pods"]["metric"]["name"] for metric in made["spec"]["metrics"]}
    series = re.findall(r"^\| `\w+` \| `(vllm:\w+)` \|", PAGE, re.MULTILINE)
    assert {adapted(name) for name in series} == asked_for
