"""Memory of one GPU of an engine, as a status tells it: as it was estimated, and as the engine reported it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Self

from pydantic import Field, StringConstraints, ValidationError

from vllm_operator.api.base import Model

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_TOKENS: Final = 2**53
"""The largest whole number that every reader of JSON takes as it is."""

Memory = Annotated[str, StringConstraints(max_length=32)]
Decimal = Annotated[str, StringConstraints(max_length=32, pattern=r"^[0-9]+(\.[0-9]+)?$")]
Tokens = Annotated[int, Field(ge=0, le=MOST_TOKENS)]


class Capacity(Model):
    """Memory of one GPU of an engine, and for how much its KV cache has room."""

    weights: Memory | None = Field(
        default=None, description="Memory that weights take, on the GPU that has most of them, such as `14.96Gi`."
    )
    kv_cache: Memory | None = Field(default=None, description="Memory of the KV cache on that GPU.")
    kv_cache_tokens: Tokens | None = Field(default=None, description="Tokens for which the KV cache has room.")
    max_model_len: Tokens | None = Field(default=None, description="Longest sequence that the engine takes, in tokens.")
    max_concurrency: Decimal | None = Field(
        default=None,
        description="Sequences of that length for which there is room at the same time, such as `5.69`.",
    )


class ReportedCapacity(Capacity):
    """What an engine reported when it started; left out where its log did not say it."""

    started_at: str = Field(
        description="When the engine's process was started that reported this.",
        json_schema_extra={"format": "date-time"},
    )

    @property
    def is_whole(self) -> bool:
        """Whether the start has come so far that nothing more is reported: the KV cache is laid out last."""
        return self.kv_cache_tokens is not None

    @classmethod
    def read(cls, told: object) -> Self | None:
        """What a status holds; None where it is none, or not of this version of the operator."""
        try:
            return cls.model_validate(told, by_alias=True, by_name=False)
        except ValidationError:
            return None


def memory_text(gib: float) -> Memory:
    """GiB as a quantity with two places."""
    return f"{max(0.0, gib):.2f}Gi"


def reported_by_pod(status: Mapping[str, Any]) -> dict[str, ReportedCapacity]:
    """What a status tells of each engine, by its pod's name."""
    engines = (engine for engine in status.get("engines") or () if engine.get("capacity"))
    found = {str(engine.get("pod")): ReportedCapacity.read(engine["capacity"]) for engine in engines}
    return {pod: capacity for pod, capacity in found.items() if capacity is not None}
