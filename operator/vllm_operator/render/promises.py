"""The pod template as the user's patch leaves it, and what of it the operator's promises rest on.

A patch that breaks one of them is refused with its path, and with the field that does the same without breaking it.
What only weakens one is told in the status.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api import names
from vllm_operator.errors import InvalidSpec
from vllm_operator.render import manager, pod
from vllm_operator.render.context import NO_CLUSTER
from vllm_operator.render.environment import KEY_VARIABLE, key_variables
from vllm_operator.render.patch import PatchError, strategic_merge
from vllm_operator.render.service import PORT_NAME
from vllm_operator.render.types import type_faults
from vllm_operator.render.untyped import items, named, part

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vllm_operator.api.resource import VLLMModel
    from vllm_operator.render.context import RenderContext

_PATCH: Final = "spec.pod.patch"
_CONTAINER: Final = f"{_PATCH}.spec.containers[{pod.CONTAINER_NAME}]"
_HANDLERS: Final = ("exec", "httpGet", "tcpSocket", "grpc")

_PROBES: Final = {
    "startupProbe": "no engine takes traffic before it has completed a prompt: leave it, and set spec.gates.probe to "
    "have a command of your own decide",
    "readinessProbe": "an engine that makes no progress loses its traffic by it: leave it, and set spec.gates.probe to "
    "have a command of your own decide",
    "livenessProbe": "kubelet restarts by it an engine that its manager cannot end: leave it, and set "
    "spec.gates.restart: Never to have none restarted",
}
"""What each probe is for, and the legal way to change what it says."""


def finished_template(model: VLLMModel, context: RenderContext = NO_CLUSTER) -> dict[str, Any]:
    """The template as the user wants it.

    Raises:
        InvalidSpec: the patch is none, or takes away what makes the pod an engine of this model.
    """
    template, patch = pod.template(model, context), model.spec.pod.patch
    mistyped = list(_mistyped(model))
    if mistyped:
        raise InvalidSpec(mistyped)
    if not patch:
        return template
    try:
        patched = strategic_merge(template, patch)
    except PatchError as error:
        raise InvalidSpec([f"{_PATCH}.{error}"]) from None
    faults = list(_broken(model, template, patched))
    if faults:
        raise InvalidSpec(faults)
    return patched


def weakened_promises(model: VLLMModel) -> list[str]:
    """What the user's patch weakens, a sentence for each.

    Raises:
        InvalidSpec: the patch is refused.
    """
    if not model.spec.pod.patch:
        return []
    return list(_weakened(pod.template(model), finished_template(model), pod.shutdown_seconds(model.spec)))


def _mistyped(model: VLLMModel) -> Iterator[str]:
    """Values of a wrong type in the parts that the schema of the resource leaves open."""
    given = model.spec.pod
    lists = {"volumes": given.volumes, "initContainers": given.init_containers, "sidecars": given.sidecars}
    for name, parts in lists.items():
        kind = "Volume" if name == "volumes" else "Container"
        for number, one in enumerate(parts or ()):
            yield from type_faults(one.manifest(), kind, f"spec.pod.{name}[{number}]")
    yield from type_faults(given.patch, "PodTemplateSpec", _PATCH)


def _broken(model: VLLMModel, template: Mapping[str, Any], patched: Mapping[str, Any]) -> Iterator[str]:
    yield from _labels(model, patched)
    before, after = _engine(template), _engine(patched)
    if not after:
        yield f"{_PATCH}.spec.containers: the engine's own container {pod.CONTAINER_NAME} must stay"
        return
    yield from _port(after, PORT_NAME, model.spec.engine.port, "Services find the engine", "spec.engine.port")
    yield from _port(after, manager.PORT_NAME, model.spec.gates.port, "kubelet finds the manager", "spec.gates.port")
    yield from _ports_of_others(patched)
    yield from _keys(model, before, after)
    yield from _command(before, after)
    yield from _probes(before, after)
    yield from _program(model, template, patched)


def _engine(template: Mapping[str, Any]) -> Mapping[str, Any]:
    return named(items(template, "spec", "containers"), pod.CONTAINER_NAME)


def _labels(model: VLLMModel, patched: Mapping[str, Any]) -> Iterator[str]:
    labels = part(patched, "metadata", "labels")
    if not names.selector_labels(model.instance).items() <= labels.items():
        yield f"{_PATCH}.metadata.labels: Services find the engines by app.kubernetes.io/name and instance"
    if labels.get(names.MANAGED_BY) != names.MANAGER:
        yield f"{_PATCH}.metadata.labels: the operator sees the engines by {names.MANAGED_BY}: leave it as it is"


def _port(engine: Mapping[str, Any], name: str, number: int, purpose: str, field: str) -> Iterator[str]:
    port = named(items(engine, "ports"), name)
    if (port.get("containerPort"), port.get("protocol", "TCP")) != (number, "TCP"):
        yield f"{_CONTAINER}.ports: {purpose} by port {name}, {number}: leave it, and set {field} for another number"


def _ports_of_others(patched: Mapping[str, Any]) -> Iterator[str]:
    for container in items(patched, "spec", "containers"):
        if container.get("name") != pod.CONTAINER_NAME and named(items(container, "ports"), PORT_NAME):
            name = container.get("name")
            yield f"{_PATCH}.spec.containers[{name}].ports: Services take {PORT_NAME} for the engine: use another name"


def _keys(model: VLLMModel, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for variable in {KEY_VARIABLE: None, **dict.fromkeys(key_variables(model.spec))}:
        if named(items(before, "env"), variable) != named(items(after, "env"), variable):
            yield f"{_CONTAINER}.env[{variable}]: clients get the keys that spec.auth names: change them there"


def _command(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    if before.get("command") != after.get("command"):
        yield (
            f"{_CONTAINER}.command: it is the manager, by which an engine is admitted, withdrawn and restarted: leave "
            "it, and patch args, which is the command line that the manager starts"
        )
    if not after.get("args"):
        yield f"{_CONTAINER}.args: it is the engine's command line: leave it, or name another program to start"


def _probes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for probe, purpose in _PROBES.items():
        if _handlers(part(before, probe)) != _handlers(part(after, probe)):
            yield f"{_CONTAINER}.{probe}: {purpose}"


def _handlers(probe: Mapping[str, Any]) -> dict[str, Any]:
    return {name: probe[name] for name in _HANDLERS if name in probe}


def _program(model: VLLMModel, template: Mapping[str, Any], patched: Mapping[str, Any]) -> Iterator[str]:
    """The manager's files and its folder in memory."""
    for volume in manager.volumes(model.spec):
        if named(items(patched, "spec", "volumes"), volume["name"]) != named(
            items(template, "spec", "volumes"), volume["name"]
        ):
            yield f"{_PATCH}.spec.volumes[{volume['name']}]: the manager needs it: leave it"
    mounts = items(_engine(patched), "volumeMounts")
    for mount in manager.mounts(model.spec):
        if mount not in mounts:
            yield f"{_CONTAINER}.volumeMounts[{mount['mountPath']}]: the manager needs it: leave it"


