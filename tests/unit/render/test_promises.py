"""A patch of the pods may change much, and nothing that the operator's promises rest on without a word."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.resources import as_desired, deployment_status, model, observation, pod, resource
from vllm_operator.errors import InvalidSpec
from vllm_operator.planner.decide import decide
from vllm_operator.render.deployment import deployment
from vllm_operator.render.promises import weakened_promises

ENGINE = "spec.pod.patch.spec.containers[vllm]"
AUTH: dict[str, Any] = {"auth": {"generate": True}}


def engine(**fields: Any) -> dict[str, Any]:
    """A patch of the engine's container."""
    return {"spec": {"containers": [{"name": "vllm", **fields}]}}


def labels(**changed: Any) -> dict[str, Any]:
    """A patch of the pods' labels."""
    return {
        "metadata": {"labels": {f"app.kubernetes.io/{key.replace('_', '-')}": text for key, text in changed.items()}}
    }


KEY = [{"name": "VLLM_API_KEY", "value": "other", "valueFrom": None}]
HTTP = {"httpGet": {"path": "/health", "port": 8000}}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no label of the watch": (labels(managed_by=None), "spec.pod.patch.metadata.labels: the operator sees the engines"),
    "another label of the watch": (labels(managed_by="helm"), "spec.pod.patch.metadata.labels"),
    "no label of the Services": (labels(name=None), "spec.pod.patch.metadata.labels: Services find the engines"),
    "no labels": ({"metadata": {"labels": {"$patch": "delete"}}}, "spec.pod.patch.metadata.labels"),
    "no ports": (engine(ports=None), f"{ENGINE}.ports"),
    "another name of the port": (engine(ports=[{"containerPort": 8000, "name": "web"}]), f"{ENGINE}.ports"),
    "another port": (
        engine(ports=[{"$patch": "replace"}, {"containerPort": 9000, "name": "http"}]),
        "spec.engine.port",
    ),
    "another protocol": (engine(ports=[{"containerPort": 8000, "protocol": "UDP"}]), f"{ENGINE}.ports"),
    "a port of the name in a sidecar": (
        {"spec": {"containers": [{"name": "mesh", "image": "x", "ports": [{"containerPort": 1, "name": "http"}]}]}},
        "spec.pod.patch.spec.containers[mesh].ports",
    ),
    "another number of the manager's port": (
        engine(ports=[{"containerPort": 9000, "name": "gate"}, {"containerPort": 8480, "$patch": "delete"}]),
        "spec.gates.port",
    ),
    "no port of the manager": (engine(ports=[{"containerPort": 8480, "$patch": "delete"}]), f"{ENGINE}.ports"),
    "another command": (engine(command=["vllm", "serve", "mine"]), "patch args"),
    "no command": (engine(command=None), f"{ENGINE}.command"),
    "nothing to start": (engine(args=None), f"{ENGINE}.args"),
    "no startup probe": (engine(startupProbe=None), f"{ENGINE}.startupProbe"),
    "no readiness probe": (engine(readinessProbe=None), "set spec.gates.probe"),
    "no liveness probe": (engine(livenessProbe=None), "spec.gates.restart: Never"),
    "another startup probe": (engine(startupProbe=HTTP), f"{ENGINE}.startupProbe"),
    "another readiness probe": (engine(readinessProbe=HTTP), f"{ENGINE}.readinessProbe"),
    "another liveness probe": (engine(livenessProbe=HTTP), f"{ENGINE}.livenessProbe"),
    "a probe that is a command": (
        engine(readinessProbe={"$patch": "replace", "exec": {"command": ["true"]}}),
        f"{ENGINE}.readinessProbe",
    ),
    "no program": (
        {"spec": {"volumes": [{"name": "manager", "$patch": "delete"}]}},
        "spec.pod.patch.spec.volumes[manager]",
    ),
    "another program": (
        {"spec": {"volumes": [{"name": "manager", "configMap": {"name": "mine"}}]}},
        "spec.pod.patch.spec.volumes[manager]",
    ),
    "no memory": (
        {"spec": {"volumes": [{"name": "manager-state", "$patch": "delete"}]}},
        "spec.pod.patch.spec.volumes[manager-state]",
    ),
    "no mount": (
        engine(volumeMounts=[{"mountPath": "/opt/vllm-manager/manager", "$patch": "delete"}]),
        f"{ENGINE}.volumeMounts[/opt/vllm-manager/manager]",
    ),
    "another key": (engine(env=KEY), f"{ENGINE}.env[VLLM_API_KEY]"),
    "no key": (engine(env=[{"name": "VLLM_API_KEY", "$patch": "delete"}]), "spec.auth"),
}
TOLD: dict[str, tuple[dict[str, Any], str]] = {
    "slower": (engine(readinessProbe={"periodSeconds": 60}), f"{ENGINE}.readinessProbe changes periodSeconds"),
    "later": (
        engine(livenessProbe={"initialDelaySeconds": 600}),
        f"{ENGINE}.livenessProbe changes initialDelaySeconds",
    ),
    "a pause out of the grace period": (
        engine(lifecycle={"preStop": {"sleep": {"seconds": 20}}}),
        f"{ENGINE}.lifecycle.preStop: its time comes off the 45 s",
    ),
    "less grace": ({"spec": {"terminationGracePeriodSeconds": 5}}, "spec.engine.shutdownTimeoutSeconds"),
    "no grace of ours": ({"spec": {"terminationGracePeriodSeconds": None}}, "terminationGracePeriodSeconds: 30 s"),
    "links": ({"spec": {"enableServiceLinks": True}}, "spec.pod.patch.spec.enableServiceLinks"),
    "no scheduler": ({"spec": {"nodeName": "a"}}, "spec.scheduling.nodeSelector"),
}
FINE: dict[str, dict[str, Any]] = {
    "nothing": {},
    "a label more": {"metadata": {"labels": {"team": "search"}}},
    "a port more": engine(ports=[{"containerPort": 9000, "name": "other"}]),
    "a variable more": engine(env=[{"name": "A", "value": "1"}]),
    "a mount more": engine(volumeMounts=[{"name": "home", "mountPath": "/more"}]),
    "more grace": {"spec": {"terminationGracePeriodSeconds": 600}},
    "network of the node": {"spec": {"hostNetwork": True}},
    "processes that are seen by the whole pod": {"spec": {"shareProcessNamespace": True}},
    "another command line of the engine": engine(args=["bash", "-c", "prepare && exec vllm serve org/mine"]),
    "a pause with grace of its own": {
        "spec": {
            "terminationGracePeriodSeconds": 65,
            "containers": [{"name": "vllm", "lifecycle": {"preStop": {"sleep": {"seconds": 20}}}}],
        }
    },
}


