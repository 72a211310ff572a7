"""Which engine a request goes to.

Rendezvous hashing orders the engines for each prompt's beginning: the order of those that stay is the same when others
come and go, so their prefix caches keep what they have. The first whose load is below the bound takes the request
(consistent hashing with bounded loads, Mirrokni, Thorup and Zadimoghaddam, 2016).
"""

from __future__ import annotations

import math
import zlib
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_client.balance.policy import BalancePolicy

MASK = 2**64 - 1
PROMPTS = (b'"messages":', b'"prompt":', b'"input":')
MODEL = b'"model":'
MODEL_BYTES = 128


def prefix_key(body: bytes, prefix_bytes: int) -> int:
    """A number for the beginning of the prompt and the model's name in a JSON request.

    The body is searched, not parsed: that takes the same microsecond for long prompts. A quote within a text is
    escaped there, so that no prompt can be taken for a field.
    """
    found = (body.find(field) for field in PROMPTS)
    start = next((at for at in found if at >= 0), 0)
    model = body.find(MODEL)
    name = body[model : body.find(b",", model, model + MODEL_BYTES)] if model >= 0 else b""
    return digest(name + b"\0" + body[start : start + prefix_bytes])


def digest(data: bytes) -> int:
    """A number that is the same in every process; `mixed` makes a hash of it."""
    return zlib.crc32(data)


@lru_cache(maxsize=4096)
def engine_hash(engine: str) -> int:
    """The engine's own number."""
    return digest(engine.encode())


def mixed(key: int, engine: str) -> int:
    """How near an engine is to a key, the highest being the nearest: the finaliser of splitmix64 over both numbers."""
    value = key ^ engine_hash(engine)
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


def bound(total: int, engines: int, overload: float) -> int:
    """The most requests that one engine may have once another is added to `total` in flight."""
    return math.ceil((1 + overload) * (total + 1) / engines)


def by_prefix(key: int, loads: Mapping[str, int], overload: float) -> str:
    """The nearest engine that is below the bound.

    Args:
        key: What `prefix_key` makes of the request.
        loads: Unanswered requests by engine; not empty.
        overload: See BalancePolicy.
    """
    limit = bound(sum(loads.values()), len(loads), overload)
    return max((mixed(key, engine), engine) for engine, load in loads.items() if load < limit)[1]


def by_load(key: int, loads: Mapping[str, int]) -> str:
    """The engine with the fewest unanswered requests; the nearest of several."""
    return min(loads, key=lambda engine: (loads[engine], -mixed(key, engine)))


def chosen(key: int, loads: Mapping[str, int], policy: BalancePolicy) -> str:
    """The engine for a request, by the policy's strategy."""
    if policy.strategy == "prefix":
        return by_prefix(key, loads, policy.overload)
    return by_load(key, loads)
