"""The Jobs that fill a claim with all that the engines of a model would download.

A Job is named by what it brings and where to, so that models that name the same claim and the same source have one in
common. Each of them is an owner of it, and none its controller: it goes with the last of them.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api import names
from vllm_operator.render import pod
from vllm_operator.render.downloads import downloads
from vllm_operator.render.environment import CACHE, HOME, hub_token
from vllm_operator.render.objects import hashed, shared

if TYPE_CHECKING:
    from vllm_operator.api.resource import VLLMModel
    from vllm_operator.render.downloads import Download

KIND: Final = "Job"
CONTAINER_NAME: Final = "prefetch"
PORT_NAME: Final = "status"

_FOLDER: Final = "/opt/vllm-prefetch"
_COMMAND: Final = ("python3", "-E", "-B", "-m", "prefetch")
"""The options keep the image's own settings out, and the folder, which is read-only, as it is."""

_NAME: Final = "vllm-prefetch"
_MOST_TRIES: Final = 1_000_000
"""The program ends only when it is done. What ends it otherwise, such as a node that goes, is no fault of the model."""

_RESOURCES: Final = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}}
"""Four files at once, a buffer of 1 MiB each. What the file system keeps in memory is given back at the limit."""


def program(namespace: str) -> dict[str, Any]:
    """The ConfigMap with the program."""
    return shared(namespace, names.PREFETCH_CONFIG_MAP, component="prefetch", data=program_sources())


@cache
def program_sources() -> dict[str, str]:
    """The program's files by their names."""
    found = sorted(files("vllm_operator.prefetch").iterdir(), key=lambda file: file.name)
    return {file.name: file.read_text(encoding="utf-8") for file in found if file.name.endswith(".py")}


def jobs(model: VLLMModel, release: str = "") -> tuple[dict[str, Any], ...]:
    """The Jobs of a model."""
    return tuple(_job(model, one, release) for one in downloads(model.spec, model.instance))


def owner_of(model: VLLMModel) -> dict[str, Any]:
    """The model as one of the owners of a Job."""
    reference = model.owner_reference
    return {name: reference[name] for name in ("apiVersion", "kind", "name", "uid")}


def _job(model: VLLMModel, download: Download, release: str) -> dict[str, Any]:
    labels = {
        "app.kubernetes.io/name": _NAME,
        "app.kubernetes.io/component": "prefetch",
        "app.kubernetes.io/part-of": "vllm-operator",
        names.PREFETCHED: download.key,
    }
    spec = {
        "completions": 1,
        "parallelism": 1,
        "backoffLimit": _MOST_TRIES,
        "podReplacementPolicy": "Failed",  # two pods would write the same files where a node is cut off
        "template": {"metadata": {"labels": labels}, "spec": _pod(model, download, release)},
    }
    metadata = {
        "name": download.job_name(release),
        "namespace": model.namespace,
        # the pods have no label of ours: the operator would watch them as engines
        "labels": {**labels, names.MANAGED_BY: names.MANAGER, **names.release_labels(release)},
    }
    return hashed({"apiVersion": "batch/v1", "kind": KIND, "metadata": metadata, "spec": spec})


def _pod(model: VLLMModel, download: Download, release: str) -> dict[str, Any]:
    spec = model.spec
    given, scheduling = spec.pod, spec.scheduling.manifest()
    kept = ("nodeSelector", "tolerations", "priorityClassName", "runtimeClassName", "schedulerName")
    body: dict[str, Any] = {
        "restartPolicy": "OnFailure",
        "serviceAccountName": given.service_account_name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 10,
        "securityContext": pod.pod_rights(spec),
        "imagePullSecrets": [one.manifest() for one in given.image_pull_secrets or []],
        **{name: scheduling[name] for name in kept if name in scheduling},
        "affinity": _affinity(scheduling.get("affinity") or {}, model.instance),
        "containers": [_container(model, download)],
        "volumes": [
            {"name": "cache", "persistentVolumeClaim": {"claimName": download.claim}},
            {"name": "program", "configMap": {"name": names.prefixed(release, names.PREFETCH_CONFIG_MAP)}},
        ],
    }
    return {name: value for name, value in body.items() if value not in (None, [])}


def _affinity(given: dict[str, Any], instance: str) -> dict[str, Any]:
    """To the nodes that engines may have, and rather to one that has some: a claim may be of one node alone."""
    engines = {
        "labelSelector": {"matchLabels": names.selector_labels(instance)},
        "topologyKey": "kubernetes.io/hostname",
    }
    near = {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": engines}]}
    nodes = {"nodeAffinity": given["nodeAffinity"]} if given.get("nodeAffinity") else {}
    return {**nodes, "podAffinity": near}


def _container(model: VLLMModel, download: Download) -> dict[str, Any]:
    spec = model.spec
    settings = {
        "key": download.content_key,
        "kind": download.kind,
        "source": download.source,
        "revision": download.revision,
        "cache": CACHE,
        "port": spec.gates.port,
        "allow": list(download.allow),
        "ignore": list(download.ignore),
    }
    variables: dict[str, dict[str, Any]] = {"HOME": {"name": "HOME", "value": HOME}}
    variables |= {one["name"]: one for one in hub_token(spec)}
    variables |= {one.name: one.manifest() for one in spec.engine.env or []}
    # kubelet takes `$(NAME)` for a variable, and `$$` for a dollar sign
    told = json.dumps(settings).replace("$", "$$")
    body: dict[str, Any] = {
        "name": CONTAINER_NAME,
        "image": pod.image(spec),
        "imagePullPolicy": pod.pull_policy_of(spec),
        "command": list(_COMMAND),
        "workingDir": _FOLDER,
        "env": [*variables.values(), {"name": "VLLM_PREFETCH", "value": told}],
        "envFrom": [one.manifest() for one in spec.engine.env_from or []],
        "ports": [{"name": PORT_NAME, "containerPort": spec.gates.port, "protocol": "TCP"}],
        "resources": _RESOURCES,
        "securityContext": pod.container_rights(spec.pod.container_security_context),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "cache", "mountPath": CACHE},
            {"name": "program", "mountPath": f"{_FOLDER}/prefetch", "readOnly": True},
        ],
    }
    return {name: value for name, value in body.items() if value != []}
