"""The first API key of the engines, which clients get: made by the operator, or read from the user's Secret. Pure."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.live import ObjectKey
from vllm_operator.api.names import KEY_ORIGIN, binding_name, instance_name
from vllm_operator.planner.owners import belongs
from vllm_operator.render.environment import KEY_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.planner.plan import Observation

_FIELD: Final = "spec.auth.keys[0]"
_EFFECT: Final = "clients get no key through the binding"


@dataclass(frozen=True, slots=True)
class FirstKey:
    """The key as far as it is known. It never goes into a status or a log."""

    text: str = field(default="", repr=False)
    warning: str = ""
    """Why there is none although the spec asks for one."""


def is_generated(raw: Mapping[str, Any]) -> bool:
    """Whether the spec leaves the key to the operator."""
    return bool(_auth(raw).get("generate"))


def secret_to_read(raw: Mapping[str, Any]) -> str | None:
    """Name of the user's Secret that holds the key; None where the spec names none."""
    keys = _auth(raw).get("keys")
    return str(keys[0]["name"]) if keys and not is_generated(raw) else None


def first_key(observation: Observation) -> FirstKey:
    """The key of a model that exists."""
    raw = observation.raw
    if is_generated(raw):
        return FirstKey(_kept(observation) or observation.fresh_key)
    if secret_to_read(raw) is None:
        return FirstKey()
    return _read(observation.secret, _auth(raw)["keys"][0])


def _auth(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    return raw.get("spec", {}).get("auth") or {}


def _kept(observation: Observation) -> str:
    """The generated key that clients already have: a new one at each look would lock them out.

    A key that the user named before is not kept: who asks for a new one means to be rid of it.
    """
    name = observation.raw["metadata"]["name"]
    live = observation.children.get(ObjectKey("Secret", binding_name(instance_name(name))))
    if live is None or not belongs(name, live) or live.annotations.get(KEY_ORIGIN) == "named":
        return ""
    return _decoded(live.body.get("data", {}).get(KEY_VARIABLE, ""))


def _read(secret: Mapping[str, Any] | None, wanted: Mapping[str, str]) -> FirstKey:
    name, key = wanted["name"], wanted["key"]
    if secret is None:
        return FirstKey(warning=f"{_FIELD}: there is no Secret {name} that the operator may read: {_EFFECT}")
    if key not in secret.get("data", {}):
        return FirstKey(warning=f"{_FIELD}: Secret {name} has no key {key}: {_EFFECT}")
    text = _decoded(secret["data"][key])
    if not text or text != text.strip() or not (text.isascii() and text.isprintable()):
        problem = "is empty, or holds what no HTTP header can, such as a line break at its end"
        return FirstKey(warning=f"{_FIELD}: key {key} of Secret {name} {problem}: {_EFFECT}")
    return FirstKey(text)


def _decoded(data: str) -> str:
    """Text of a Secret's value; empty where it is none."""
    try:
        return base64.b64decode(data).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
