"""The history of a model: which pods each of its specs was given, as ControllerRevisions. Pure.

A revision holds the part of a spec that shapes pods, and the pod template that it was rendered to. As long as the spec
stays, its engines keep that template, whichever version of the operator runs. The greatest number is the current
revision; an earlier one that is wanted again gets the next number, as with Deployments.

The data of a revision never change (the API server sees to that), and its name is made of their hash:

    data:
      spec:            the user's spec as it was applied, without what shapes no pod
      template:        the pod template, with the user's patch, without the operator's marks (MARKS)
      config:          the files that the pods read out of the model's ConfigMap; left out where there are none
      configFromSpec:  of these files the ones whose text stands in `spec`, by its path there: a chat template of
                       half a megabyte would not fit into etcd twice

What may change are the number and the annotations: why it was made (CHANGE_CAUSE), the last restart that was asked for
while it was the current one (RESTARTED_AT), and up to when requests were followed then (HANDLED_AT).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from vllm_operator.api import json_text
from vllm_operator.api.bounded import Bounded
from vllm_operator.api.names import KEYS_CHANGED_AT
from vllm_operator.api.spec.checks import nesting_fault
from vllm_operator.api.spec.root import VLLMModelSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

KIND: Final = "ControllerRevision"
API_VERSION: Final = "apps/v1"
COMPONENT: Final = "revision"
"""The component that the labels of a revision name."""

CHANGE_CAUSE: Final = "kubernetes.io/change-cause"
"""Annotation of a model, copied to its current revision: why it was changed, in the user's words."""

RESTARTED_AT: Final = "kubectl.kubernetes.io/restartedAt"
"""Annotation of a model, a Deployment's pods and a revision: when a restart was last asked for, in RFC 3339."""

ROLLED_BACK_TO: Final = "vllm.echo-roots.io/rolled-back-to"
"""Annotation of a model: when it was asked for another of its spec's revisions, in RFC 3339, a space, and its name."""

HANDLED_AT: Final = "vllm.echo-roots.io/last-handled-request-at"
"""Annotation of a revision and of the Deployment: restarts and rollbacks up to this time were followed, in RFC 3339.
Left out where RESTARTED_AT says as much."""

MARKS: Final = (KEYS_CHANGED_AT, RESTARTED_AT)
"""Annotations of the pods that depend on what happened, and not on the spec. They are laid over a kept template."""

SHAPES_NO_POD: Final = frozenset(
    {
        "replicas",
        "autoscaling",
        "suspend",
        "service",
        "ingress",
        "network",
        "disruption",
        "rollout",
        "monitoring",
        "catalog",
        "estimate",
    }
)
"""Parts of the spec of which nothing reaches a pod: an edit of them makes no revision, and an undo leaves them."""

_HASH_LENGTH: Final = 10
_MOST_DIGESTS: Final = 8192
_INLINE: Final = "model.chatTemplate.inline"
_digests: Final[Bounded[bytes, str]] = Bounded(_MOST_DIGESTS)
"""Digest of a spec in its normal form, by the hash of the spec as it is written: parsing takes a millisecond."""


@dataclass(frozen=True, slots=True)
class Revision:
    """One entry of the history."""

    name: str
    number: int
    """The greatest is the current one's."""
    spec: Mapping[str, Any]
    """The part of the user's spec that shapes pods, as it was applied."""
    template: Mapping[str, Any]
    """The pod template, without the operator's marks."""
    config: Mapping[str, str]
    """Files that the pods read out of the model's ConfigMap; empty where there is none."""
    created_at: str
    """In RFC 3339; empty where the object is only in a file."""
    cause: str
    """Why, in the user's words; empty where nothing was said."""
    restarted_at: str
    """The last restart that was asked for while it was the current one, in RFC 3339; empty where none was."""
    handled_at: str = ""
    """Up to when restarts and rollbacks were followed while it was the current one, in RFC 3339; empty for none."""


