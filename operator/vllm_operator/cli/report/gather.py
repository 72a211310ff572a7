"""Reads what a report holds, with the user's own kubectl and rights; what cannot be read leaves a gap that is told."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from vllm_operator import __version__
from vllm_operator.api import meta
from vllm_operator.api.names import INSTANCE, instance_name, selector_text
from vllm_operator.cli.kubectl import Kubectl, KubectlError
from vllm_operator.cli.pods import each, manager_status
from vllm_operator.cli.rollout.objects import RESOURCE
from vllm_operator.cli.rollout.waiting import REQUEST_SECONDS
from vllm_operator.cli.status.sources import found_model, living

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

CHILDREN: Final = (
    *("deployments", "replicasets", "controllerrevisions", "services", "endpointslices", "configmaps", "secrets"),
    *("serviceaccounts", "networkpolicies", "ingresses", "poddisruptionbudgets", "persistentvolumeclaims"),
    "horizontalpodautoscalers",
)
"""Kinds of what the operator makes of a model, and of what Kubernetes makes of that."""

OPERATOR: Final = "app.kubernetes.io/part-of=vllm-operator,app.kubernetes.io/managed-by!=vllm-operator"
"""What belongs to the operator itself; what it makes carries its label too."""
OPERATOR_PODS: Final = f"{OPERATOR},app.kubernetes.io/name!=vllm"

LOG_LINES: Final = 5000
LOG_BYTES: Final = 4_000_000
"""Of each replica's log, its end; and of that of the container before."""
LOG_SECONDS: Final = 60.0

_TIMEOUT: Final = f"--request-timeout={REQUEST_SECONDS}s"


@dataclass(slots=True)
class Gathered:
    """What was read: objects and texts by their path in the report."""

    objects: dict[str, Any] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    gaps: dict[str, str] = field(default_factory=dict)
    """Why something is not there."""

    def read(self, what: str, reading: Callable[[], Any]) -> Any:
        """What a reading brings; None where it fails, which is remembered."""
        try:
            return reading()
        except KubectlError as error:
            self.gaps[what] = str(error)
            return None

    def keep(self, path: str, found: Any) -> None:
        """Keep an object, where there is one."""
        if found:
            self.objects[path] = found


def gather(connect: Callable[[str], Kubectl], models: Iterable[tuple[str, str]], operator_namespace: str) -> Gathered:
    """Read all that is asked for.

    Args:
        connect: Makes a kubectl for a namespace; the user's own for an empty one.
        models: Namespace and name of each.
        operator_namespace: Where the operator is.
    """
    gathered = Gathered()
    gathered.objects["versions.yaml"] = _versions(connect(""), gathered)
    for namespace, name in models:
        _Model(connect(namespace), namespace, name, gathered).gather()
    _operator(connect(operator_namespace), gathered)
    return gathered


def named_model(kubectl: Kubectl, name: str) -> tuple[str, str] | None:
    """Namespace and name of a model; None where there is none.

    Raises:
        KubectlError: kubectl may not read it.
    """
    found = found_model(kubectl, name)
    return (found["metadata"]["namespace"], found["metadata"]["name"]) if found else None


def all_models(kubectl: Kubectl) -> list[tuple[str, str]]:
    """Namespace and name of every model.

    Raises:
        KubectlError: kubectl may not list them.
    """
    found = kubectl.get(RESOURCE, "--all-namespaces", _TIMEOUT)["items"]
    return [(one["metadata"]["namespace"], one["metadata"]["name"]) for one in found]


def _versions(kubectl: Kubectl, gathered: Gathered) -> dict[str, Any]:
    own = {"kubectl-vllm": __version__, "python": platform.python_version(), "resource": meta.API_VERSION}
    told = gathered.read("versions", lambda: json.loads(kubectl.run("version", "--output", "json", _TIMEOUT)))
    return {**own, "kubectl": told}


