"""Names and labels of everything that belongs to one VLLMModel."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

from vllm_operator.api.meta import GROUP

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_LABEL_LENGTH: Final = 63
MANAGER_CONFIG_MAP: Final = "vllm-manager"
"""ConfigMap of the manager, process 1 of the engines' containers; one in each namespace that has models."""
GATES_CONFIG_MAP: Final = "vllm-gates"
"""ConfigMap of the gate program of earlier versions of the operator. It is neither written nor, while there are models,
deleted: pods that those versions made mount it, and their kubelet runs programs out of it."""
PREFETCH_CONFIG_MAP: Final = "vllm-prefetch"
"""ConfigMap of the program that fills claims; in each namespace where a model has asked for it."""
CATALOG_CONFIG_MAP: Final = "vllm-catalog"
"""ConfigMap that says which models a namespace has and what they are good for."""
MOST_CATALOG_PARTS: Final = 8
"""ConfigMaps of one catalogue: what one has no room for stands in further ones."""
CATALOG_PARTS: Final = (
    CATALOG_CONFIG_MAP,
    *(f"{CATALOG_CONFIG_MAP}-{number}" for number in range(2, MOST_CATALOG_PARTS + 1)),
)

SHARED: Final = (MANAGER_CONFIG_MAP, PREFETCH_CONFIG_MAP, *CATALOG_PARTS, GATES_CONFIG_MAP)
"""ConfigMaps that all models of a namespace share; those of a named release have its name before them (`prefixed`)."""

OPERATOR_LABEL: Final = f"{GROUP}/operator"
"""Label of a child: the release of the operator that made it; a child of the default release has none.

On a VLLMModel, which release shall follow it."""

MAX_RELEASE_LENGTH: Final = 40
"""Of a release's name: it stands before names that have to fit into a label."""

DESIRED_HASH: Final = f"{GROUP}/desired-hash"
"""Annotation of a child: hash of the whole desired object, so that a removed field is noticed too."""

DELETION_COST: Final = f"{GROUP}/deletion-cost"
"""Annotation of a pod: the `controller.kubernetes.io/pod-deletion-cost` that the operator has given it. A cost that
differs from it is somebody else's."""

KEY_ORIGIN: Final = f"{GROUP}/api-key"
"""Annotation of the binding Secret: whether its API key was generated, or is one that the spec names."""

INSTANCE: Final = "app.kubernetes.io/instance"
"""Label of a child: the model's instance name."""

POD_TEMPLATE_HASH: Final = "pod-template-hash"
"""Label that the Deployment's controller gives to the pods of one ReplicaSet, which are those of one template."""

QUEUE: Final = "kueue.x-k8s.io/queue-name"
"""Label of the Deployment: the LocalQueue of Kueue, which hands it on to the pods and gates each."""

KEPT_FOR: Final = f"{GROUP}/kept-for"
"""Label of a claim that is no model's child and that the operator has made: the instance name of its model.

GitOps tools take INSTANCE for the name of an application of theirs, and delete what carries it, has no owner and is not
in their repository (Argo CD's default until its version 3)."""

KEYS_CHANGED_AT: Final = f"{GROUP}/api-keys-changed-at"
"""Annotation of the pods: when the API keys that they were started with last changed, so that changed keys roll the
engines. A time, since a hash of a weak key could be guessed by everybody who may read pods."""

ENGINE_CONTAINER: Final = "vllm"
"""Name of the engine's container in its pod."""

POD_SPEC_HASH: Final = f"{GROUP}/pod-spec-hash"
"""Annotation of the Deployment: hash of what the spec asked of the pods for which its pod template was made. It tells
whether that is the spec of now where the revision that would say so was deleted."""

OPERATOR_NAMESPACE: Final = "vllm-system"
"""Namespace in which the operator runs, where nothing else is said: that of manifests/."""

PREFETCHED: Final = f"{GROUP}/prefetched"
"""Annotation of the pods: which downloads they need whole; and of a Job and its pod, which one it is (a label)."""

MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGER: Final = "vllm-operator"
MANAGED_SELECTOR: Final = f"{MANAGED_BY}={MANAGER}"
"""Selects what the operator made, whichever of its releases."""

_LONGEST_SUFFIX: Final = len("-engines")
_HASH_LENGTH: Final = 8
_DNS_LABEL = re.compile(r"^[a-z]([-a-z0-9]*[a-z0-9])?$")


def prefixed(release: str, name: str) -> str:
    """A name that releases beside each other must not share: that of the default release is the plain one."""
    return f"{release}-{name}" if release else name