def pod_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a spec, as it was applied, that shapes pods."""
    kept = {name: part for name, part in spec.items() if name not in SHAPES_NO_POD}
    if isinstance(pod := kept.get("pod"), dict):
        kept["pod"] = {name: part for name, part in pod.items() if name != "serviceAccountAnnotations"}
    if _at(kept, "lora", "runtimeUpdates") is True:
        kept["lora"] = {name: part for name, part in kept["lora"].items() if name != "adapters"}
    return kept


def restored(spec: Mapping[str, Any], earlier: Mapping[str, Any]) -> dict[str, Any]:
    """The whole spec that has pods as an earlier revision's (its `spec`), and everything else as it is now.

    So are adapters of which engines are told while they run. A claim of both stays as it is now too: it cannot shrink,
    nor change its class.
    """
    found = {name: part for name, part in spec.items() if name in SHAPES_NO_POD} | dict(earlier)
    annotations = _at(spec, "pod", "serviceAccountAnnotations")
    if annotations and not _at(earlier, "pod", "serviceAccountName"):
        found["pod"] = {**(earlier.get("pod") or {}), "serviceAccountAnnotations": annotations}
    adapters = _at(spec, "lora", "adapters")
    if adapters and _at(earlier, "lora", "runtimeUpdates") is True:
        found["lora"] = {**earlier["lora"], "adapters": adapters}
    claim = _at(spec, "storage", "cache", "persistentVolumeClaim")
    if claim and _at(earlier, "storage", "cache", "persistentVolumeClaim"):
        storage = earlier["storage"]
        found["storage"] = {**storage, "cache": {**storage["cache"], "persistentVolumeClaim": claim}}
    return found


def same_pods(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two specs ask for the same pods.

    Both are read and written by the code that runs now before they are called different: fields that a version of the
    API added with a default, or dropped, are no change of the user's.
    """
    one, other = _comparable(one), _comparable(other)
    return one == other or pod_digest(one) == pod_digest(other)


def pod_digest(spec: Mapping[str, Any]) -> str:
    """Digest of what a spec asks of the pods, the same for all specs that ask for the same; 16 hex digits."""
    comparable = _comparable(spec)
    key = hashlib.sha256(json_text.dumps(comparable, sort_keys=True)).digest()
    known = _digests.get(key)
    if known is None:
        normal = json_text.dumps(_normal(comparable), sort_keys=True)
        known = hashlib.sha256(normal).hexdigest()[:16]
        _digests.put(key, known)
    return known


def written_hash(spec: Mapping[str, Any]) -> str:
    """Hash of what a spec asks of the pods, as it is written down; 16 hex digits."""
    return hashlib.sha256(json_text.dumps(_comparable(spec), sort_keys=True)).hexdigest()[:16]


def data_of(spec: Mapping[str, Any], template: Mapping[str, Any], config: Mapping[str, str]) -> dict[str, Any]:
    """The data of the revision of a spec (a whole one), its pod template and the files that the pods read."""
    kept = pod_spec(spec)
    inline = _at(kept, *_INLINE.split("."))
    there = {name: _INLINE for name, text in config.items() if text == inline}
    rest = {name: text for name, text in config.items() if name not in there}
    return {
        "spec": kept,
        "template": unmarked(template),
        **({"config": rest} if rest else {}),
        **({"configFromSpec": there} if there else {}),
    }


def revision_name(instance: str, data: Mapping[str, Any]) -> str:
    """Name of the revision of a model (by its instance name) that holds these data."""
    return f"{instance}-{hashlib.sha256(json_text.dumps(data, sort_keys=True)).hexdigest()[:_HASH_LENGTH]}"


def is_revision_name(instance: str, name: str) -> bool:
    """Whether a revision of the model of this instance name may be called so."""
    return bool(re.fullmatch(rf"{re.escape(instance)}-[0-9a-f]{{{_HASH_LENGTH}}}", name))


def revisions_of(objects: Iterable[Mapping[str, Any]]) -> list[Revision]:
    """The revisions among objects, the current one first. What holds none, whoever made it, is left out."""
    found = [revision for body in objects if body.get("kind") == KIND for revision in _read(body)]
    return sorted(found, key=lambda revision: (revision.number, revision.name), reverse=True)


def unmarked(template: Mapping[str, Any]) -> dict[str, Any]:
    """A pod template without the operator's marks."""
    return _annotated(template, {name: text for name, text in _annotations(template).items() if name not in MARKS})


def marked(template: Mapping[str, Any], marks: Mapping[str, str]) -> dict[str, Any]:
    """A pod template with marks; empty ones are left out."""
    return _annotated(template, {**_annotations(template), **{name: text for name, text in marks.items() if text}})


def restart_of(template: Mapping[str, Any]) -> str:
    """The restart that a pod template says; empty where it says none."""
    return str(_annotations(template).get(RESTARTED_AT, ""))


