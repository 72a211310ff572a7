"""How long engines take to load is what those that serve have shown, in steps that do not move with each of them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.resources import model
from vllm_operator.planner.load_time import load_seconds
from vllm_operator.render.autoscaling import AUTOSCALER, SCALED_OBJECT, autoscaler
from vllm_operator.render.context import RenderContext


def served(seconds: int, *, restarts: int = 0, ready: str = "True") -> dict[str, Any]:
    """An engine's pod that became ready so long after it was made."""
    hours, rest = divmod(seconds, 3600)
    since = f"2026-11-22T{10 + hours:02}:{rest // 60:02}:{rest % 60:02}Z"
    return {
        "metadata": {"creationTimestamp": "2026-11-22T10:00:00Z"},
        "status": {
            "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": since}],
            "containerStatuses": [{"name": "vllm", "restartCount": restarts}],
        },
    }


SCALED = model(autoscaling={"maxReplicas": 4})


@pytest.mark.parametrize(
    ("seconds", "told"), [(3, 15), (15, 15), (16, 30), (100, 120), (299, 300), (301, 600), (1000, 1800), (3599, 1800)]
)
def test_what_an_engine_took_is_rounded_up_to_a_step(seconds: int, told: int) -> None:
    assert load_seconds(SCALED, [served(seconds)], []) == told


def test_the_quickest_engine_counts_since_one_that_lost_its_traffic_for_a_while_looks_slow() -> None:
    assert load_seconds(SCALED, [served(3000), served(200), served(250)], []) == 300


@pytest.mark.parametrize("pod", [served(20, restarts=1), served(20, ready="False"), served(4000), {"status": {}}])
def test_an_engine_that_does_not_show_how_long_it_loaded_says_nothing(pod: dict[str, Any]) -> None:
    assert load_seconds(SCALED, [pod], []) == 600


def test_before_any_engine_has_served_the_start_up_budget_bounds_the_guess() -> None:
    assert load_seconds(model(gates={"startupBudgetSeconds": 120}), [], []) == 120


@pytest.mark.parametrize("kind", [SCALED_OBJECT, AUTOSCALER])
def test_what_the_live_autoscaler_was_told_stands_while_no_engine_serves(kind: str) -> None:
    live = autoscaler(SCALED, RenderContext(autoscaler=kind, prometheus_address="http://p", load_seconds=120))
    assert load_seconds(SCALED, [], live) == 120
    assert load_seconds(SCALED, [served(400)], live) == 600
