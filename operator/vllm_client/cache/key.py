"""Which requests are the same, and which ask for one answer. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vllm_client.canonical import digest

if TYPE_CHECKING:
    from collections.abc import Sequence

KEY_VERSION = 1
"""Part of every key. Raise it when `complete` sends something else for the same arguments, such as other defaults."""
RANDOM_SEED = -1
"""vLLM takes this seed for none."""


def request_key(model: Sequence[str], prompt: object, arguments: Mapping[str, Any]) -> str | None:
    """A key that two requests share only if they are the same; None if that cannot be told.

    Args:
        model: What answers; whatever distinguishes it from other models.
        prompt: The prompt of a `complete`; of another method, its name and what it is asked.
        arguments: Every further argument: also those that change nothing make another key, because that costs a request
            where the opposite would cost a wrong answer.
    """
    return digest([KEY_VERSION, list(model), prompt, dict(arguments)])


def is_deterministic(arguments: Mapping[str, Any]) -> bool:
    """Whether the request asks for one answer: temperature 0, or a seed. What `extra_body` says goes before."""
    extra = arguments.get("extra_body")
    asked = {**arguments, **extra} if isinstance(extra, Mapping) else arguments
    seed = asked.get("seed")
    return asked.get("temperature") == 0 or (seed is not None and seed != RANDOM_SEED)
