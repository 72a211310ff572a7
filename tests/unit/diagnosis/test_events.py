"""What is read out of kubelet's Events."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from vllm_operator.diagnosis.events import KubeletMessage, MessageKind, latest_message

SINCE = datetime(2026, 11, 22, 11, 0, 0, tzinfo=UTC)
STALLED = "no progress for 13 s with requests in flight (engine 0)"


def event(message: str, second: int = 10, reason: str = "Unhealthy", **more: Any) -> dict[str, Any]:
    """An Event about a pod."""
    return {"reason": reason, "message": message, "lastTimestamp": f"2026-11-22T11:00:{second:02d}Z", **more}


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (
            event("Startup probe failed: serves other, not qwen\n"),
            KubeletMessage(MessageKind.STARTUP, "serves other, not qwen"),
        ),
        (
            event(f"Readiness probe failed: {STALLED}"),
            KubeletMessage(MessageKind.READINESS, "no progress with requests in flight (engine 0)"),
        ),
        (
            event("(combined from similar events): Readiness probe failed: no completion for 21 s: HTTP 500: a: b"),
            KubeletMessage(MessageKind.READINESS, "no completion: HTTP 500: a: b"),
        ),
        (
            event("Startup probe errored and resulted in unknown state: rpc error: no python3"),
            KubeletMessage(MessageKind.ERRORED, "rpc error: no python3"),
        ),
        (
            event(
                "Startup probe errored and resulted in unknown state: rpc error: failed to exec in "
                f'container: failed to start exec "{"9d" * 32}": OCI runtime exec failed: exec failed: unable to start '
                'container process: exec: "python3": executable file not found in $PATH'
            ),
            KubeletMessage(MessageKind.ERRORED, 'exec: "python3": executable file not found in $PATH'),
        ),
        (
            event(f'Startup probe errored and resulted in unknown state: no exec "{"9d" * 32}" here'),
            KubeletMessage(MessageKind.ERRORED, "no exec ... here"),
        ),
        (event("Liveness probe errored: no python3"), KubeletMessage(MessageKind.ERRORED, "no python3")),
        (
            event(
                'MountVolume.SetUp failed for volume "gates" : configmap "vllm-gates" not found', reason="FailedMount"
            ),
            KubeletMessage(
                MessageKind.UNMOUNTED, 'MountVolume.SetUp failed for volume "gates" : configmap "vllm-gates" not found'
            ),
        ),
        (
            event(
                f'Failed to create pod sandbox: failed to setup network for sandbox "{"9d" * 32}": no route',
                reason="FailedCreatePodSandBox",
            ),
            KubeletMessage(
                MessageKind.NO_SANDBOX,
                "Failed to create pod sandbox: failed to setup network for sandbox ...: no route",
            ),
        ),
        (
            event("(combined from similar events): AttachVolume.Attach failed", reason="FailedAttachVolume"),
            KubeletMessage(MessageKind.UNMOUNTED, "AttachVolume.Attach failed"),
        ),
        (
            event("network is not ready: no CNI", reason="NetworkNotReady"),
            KubeletMessage(MessageKind.NO_SANDBOX, "network is not ready: no CNI"),
        ),
        (
            event("Startup probe failed: a", involvedObject={"fieldPath": "spec.containers{vllm}"}),
            KubeletMessage(MessageKind.STARTUP, "a"),
        ),
        (event("Startup probe failed: of a sidecar", involvedObject={"fieldPath": "spec.initContainers{mesh}"}), None),
        (event("Liveness probe failed: no progress for 60 s"), None),
        (event("Back-off restarting failed container", reason="BackOff"), None),
        (event("Startup probe failed: of an earlier life", lastTimestamp="2026-11-22T10:59:00Z"), None),
        (event("Startup probe failed: without a time", lastTimestamp=None), None),
        ({}, None),
    ],
)
def test_the_words_of_a_probe_are_found_without_the_age_that_grows(
    found: dict[str, Any], message: KubeletMessage | None
) -> None:
    assert latest_message([found], SINCE) == message


def test_the_newest_words_count_whatever_the_order_and_the_way_their_time_is_written() -> None:
    old, new = event("Startup probe failed: old", 10), event("Startup probe failed: new", 20)
    series = event("Startup probe failed: again", series={"lastObservedTime": "2026-11-22T11:00:30.000000Z"})
    recent = event("Startup probe failed: micro", lastTimestamp=None, eventTime="2026-11-22T11:00:40.123456Z")
    for found, text in (([new, old], "new"), ([series, new, old], "again"), ([recent, series, new], "micro")):
        assert latest_message(found, SINCE) == KubeletMessage(MessageKind.STARTUP, text)
    assert latest_message([], SINCE) is None