class _Model:
    """One model, with what belongs to it."""

    def __init__(self, kubectl: Kubectl, namespace: str, name: str, gathered: Gathered) -> None:
        self._kubectl = kubectl
        self._name = name
        self._instance = instance_name(name)
        self._folder = f"models/{namespace}/{name}"
        self._gathered = gathered

    def gather(self) -> None:
        model = self._read("the model", lambda: self._kubectl.get(RESOURCE, self._name, _TIMEOUT))
        self._gathered.keep(f"{self._folder}/model.yaml", model)
        children: list[Any] = []
        for kind in CHILDREN:
            found = self._read(kind, partial(self._listed, kind, f"{INSTANCE}={self._instance}"))
            self._gathered.keep(f"{self._folder}/children/{kind}.yaml", found)
            children += found or ()
        pods = self._read("pods", lambda: self._listed("pods", selector_text(self._instance))) or []
        self._gathered.keep(f"{self._folder}/pods.yaml", pods)
        self._events([*([model] if model else []), *children, *pods])
        each(self._gate, living(pods))

    def _read(self, what: str, reading: Callable[[], Any]) -> Any:
        return self._gathered.read(f"{self._folder}: {what}", reading)

    def _listed(self, kind: str, selector: str) -> list[Any]:
        return _items(self._kubectl, kind, "--selector", selector, _TIMEOUT)

    def _events(self, about: list[Any]) -> None:
        """The Events of the namespace that are about one of these objects."""
        uids = {one["metadata"].get("uid") for one in about}
        events = self._read("events", lambda: self._kubectl.get("events", _TIMEOUT)["items"]) or []
        found = [event for event in events if (event.get("involvedObject") or {}).get("uid") in uids]
        self._gathered.keep(f"{self._folder}/events.yaml", found)

    def _gate(self, pod: Mapping[str, Any]) -> None:
        name = pod["metadata"]["name"]
        told = self._read(f"the gate of {name}", lambda: manager_status(self._kubectl, pod))
        self._gathered.keep(f"{self._folder}/gates/{name}.json", told)


def _operator(kubectl: Kubectl, gathered: Gathered) -> None:
    """The operator's own objects, which hold how it is set up, and its log."""
    for kind, *selector in (("deployments", OPERATOR), ("pods", OPERATOR_PODS), ("leases",)):
        words = (kind, *(("--selector", *selector) if selector else ()), _TIMEOUT)
        gathered.keep(f"operator/{kind}.yaml", gathered.read(f"operator: {kind}", partial(_items, kubectl, *words)))
    words = ("customresourcedefinition", RESOURCE, _TIMEOUT)
    definition = gathered.read("operator: definition", partial(kubectl.get, *words)) or {}
    gathered.keep(
        "operator/definition.yaml", {key: definition[key] for key in ("metadata", "status") if key in definition}
    )
    for pod in gathered.objects.get("operator/pods.yaml", ()):
        _logs(kubectl, pod, gathered)


def _items(kubectl: Kubectl, *words: str) -> list[Any]:
    found: list[Any] = kubectl.get(*words)["items"]
    return found


def _logs(kubectl: Kubectl, pod: Mapping[str, Any], gathered: Gathered) -> None:
    """The end of a pod's log, and of that of its container before."""
    name = pod["metadata"]["name"]
    again = any(one.get("restartCount") for one in pod.get("status", {}).get("containerStatuses") or ())
    for suffix, words in (("", ()), *((("-previous", ("--previous",)),) if again else ())):
        command = ("logs", name, f"--tail={LOG_LINES}", f"--limit-bytes={LOG_BYTES}", *words, _TIMEOUT)
        what = f"operator: log of {name}{suffix}"
        text = gathered.read(what, partial(kubectl.run, *command, timeout_seconds=LOG_SECONDS))
        if text:
            gathered.texts[f"operator/logs/{name}{suffix}.log"] = text
