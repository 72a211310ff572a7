"""The objects of a model that rollouts are about, read and written by the user's kubectl."""

from __future__ import annotations

import json
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api import groups, json_text, meta
from vllm_operator.api.live import live_object
from vllm_operator.api.names import instance_name, labels, selector_text
from vllm_operator.api.revisions import COMPONENT, Revision, revisions_of
from vllm_operator.planner.workload import as_deployment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vllm_operator.cli.kubectl import Kubectl

RESOURCE: Final = f"{meta.PLURAL}.{meta.GROUP}"
FIELD_MANAGER: Final = "kubectl-rollout"
"""As kubectl names who restarts, pauses and undoes."""
_WORDS_FOR_KIND: Final = {meta.SINGULAR, meta.PLURAL, RESOURCE, *meta.SHORT_NAMES, f"{meta.SINGULAR}.{meta.GROUP}"}


class RefusedError(Exception):
    """What was asked for makes no sense as things stand."""


class DryRun(StrEnum):
    """How much of a write is made, as kubectl has it."""

    NONE = "none"
    CLIENT = "client"
    SERVER = "server"

    @property
    def mark(self) -> str:
        """What kubectl puts behind the sentence."""
        return {"none": "", "client": " (dry run)", "server": " (server dry run)"}[self.value]


def model_name(text: str) -> str:
    """The name of a model, which may be given as NAME or, as for `kubectl rollout`, as KIND/NAME.

    Raises:
        RefusedError: it is of another kind.
    """
    kind, slash, name = text.rpartition("/")
    if slash and kind.lower() not in _WORDS_FOR_KIND:
        raise RefusedError(f"{text}: only a {meta.KIND} is rolled out here; for others there is `kubectl rollout`")
    return name


def shown(name: str) -> str:
    """A model as kubectl names it."""
    return f"{meta.SINGULAR}.{meta.GROUP}/{name}"


def model(kubectl: Kubectl, name: str) -> Mapping[str, Any]:
    """A model.

    Raises:
        KubectlError: there is none, or kubectl may not read it.
    """
    found: Mapping[str, Any] = kubectl.get(RESOURCE, name)
    return found


def is_changed(kubectl: Kubectl, seen: Mapping[str, Any]) -> bool:
    """Whether somebody has changed a model since it was seen.

    Raises:
        KubectlError: it is not there any more, or kubectl may not read it.
    """
    version = model(kubectl, seen["metadata"]["name"])["metadata"]["resourceVersion"]
    return bool(version != seen["metadata"]["resourceVersion"])


def chosen(kubectl: Kubectl, names: Sequence[str], selector: str) -> list[str]:
    """The names of the models that are meant.

    Raises:
        KubectlError: kubectl may not list them.
        RefusedError: none is meant, or two ways are used at once.
    """
    if bool(names) == bool(selector):
        raise RefusedError("name the models, or select them by --selector")
    if names:
        return list(dict.fromkeys(map(model_name, names)))
    found = kubectl.get(RESOURCE, "--selector", selector)["items"]
    if not found:
        raise RefusedError(f"no {meta.KIND} has the labels {selector}")
    return [str(one["metadata"]["name"]) for one in found]


def model_and_deployment(
    kubectl: Kubectl, name: str, request_seconds: int
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """A model and its Deployment, each empty where it is not there; read in this order, by one call.

    Where engines have several pods, the LeaderWorkerSet that makes them is read as a Deployment.

    Raises:
        KubectlError: kubectl cannot read them.
    """
    places = [f"{RESOURCE}/{name}", f"deployments.apps/{instance_name(name)}"]
    timeout = f"--request-timeout={request_seconds}s"
    text = kubectl.run("get", *places, "--ignore-not-found", "--output", "json", timeout)
    found = {one["kind"]: one for one in json_text.loads(text)["items"]} if text.strip() else {}
    read = found.get(meta.KIND, {})
    if groups.size_of(read.get("spec")) > 1:
        return read, _groups(kubectl, name, timeout)
    return read, found.get("Deployment", {})


def _groups(kubectl: Kubectl, name: str, timeout: str) -> Mapping[str, Any]:
    """The LeaderWorkerSet of a model as a Deployment; empty where it is not there."""
    place = f"leaderworkersets.leaderworkerset.x-k8s.io/{instance_name(name)}"
    text = kubectl.run("get", place, "--ignore-not-found", "--output", "json", timeout)
    if not text.strip():
        return {}
    pods = kubectl.get("pods", "--selector", selector_text(instance_name(name)), timeout)["items"]
    return as_deployment(live_object(json_text.loads(text)), pods).body


def revisions(kubectl: Kubectl, name: str) -> list[Revision]:
    """The revisions of a model that are kept.

    Raises:
        KubectlError: kubectl may not read them.
    """
    selector = ",".join(f"{key}={value}" for key, value in labels(instance_name(name), COMPONENT).items())
    return revisions_of(kubectl.get("controllerrevisions.apps", "--selector", selector)["items"])


def merge(kubectl: Kubectl, name: str, patch: Mapping[str, Any], *, output: str) -> str:
    """Change some fields of a model; what kubectl prints.

    Raises:
        KubectlError: the API server refuses it, or kubectl may not do it.
    """
    return _patch(kubectl, name, "merge", patch, dry_run=DryRun.NONE, output=output)


def replace_spec(
    kubectl: Kubectl,
    seen: Mapping[str, Any],
    spec: Mapping[str, Any],
    annotations: Mapping[str, str],
    *,
    dry_run: DryRun,
    output: str,
) -> str:
    """Put another spec in the place of the one that was seen, and annotate the model; what kubectl prints.

    Raises:
        KubectlError: the spec is not the one that was seen any more, the API server refuses it, or kubectl may not.
    """
    metadata = seen["metadata"]
    patch = [
        *({"op": "test", "path": f"/metadata/{name}", "value": metadata[name]} for name in ("uid", "generation")),
        *_annotating(metadata, annotations),
        {"op": "replace", "path": "/spec", "value": spec},
    ]
    return _patch(kubectl, metadata["name"], "json", patch, dry_run=dry_run, output=output)


def _annotating(metadata: Mapping[str, Any], annotations: Mapping[str, str]) -> list[dict[str, Any]]:
    """The steps that annotate an object. A first annotation makes the map, so nobody may have made one meanwhile."""
    if metadata.get("annotations"):
        paths = {name: f"/metadata/annotations/{name.replace('~', '~0').replace('/', '~1')}" for name in annotations}
        return [{"op": "add", "path": paths[name], "value": text} for name, text in annotations.items()]
    unchanged = {"op": "test", "path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]}
    return [unchanged, {"op": "add", "path": "/metadata/annotations", "value": dict(annotations)}]


def _patch(kubectl: Kubectl, name: str, kind: str, patch: object, *, dry_run: DryRun, output: str) -> str:
    """In a file, since a whole spec may be longer than an argument can be."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "patch.json")
        file.write_text(json.dumps(patch), encoding="utf-8")
        words = ["patch", RESOURCE, name, "--type", kind, "--patch-file", str(file), "--field-manager", FIELD_MANAGER]
        words += [f"--dry-run={dry_run}"] if dry_run is not DryRun.NONE else []
        return kubectl.run(*words, *(["--output", output] if output else []))
