"""What is read out of kubelet's Events."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from vllm_operator.diagnosis.events import KubeletMessage, latest_message

SINCE = datetime(2026, 11, 22, 11, 0, 0, tzinfo=UTC)


def event(message: str, second: int = 10, reason: str = "FailedMount", **more: Any) -> dict[str, Any]:
    """An Event about a pod."""
    return {"reason": reason, "message": message, "lastTimestamp": f"2026-11-22T11:00:{second:02d}Z", **more}


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (
            event(
                'MountVolume.SetUp failed for volume "gates" : configmap "vllm-gates" not found', reason="FailedMount"
            ),
            KubeletMessage('MountVolume.SetUp failed for volume "gates" : configmap "vllm-gates" not found'),
        ),
        (
            event(
                f'Failed to create pod sandbox: failed to setup network for sandbox "{"9d" * 32}": no route',
                reason="FailedCreatePodSandBox",
            ),
            KubeletMessage(
                "Failed to create pod sandbox: failed to setup network for sandbox ...: no route",
            ),
        ),
        (
            event("(combined from similar events): AttachVolume.Attach failed", reason="FailedAttachVolume"),
            KubeletMessage("AttachVolume.Attach failed"),
        ),
        (
            event("network is not ready: no CNI", reason="NetworkNotReady"),
            KubeletMessage("network is not ready: no CNI"),
        ),
        (
            event('Failed to pull image "vllm:none": manifest unknown', reason="Failed"),
            KubeletMessage('Failed to pull image "vllm:none": manifest unknown'),
        ),
        (event("Error: ErrImagePull", reason="Failed"), None),
        (event("Startup probe failed: HTTP probe failed with statuscode: 503", reason="Unhealthy"), None),
        (event("Back-off restarting failed container", reason="BackOff"), None),
        (event("of an earlier state", lastTimestamp="2026-11-22T10:59:00Z"), None),
        (event("without a time", lastTimestamp=None), None),
        ({}, None),
    ],
)
def test_what_keeps_containers_from_being_started_is_found_without_what_differs_from_try_to_try(
    found: dict[str, Any], message: KubeletMessage | None
) -> None:
    assert latest_message([found], SINCE) == message


def test_the_secrets_that_a_pull_lacked_are_told_with_it_and_with_nothing_else() -> None:
    unread = event(
        "Unable to retrieve some image pull secrets (regcred); attempting to pull the image may not succeed.",
        reason="FailedToRetrieveImagePullSecret",
    )
    pull = event('Failed to pull image "team/app:1": denied: denied', reason="Failed")
    assert latest_message([unread, pull], SINCE) == KubeletMessage(pull["message"], "regcred")
    assert latest_message([unread, event("no volume")], SINCE) == KubeletMessage("no volume")
    assert latest_message([unread], SINCE) is None


def test_the_newest_words_count_whatever_the_order_and_the_way_their_time_is_written() -> None:
    old, new = event("old", 10), event("new", 20)
    series = event("again", series={"lastObservedTime": "2026-11-22T11:00:30.000000Z"})
    recent = event("micro", lastTimestamp=None, eventTime="2026-11-22T11:00:40.123456Z")
    for found, text in (([new, old], "new"), ([series, new, old], "again"), ([recent, series, new], "micro")):
        assert latest_message(found, SINCE) == KubeletMessage(text)
    assert latest_message([], SINCE) is None