@dataclass(frozen=True, slots=True)
class Rollback:
    """The last request for another revision of the same spec."""

    at: str = ""
    """In RFC 3339; empty where there was none."""
    revision: str = ""
    """Name of the ControllerRevision."""

    @classmethod
    def of(cls, annotations: Mapping[str, str]) -> Rollback | None:
        """Read it of a model's annotations; None where nobody can tell what is meant."""
        text = annotations.get(ROLLED_BACK_TO, "")
        at, _, name = text.partition(" ")
        if not text:
            return cls()
        return cls(at, name) if is_time(at) and name else None

    @property
    def annotations(self) -> dict[str, str]:
        """The request as annotations of a model."""
        return {ROLLED_BACK_TO: f"{self.at} {self.revision}"}


def is_time(text: str) -> bool:
    """Whether a text is a time with its zone in RFC 3339."""
    return _time(text) is not None


def latest(texts: Iterable[str]) -> str:
    """The latest of these times in RFC 3339, as it is written; what is none is left out. Empty where there is none."""
    times = ((when, text) for text in texts if (when := _time(text)) is not None)
    return max(times, default=(None, ""))[1]


def is_later(one: str, other: str) -> bool:
    """Whether a time is after another, of which each may be empty: before all others."""
    first, second = _time(one), _time(other)
    return first is not None and (second is None or first > second)


def _time(text: str) -> datetime | None:
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return None
    return when.astimezone(UTC) if when.tzinfo else None


def _read(body: Mapping[str, Any]) -> Iterator[Revision]:
    """The revision that an object holds, if it holds one."""
    data, metadata = body.get("data"), body["metadata"]
    if not isinstance(data, dict):
        return
    spec, template = data.get("spec"), data.get("template")
    if not (isinstance(spec, dict) and isinstance(template, dict) and isinstance(template.get("spec"), dict)):
        return
    annotations = metadata.get("annotations") or {}
    yield Revision(
        name=metadata["name"],
        number=body.get("revision", 0),
        spec=spec,
        template=template,
        config=_config(data),
        created_at=metadata.get("creationTimestamp") or "",
        cause=annotations.get(CHANGE_CAUSE, ""),
        restarted_at=annotations.get(RESTARTED_AT, ""),
        handled_at=latest([annotations.get(RESTARTED_AT, ""), annotations.get(HANDLED_AT, "")]),
    )


def _config(data: Mapping[str, Any]) -> dict[str, str]:
    there = data.get("configFromSpec") or {}
    return {**(data.get("config") or {}), **{name: _at(data["spec"], *path.split(".")) for name, path in there.items()}}


def _comparable(spec: Mapping[str, Any]) -> dict[str, Any]:
    """What of a spec is compared: not what a claim is like, of which a pod sees the name alone."""
    kept = pod_spec(spec)
    if _at(kept, "storage", "cache", "persistentVolumeClaim"):
        storage = kept["storage"]
        kept["storage"] = {**storage, "cache": {**storage["cache"], "persistentVolumeClaim": {"size": "1"}}}
    return kept


def _normal(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """A spec as the code that runs now writes it. One that it cannot read stays as it is, and equals itself alone.

    Fields that this version does not know are left out: they cannot shape its pods.
    """
    for _ in range(0 if nesting_fault(spec) else 2):
        try:
            return _comparable(VLLMModelSpec.model_validate(spec, by_alias=True, by_name=False).manifest())
        except ValidationError as error:
            faults = error.errors(include_url=False, include_context=False, include_input=False)
            if any(fault["type"] != "extra_forbidden" for fault in faults):
                return spec
            spec = _without(spec, [fault["loc"] for fault in faults])
    return spec


def _without(part: Any, paths: list[tuple[int | str, ...]]) -> Any:
    """A part of a document without what lies at these paths."""
    gone = {path[0] for path in paths if len(path) == 1}
    deeper = {path[0]: [other[1:] for other in paths if other[0] == path[0]] for path in paths if len(path) > 1}
    if isinstance(part, dict):
        return {name: _without(value, deeper.get(name, [])) for name, value in part.items() if name not in gone}
    if isinstance(part, list):
        return [_without(value, deeper.get(number, [])) for number, value in enumerate(part) if number not in gone]
    return part


def _at(part: Any, *path: str) -> Any:
    """What lies at a path of maps; None where nothing does."""
    for name in path:
        part = part.get(name) if isinstance(part, dict) else None
    return part


def _annotations(template: Mapping[str, Any]) -> Mapping[str, Any]:
    return (template.get("metadata") or {}).get("annotations") or {}


def _annotated(template: Mapping[str, Any], annotations: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {name: part for name, part in (template.get("metadata") or {}).items() if name != "annotations"}
    return {**template, "metadata": {**metadata, **({"annotations": dict(annotations)} if annotations else {})}}
