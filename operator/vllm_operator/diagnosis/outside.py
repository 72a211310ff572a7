"""Known causes by which a pod does not run, in the words of scheduler, kubelet and container runtime. Pure.

They are data, in `outside.yaml`, of the same form as the signatures of an engine's log (`signatures.py`), but they stay
in the operator: an engine that does not run reads no table. Each is looked for only among words of its topic, since the
same words mean another thing in another place: a disk that is full while an image is pulled is that of the node.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import Field, TypeAdapter

from vllm_operator.diagnosis.cause import quoted
from vllm_operator.diagnosis.known import Diagnosis
from vllm_operator.diagnosis.references import field_naming
from vllm_operator.diagnosis.signatures import ENGLISH, Signature, explain_with, read_yaml, table_json
from vllm_operator.manager.matching import table_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.diagnosis.known import Recognized
    from vllm_operator.diagnosis.references import Referenced
    from vllm_operator.diagnosis.signatures import Explanation, Language
    from vllm_operator.manager.matching import Match, Table

Topic = Literal["scheduling", "image", "container", "volume", "end", "queue"]
SCHEDULING: Final[Topic] = "scheduling"
"""What the scheduler says of a pod that it finds no node for, and what nodes show."""
IMAGE: Final[Topic] = "image"
"""What kubelet says of an image that it cannot pull."""
CONTAINER: Final[Topic] = "container"
"""What kubelet says of a container that it cannot make."""
VOLUME: Final[Topic] = "volume"
"""What kubelet says of the volumes and the sandbox of a pod."""
END: Final[Topic] = "end"
"""Why a pod as a whole is over."""
QUEUE: Final[Topic] = "queue"
"""What Kueue says of a pod that it does not admit."""

_FILE: Final = "outside.yaml"

_CLEAR: Final = frozenset(
    {
        "ClaimMissing",
        "ClaimBeingDeleted",
        "ClaimLost",
        "ClaimInUse",
        "DeviceClaimMissing",
        "DeviceClaimTemplateMissing",
        "DeviceClassMissing",
    }
)

_NAMED: Final[Mapping[str, Referenced]] = {
    "ClaimMissing": "PersistentVolumeClaim",
    "ClaimBeingDeleted": "PersistentVolumeClaim",
    "DeviceClaimMissing": "ResourceClaim",
    "DeviceClaimTemplateMissing": "ResourceClaimTemplate",
    "SecretMissing": "Secret",
    "SecretKeyMissing": "Secret",
    "ConfigMapMissing": "ConfigMap",
    "ConfigMapKeyMissing": "ConfigMap",
}
"""Causes that are about an object that a spec names, whose name is captured."""


class OutsideCause(Signature):
    """One known cause. It has no patterns where only a look at the cluster shows it, and then an example of that."""

    topics: Annotated[tuple[Topic, ...], Field(min_length=1)]


_ALL: Final = TypeAdapter(tuple[OutsideCause, ...])


@cache
def outside_causes() -> tuple[OutsideCause, ...]:
    """Those of this operator, in the order in which they count."""
    return read_yaml(_ALL, files(__package__).joinpath(_FILE).read_text(encoding="utf-8"), _FILE)


def recognize(topic: Topic, text: str) -> Match | None:
    """The first cause of a topic that a text tells of; None where it tells of none."""
    return _table(topic).match(text)


def says_all(topic: Topic, text: str) -> bool:
    """Whether a text tells of a cause that no look at the cluster makes clearer."""
    match = recognize(topic, text)
    return match is not None and match.id in _CLEAR


def diagnose(
    topic: Topic,
    text: str,
    *,
    seen: Recognized | None = None,
    where: str = "",
    model_spec: Mapping[str, Any] | None = None,
    language: Language = ENGLISH,
) -> Diagnosis | None:
    """The known cause that somebody's words tell of; None where they tell of none.

    Args:
        topic: What the words are about.
        text: The words.
        seen: What a look at the cluster has found: it says more than the words, and counts before them.
        where: The field of the resource that the cause is about; empty where it is not known.
        model_spec: Where to look for the field that names what is missing, such as a Secret.
        language: Of the sentences.
    """
    found = _explained(seen.id, dict(seen.groups), where, text, language) if seen else None
    if found is None and (match := recognize(topic, text)):
        kind = _NAMED.get(match.id)
        named = field_naming(model_spec or {}, kind, match.groups["name"]) if kind else ""
        found = _explained(match.id, match.groups, where or named, text, language)
    return found


def explained_example(cause: OutsideCause, language: Language = ENGLISH) -> Explanation | None:
    """What is told in the example, or of the first sample; None where the texts lack words. For the documentation."""
    if cause.example:
        return explain_with(cause, cause.example, language)
    found = diagnose(cause.topics[0], cause.samples[0], language=language) if cause.samples else None
    return found.explanation if found else None


def _explained(cause_id: str, groups: Mapping[str, str], where: str, text: str, language: Language) -> Diagnosis | None:
    cause = _by_id().get(cause_id)
    named = groups.get("where") or where
    explanation = explain_with(cause, {**groups, **({"where": named} if named else {})}, language) if cause else None
    if explanation is None:
        return None
    return Diagnosis(replace(explanation, field=explanation.field or named), quoted(text))


@cache
def _by_id() -> dict[str, OutsideCause]:
    return {one.id: one for one in outside_causes()}


@cache
def _table(topic: Topic) -> Table:
    return table_of(table_json(one for one in outside_causes() if topic in one.topics))
