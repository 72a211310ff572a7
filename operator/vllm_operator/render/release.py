"""What tells the objects of a named release of the operator from those of another one.

Releases beside each other share nothing: each sees only what carries its label, and mounts its own ConfigMaps. The
default release has no name, and its objects are as they were before there were names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vllm_operator.api import names
from vllm_operator.render.objects import hashed

if TYPE_CHECKING:
    from collections.abc import Mapping


def child_of(release: str, desired: Mapping[str, Any]) -> dict[str, Any]:
    """A model's child as this release makes it; one that is so already stays as it is."""
    found = _labelled(release, desired)
    if desired["kind"] == "Deployment":
        found["spec"] = {**desired["spec"], "template": template_of(release, desired["spec"]["template"])}
    if found == desired:
        return found
    # its first hash, which is one of the annotations, knows which data may be told
    return hashed(found, frozenset(desired.get("data", ())))


def template_of(release: str, template: Mapping[str, Any]) -> dict[str, Any]:
    """A pod template as this release makes it: it sees the pods by its label, and they run its own manager.

    One that another release has made becomes one of this release.
    """
    found = _labelled(release, template)
    spec = template["spec"]
    if spec.get("volumes"):
        found["spec"] = {**spec, "volumes": [_volume_of(release, volume) for volume in spec["volumes"]]}
    return found


def shared_of(release: str, desired: Mapping[str, Any]) -> dict[str, Any]:
    """A ConfigMap that the models of a namespace share, as this release makes it."""
    if not release:
        return dict(desired)
    found = _labelled(release, desired)
    name = names.prefixed(release, desired["metadata"]["name"])
    labels = {**found["metadata"]["labels"], "app.kubernetes.io/name": name}
    return hashed({**found, "metadata": {**found["metadata"], "name": name, "labels": labels}})


def _labelled(release: str, desired: Mapping[str, Any]) -> dict[str, Any]:
    metadata = desired["metadata"]
    others = {key: value for key, value in (metadata.get("labels") or {}).items() if key != names.OPERATOR_LABEL}
    return {**desired, "metadata": {**metadata, "labels": {**others, **names.release_labels(release)}}}


def _volume_of(release: str, volume: Mapping[str, Any]) -> dict[str, Any]:
    """The volume; one of the manager's ConfigMap is that of this release's."""
    source = volume.get("configMap") or {}
    if not _is_managers(str(source.get("name", ""))):
        return dict(volume)
    return {**volume, "configMap": {**source, "name": names.prefixed(release, names.MANAGER_CONFIG_MAP)}}


def _is_managers(name: str) -> bool:
    return name == names.MANAGER_CONFIG_MAP or name.endswith(f"-{names.MANAGER_CONFIG_MAP}")