def _weakened(template: Mapping[str, Any], patched: Mapping[str, Any], shutdown_seconds: int) -> Iterator[str]:
    before, after = _engine(template), _engine(patched)
    for probe in _PROBES:
        changed = sorted(
            key
            for key in {*part(before, probe), *part(after, probe)} - {*_HANDLERS}
            if part(before, probe).get(key) != part(after, probe).get(key)
        )
        if changed:
            fields = ", ".join(changed)
            yield f"{_CONTAINER}.{probe} changes {fields}: engines are admitted, withdrawn or restarted at other times"
    yield from _weakened_pod(part(patched, "spec"), shutdown_seconds)


def _weakened_pod(after: Mapping[str, Any], needed: int) -> Iterator[str]:
    given = after.get("terminationGracePeriodSeconds", 30)
    if isinstance(given, int) and given < needed:
        yield (
            f"{_PATCH}.spec.terminationGracePeriodSeconds: {given} s cut off what an engine still finishes within "
            f"{needed} s: set spec.engine.shutdownTimeoutSeconds instead"
        )
    elif given == needed and part(_engine({"spec": after}), "lifecycle", "preStop"):
        yield (
            f"{_CONTAINER}.lifecycle.preStop: its time comes off the {needed} s in which an engine leaves its Services "
            "and finishes its requests: set spec.engine.shutdownDelaySeconds in its place, or "
            "spec.pod.terminationGracePeriodSeconds so much higher"
        )
    if after.get("enableServiceLinks") is not False:
        yield (
            f"{_PATCH}.spec.enableServiceLinks: the engine dies of VLLM_PORT=tcp://... where a Service of the "
            "namespace is called vllm"
        )
    if after.get("nodeName"):
        yield (
            f"{_PATCH}.spec.nodeName: no scheduler sees to it that there is room on the node: set "
            "spec.scheduling.nodeSelector with kubernetes.io/hostname instead"
        )
