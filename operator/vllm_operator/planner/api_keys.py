"""The API keys of the engines, at both ends: what clients are told, what engines were started with, and when to roll.

An engine gets its keys as environment variables, and keeps them until its container ends. So when a Secret changes, the
engines have to be replaced, and the binding must not run ahead of them. Three things are compared: the keys as the
Secrets have them now; the record, a Secret of the operator that says which keys it saw last and when they changed; and
the annotation of the pods, which repeats that time. The annotation is a time and no hash of the keys on purpose: with a
hash, whoever may read pods could try guesses. The record is no part of the binding, since a client that knows one key
could do the same to the others. Pure.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.live import ObjectKey
from vllm_operator.api.names import KEY_ORIGIN, KEYS_CHANGED_AT, binding_name, instance_name, key_record_name
from vllm_operator.planner.owners import belongs, controlled_by
from vllm_operator.planner.rollout import is_through
from vllm_operator.planner.workload import live_workload
from vllm_operator.render.context import KeyRecord
from vllm_operator.render.environment import KEY_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.api.live import LiveObject
    from vllm_operator.planner.plan import Observation

_ENDED: Final = frozenset({"Failed", "Succeeded"})
"""Phases of pods that never run again. Evicted ones may stay for days."""

_GENERATED: Final = "generated"
"""Place of the generated key in the record; those of the user's are SECRET/KEY."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the keys of one model stand. No key goes into a status, a log or an annotation."""

    client_key: str = field(default="", repr=False)
    """Key that the binding has to hold now; empty where there is none, or none is known."""
    next_key: str | None = field(default="", repr=False)
    """Key that clients need once no older engine is left: empty for none, None where its Secret does not tell."""
    record: KeyRecord | None = field(default=None, repr=False)
    """What the operator has to remember of the keys; None where there is nothing to remember."""
    mark: str = ""
    """When the keys changed, as the pod template has to say it now; empty while they never have."""
    to_roll: bool = False
    """Whether the live template says another time: it follows once the record is written."""
    running_old: bool = False
    """Whether engines are there, or about to be made, that have other keys than those of now."""
    problems: tuple[str, ...] = ()
    """Keys that cannot be read, each with its path."""

    @property
    def held(self) -> bool:
        """Whether the binding waits for the engines."""
        return self.next_key is not None and self.client_key != self.next_key

    @property
    def differ(self) -> bool:
        """Whether some engine may refuse the key of some client."""
        return self.held or self.running_old

    @property
    def sentence(self) -> str:
        """Which end has which keys, in words that stay while nothing changes; empty where both have the same."""
        if not self.differ:
            return ""
        since = f" at {self.record.changed_at}" if self.record and self.running_old else ""
        binding = "keeps the key of before until none of them is left" if self.held else "has the key of now"
        return (
            f"spec.auth: the API keys changed{since}: engines that were started before take the old ones until the "
            f"rollout has replaced them, and the binding {binding}"
        )


def is_generated(raw: Mapping[str, Any]) -> bool:
    """Whether the spec leaves the first key to the operator."""
    return bool(_auth(raw).get("generate"))


