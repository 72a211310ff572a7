"""Which answers with a 5xx status refuse what was sent for good."""

from __future__ import annotations

import pytest

from vllm_operator.cluster.answers import is_users_error

WHERE = "failed to create typed patch object (team/qwen; apps/v1, Kind=Deployment): "
DUPLICATE = (
    f'{WHERE}.spec.template.spec.containers[name="vllm"].volumeMounts: duplicate entries for key [mountPath="/a"]'
)
TYPE = f"{WHERE}.spec.template.metadata.labels.mesh: expected string, got &value.valueUnstructured{{Value:true}}"

CONVERT = "failed to convert new object (team/qwen; apps/v1, Kind=Deployment) to proper version: "
QUANTITY = f"{CONVERT}unable to convert unstructured object to apps/v1, Kind=Deployment: quantities must match"
WEBHOOK = f"{CONVERT}conversion webhook for example.com/v1, Kind=Thing failed: connection refused"


@pytest.mark.parametrize(
    ("status", "message", "users"),
    [
        (500, DUPLICATE, True),
        (500, TYPE, True),
        (500, QUANTITY, True),
        (500, WEBHOOK, False),
        (503, DUPLICATE, False),
        (500, "etcdserver: request timed out", False),
        (500, "failed to create typed live object (team/qwen; apps/v1, Kind=Deployment): .spec.x: bad", False),
        (500, 'Internal error occurred: failed calling webhook "pods.example.com": no endpoints available', False),
    ],
    ids=[
        "duplicate",
        "wrong type",
        "no quantity",
        "conversion",
        "unavailable",
        "etcd",
        "live object",
        "webhook is down",
    ],
)
def test_only_an_object_that_cannot_be_read_by_its_types_is_the_users_to_mend(
    status: int, message: str, *, users: bool
) -> None:
    assert is_users_error(status, message) is users
