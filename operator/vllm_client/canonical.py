"""One text, and so one hash, for equal arguments. Pure."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import lru_cache
from typing import Any


class NotCanonicalError(TypeError):
    """A value has no one text: two requests with it cannot be told apart for sure."""


def digest(value: object) -> str | None:
    """The hash of a value, the same in every process; None if the value has no one text."""
    try:
        text = json.dumps(canonical(value), separators=(",", ":"))
    except NotCanonicalError:
        return None
    return hashlib.sha256(text.encode()).hexdigest()


def canonical(value: object) -> object:
    """The value as JSON of one form: containers are lists that begin with their kind, so that none passes for another.

    Raises:
        NotCanonicalError: It is or holds something that JSON cannot say.
    """
    if value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, list | tuple):
        return ["list", *(canonical(one) for one in value)]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return ["mapping", *([key, canonical(value[key])] for key in sorted(value))]
    if isinstance(value, type) and hasattr(value, "model_json_schema"):
        return ["schema", value.__name__, canonical(value.model_json_schema())]
    if isinstance(value, type) and is_dataclass(value):
        return ["schema", value.__name__, canonical(_json_schema(value))]
    raise NotCanonicalError(type(value).__name__)


@lru_cache(maxsize=256)
def _json_schema(kind: type[Any]) -> Mapping[str, Any]:
    """The JSON schema of a dataclass; pydantic is imported here because that takes a while."""
    from pydantic import TypeAdapter  # noqa: PLC0415 - see above

    return TypeAdapter(kind).json_schema()