def test_a_pause_within_a_grace_period_that_the_spec_gives_weakens_nothing() -> None:
    patch = FINE["a pause with grace of its own"]["spec"]["containers"]
    pod = {"terminationGracePeriodSeconds": 65, "patch": {"spec": {"containers": patch}}}
    assert weakened_promises(model(pod=pod)) == []


@pytest.mark.parametrize(("patch", "told"), REFUSED.values(), ids=REFUSED)
def test_a_patch_that_breaks_a_promise_is_refused_with_its_path_and_the_way_out(
    patch: dict[str, Any], told: str
) -> None:
    with pytest.raises(InvalidSpec) as refusal:
        deployment(model(pod={"patch": patch}, **AUTH))
    fault = refusal.value.faults[0]
    assert told in fault
    assert fault.startswith("spec.pod.patch.")


def test_a_key_that_clients_do_not_get_is_refused_without_auth_too() -> None:
    with pytest.raises(InvalidSpec, match=r"env\[VLLM_API_KEY\]"):
        deployment(model(pod={"patch": engine(env=[{"name": "VLLM_API_KEY", "value": "x"}])}))


@pytest.mark.parametrize("name", ["no startup probe", "another readiness probe", "no program", "another command"])
def test_a_probe_of_the_users_own_is_run_by_the_manager_which_has_to_stay(name: str) -> None:
    with pytest.raises(InvalidSpec):
        deployment(model(pod={"patch": REFUSED[name][0]}, gates={"probe": ["/bin/check"]}))


@pytest.mark.parametrize(("patch", "told"), TOLD.values(), ids=TOLD)
def test_a_patch_that_weakens_a_promise_is_followed_and_told(patch: dict[str, Any], told: str) -> None:
    raw = resource(pod={"patch": patch})
    (doubt,) = weakened_promises(model(pod={"patch": patch}))
    assert told in doubt
    plan = decide(observation(raw, as_desired(raw, **deployment_status(1)), pod(ready=True)))
    assert plan.status is not None
    assert plan.status["warnings"] == [doubt]


@pytest.mark.parametrize("patch", FINE.values(), ids=FINE)
def test_what_no_promise_rests_on_is_changed_without_a_word(patch: dict[str, Any]) -> None:
    assert weakened_promises(model(pod={"patch": patch})) == []


@pytest.mark.parametrize(
    "patch",
    [
        {"spec": {"securityContext": None}},
        {"metadata": {"annotations": None}},
        engine(lifecycle=None, resources=None, env=None),
    ],
)
def test_what_takes_away_whole_parts_is_left_to_the_api_server(patch: dict[str, Any]) -> None:
    assert deployment(model(pod={"patch": patch}))
    weakened_promises(model(pod={"patch": patch}))