def operator_pod_labels(release: str = "") -> dict[str, str]:
    """Labels of the operator's own pods, in manifests/ and in the chart."""
    return {"app.kubernetes.io/name": prefixed(release, MANAGER)}


def managed_selector(release: str = "") -> str:
    """Selects what a release of the operator made, on the server's side of every watch."""
    return f"{MANAGED_SELECTOR},{OPERATOR_LABEL}={release}" if release else f"{MANAGED_SELECTOR},!{OPERATOR_LABEL}"


def release_labels(release: str) -> dict[str, str]:
    """What the children of a release carry beside the labels of all: nothing for the default release."""
    return {OPERATOR_LABEL: release} if release else {}


def release_of(labels: Mapping[str, str]) -> str:
    """The release that made an object with these labels; empty for the default one."""
    return labels.get(OPERATOR_LABEL, "")


def instance_name(name: str) -> str:
    """Name of a model's Service and Deployment, and the value of its labels: a DNS label that leaves room for suffixes.

    Names of custom resources may be longer than Services allow, hold dots or start with a digit. Those are made to
    fit and get a hash of the whole name, so that no two of them meet.
    """
    room = MAX_LABEL_LENGTH - _LONGEST_SUFFIX
    if len(name) <= room and _DNS_LABEL.match(name):
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:_HASH_LENGTH]
    readable = re.sub(r"[^a-z0-9]+", "-", name).strip("-")
    if not readable[:1].isalpha():
        readable = f"m-{readable}"
    return f"{readable[: room - _HASH_LENGTH - 1].rstrip('-')}-{digest}"


def engines_name(instance: str) -> str:
    """Name of the headless Service, whose DNS records are the single engines."""
    return f"{instance}-engines"


def client_name(instance: str) -> str:
    """Name of the ConfigMap that binds an application to the model."""
    return f"{instance}-client"


def binding_name(instance: str) -> str:
    """Name of the Secret that binds an application to the model, in the shape of the Service Binding specification."""
    return f"{instance}-binding"


def key_record_name(instance: str) -> str:
    """Name of the Secret in which the operator remembers which API keys the engines were started with."""
    return f"{instance}-key-record"


def cache_name(instance: str) -> str:
    """Name of the PersistentVolumeClaim of the engines' cache."""
    return f"{instance}-cache"


def config_name(instance: str) -> str:
    """Name of the ConfigMap with the files that the engines read."""
    return f"{instance}-config"


def adapters_name(instance: str) -> str:
    """Name of the ConfigMap with the list of adapters that engines are told while they run."""
    return f"{instance}-adapters"


def device_template_name(instance: str, digest: str) -> str:
    """Name of a ResourceClaimTemplate of the engines, whose spec cannot be changed: another one has another digest."""
    return f"{_device_prefix(instance)}{digest}"


def is_device_template_name(instance: str, name: str) -> bool:
    """Whether a name is that of a ResourceClaimTemplate of the engines."""
    digest = name.removeprefix(_device_prefix(instance))
    return digest != name and len(digest) == _HASH_LENGTH


def _device_prefix(instance: str) -> str:
    return f"{instance}-devices-"


def child_names(instance: str) -> frozenset[str]:
    """Every name that a child of the model can have, whatever its kind."""
    suffixed = (
        engines_name,
        client_name,
        binding_name,
        key_record_name,
        cache_name,
        config_name,
        adapters_name,
    )
    return frozenset({instance, *(name(instance) for name in suffixed)})


def selector_labels(instance: str) -> dict[str, str]:
    """Labels that select the engines' pods. They never change: a Deployment's selector is immutable."""
    return {"app.kubernetes.io/name": "vllm", INSTANCE: instance}


def labels(instance: str, component: str) -> dict[str, str]:
    """Labels of a child. The names of long models do not fit a label, so the instance name stands for them."""
    return {
        **selector_labels(instance),
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/part-of": "vllm-operator",
        MANAGED_BY: MANAGER,
    }


def kept_labels(instance: str, component: str) -> dict[str, str]:
    """Labels of a claim that outlives its model."""
    kept = {key: value for key, value in labels(instance, component).items() if key != INSTANCE}
    return {**kept, KEPT_FOR: instance}


def selector_text(instance: str) -> str:
    """The engines' selector as one string, as the scale subresource wants it."""
    return ",".join(f"{key}={value}" for key, value in sorted(selector_labels(instance).items()))