def secrets_to_read(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the user's Secrets that hold keys, each once."""
    return tuple(dict.fromkeys(str(key["name"]) for key in _auth(raw).get("keys") or ()))


def standing(observation: Observation) -> Standing:
    """Where the keys of a model that exists stand."""
    auth, saved, held = _auth(observation.raw), _saved(observation), _binding_key(observation)
    if not auth:
        # the operator deletes no Secret, so what it remembers is emptied
        return Standing(client_key=held, record=None if saved is None else KeyRecord({}))
    found, problems = _keys(observation)
    next_key = next(iter(found.values()))
    rolled = _mark_of(_deployment(observation).get("spec", {}).get("template", {}))
    record = _record(observation, found, saved, rolled)
    to_roll = bool(_deployment(observation)) and rolled != record.changed_at
    return Standing(
        client_key=(next_key or held) if is_generated(observation.raw) or not held else held,
        next_key=next_key or None,
        record=record,
        mark=saved.changed_at if saved else rolled,
        to_roll=to_roll,
        running_old=to_roll or _has_old_pods(observation, record.changed_at),
        problems=tuple(problems),
    )


def engines_are_current(observation: Observation) -> bool:
    """Whether there is a Deployment of the model's, and every engine was started from its newest template."""
    live = live_workload(observation)
    return (
        live is not None
        and belongs(observation.raw["metadata"]["name"], live, observation.release)
        and is_through(live)
    )


def _auth(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    return raw.get("spec", {}).get("auth") or {}


def _keys(observation: Observation) -> tuple[dict[str, str], list[str]]:
    """The keys by the place where they are, the one for clients first, and what is wrong with some.

    One that is not known has an empty text. A generated key has no other home than the binding: engines read it there.
    """
    raw = observation.raw
    found = {_GENERATED: _kept(observation) or observation.fresh_key} if is_generated(raw) else {}
    problems = []
    for position, wanted in enumerate(_auth(raw).get("keys") or ()):
        for_clients = not found
        text, problem = _read(observation.secrets.get(wanted["name"]), wanted)
        found.setdefault(f"{wanted['name']}/{wanted['key']}", text)
        if problem:
            effect = _effect(observation, for_clients=for_clients)
            problems.append(f"spec.auth.keys[{position}]: {problem}: {effect}")
    return found, problems


def _effect(observation: Observation, *, for_clients: bool) -> str:
    if not for_clients:
        return "engines that start now cannot take it"
    return f"clients get {'no other' if _binding_key(observation) else 'no'} key through the binding"


def _record(observation: Observation, found: Mapping[str, str], saved: KeyRecord | None, rolled: str) -> KeyRecord:
    """What is to be remembered. The time moves when a key has changed in its place.

    A place that is new in the spec changes the pod template by itself.
    """
    uid = observation.raw["metadata"]["uid"]
    before: Mapping[str, str] = saved.digests if saved else {}
    digests = {place: _digest(uid, place, text) if text else before.get(place, "") for place, text in found.items()}
    changed = any(before.get(place) not in (None, "", digest) for place, digest in digests.items())
    if saved is None:
        changed = _changed_unseen(observation, found)
    if not (_deployment(observation) or observation.pods):
        changed = False  # no engine was started with any key
    stamp = observation.now.isoformat(timespec="milliseconds")
    return KeyRecord(digests, stamp if changed else saved.changed_at if saved else rolled)


def _changed_unseen(observation: Observation, found: Mapping[str, str]) -> bool:
    """Whether the binding shows that engines were started with another first key, although nothing was remembered.

    An operator that did not remember made them, or somebody deleted the record. Else they are believed to have the keys
    of now: a fleet is not rolled for a lost note. Where they read another place, the pod template changes by itself.
    """
    raw = observation.raw
    place, next_key = next(iter(found.items()))
    if is_generated(raw):
        place = f"{binding_name(_instance(observation))}/{KEY_VARIABLE}"
    if not next_key or place not in _places(_deployment(observation)):
        return False
    held = _binding_key(observation)
    return next_key != held and bool(held or is_generated(raw))


def _places(deployment: Mapping[str, Any]) -> set[str]:
    """Where the engines' first key is, as the live template says."""
    pod = deployment.get("spec", {}).get("template", {}).get("spec", {})
    variables = [one for container in pod.get("containers", []) for one in container.get("env") or []]
    sources = [(one.get("valueFrom") or {}).get("secretKeyRef") for one in variables if one["name"] == KEY_VARIABLE]
    return {f"{source['name']}/{source['key']}" for source in sources if source}


def _has_old_pods(observation: Observation, changed_at: str) -> bool:
    """Whether a pod that may serve was started before that time: not one that is on its way out, or has ended."""
    return any(
        _mark_of(pod.body) != changed_at
        for pod in observation.pods
        if not pod.leaving and pod.status.get("phase") not in _ENDED
    )


def _kept(observation: Observation) -> str:
    """The generated key that clients already have: a new one at each look would lock them out.

    A key that the user named before is not kept: who asks for a new one means to be rid of it.
    """
    live = _secret(observation, binding_name(_instance(observation)))
    return (
        "" if live.get("metadata", {}).get("annotations", {}).get(KEY_ORIGIN) == "named" else _binding_key(observation)
    )


def _binding_key(observation: Observation) -> str:
    return _decoded(_secret(observation, binding_name(_instance(observation))).get("data", {}).get(KEY_VARIABLE, ""))


def _saved(observation: Observation) -> KeyRecord | None:
    """The record as the API server has it; None where there is none, or where somebody has damaged it.

    That of an earlier model of the name, left as an orphan or restored from a backup, is none: its digests are made
    with that one's uid, so every key would seem to be another.
    """
    key, metadata = ObjectKey("Secret", key_record_name(_instance(observation))), observation.raw["metadata"]
    live = observation.children.get(key)
    if live is None or not controlled_by(metadata["uid"], live):
        return None
    data = _child(observation, key).get("data", {})
    try:
        digests = json.loads(_decoded(data.get(KeyRecord.DIGESTS, "")))
    except json.JSONDecodeError:
        return None
    if not isinstance(digests, dict):
        return None
    return KeyRecord(digests, _decoded(data.get(KeyRecord.CHANGED_AT, "")))


def _instance(observation: Observation) -> str:
    return instance_name(observation.raw["metadata"]["name"])


def _deployment(observation: Observation) -> Mapping[str, Any]:
    return _body(observation, live_workload(observation))


def _secret(observation: Observation, name: str) -> Mapping[str, Any]:
    return _child(observation, ObjectKey("Secret", name))


def _child(observation: Observation, key: ObjectKey) -> Mapping[str, Any]:
    """A live child that is the model's; empty where there is none."""
    return _body(observation, observation.children.get(key))


def _body(observation: Observation, live: LiveObject | None) -> Mapping[str, Any]:
    name, release = observation.raw["metadata"]["name"], observation.release
    return live.body if live is not None and belongs(name, live, release) else {}


def _mark_of(live: Mapping[str, Any]) -> str:
    """What a pod, or a template of pods, says of the time at which the keys changed."""
    return str((live.get("metadata", {}).get("annotations") or {}).get(KEYS_CHANGED_AT, ""))


def _digest(uid: str, place: str, key: str) -> str:
    """The digest goes into a Secret of the operator only, and never into a log, a status or an annotation."""
    return hashlib.sha256("\0".join((uid, place, key)).encode()).hexdigest()


def _read(secret: Mapping[str, Any] | None, wanted: Mapping[str, str]) -> tuple[str, str]:
    """A key of a Secret of the user, or what is wrong with it."""
    name, key = wanted["name"], wanted["key"]
    if secret is None:
        return "", f"there is no Secret {name} that the operator may read"
    if key not in secret.get("data", {}):
        return "", f"Secret {name} has no key {key}"
    text = _decoded(secret["data"][key])
    if not text or text != text.strip() or not (text.isascii() and text.isprintable()):
        return (
            "",
            f"key {key} of Secret {name} is empty, or holds what no HTTP header can, such as a line break at its end",
        )
    return text, ""


def _decoded(data: str) -> str:
    """Text of a Secret's value; empty where it is none."""
    try:
        return base64.b64decode(data).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
