"""`spec.rollout`: how a changed spec reaches engines that serve, and when a new operator version does."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from vllm_operator.api.base import Model
from vllm_operator.api.spec.scalars import CountOrPercent

DEFAULT_SURGE_TIMEOUT_SECONDS: Final = 60
DEFAULT_REVISION_HISTORY_LIMIT: Final = 10


class Rollout(Model):
    """How engines are replaced."""

    strategy: Literal["Auto", "Surge", "InPlace", "Recreate"] = Field(
        default="Auto",
        description="Surge: a new engine serves before an old one goes, which takes the GPUs of one more engine. "
        "InPlace: an old engine goes before its successor comes. Recreate: all old engines go, then the new ones come. "
        "Auto: Surge, and InPlace where the new engine finds no node within surgeTimeoutSeconds and would find one if "
        "an old engine went, or where two engines cannot be there at the same time (a ReadWriteOnce claim, "
        "hostNetwork, a hostPort).",
    )
    min_available: CountOrPercent | None = Field(
        default=None,
        description="Fewest engines that InPlace leaves serving while it replaces others, all the rest at a time; a "
        "percentage is of replicas, rounded up. Left out, all but one. With Recreate so many stay until others serve; "
        "left out, none. Surge never takes one away first. Where all have to stay, Auto waits for room, and InPlace is "
        "held.",
    )
    surge_timeout_seconds: Annotated[int, Field(ge=1, le=86400)] = Field(
        default=DEFAULT_SURGE_TIMEOUT_SECONDS,
        description="How long the additional engine of a rollout may find no node before Auto replaces in place.",
    )
    paused: bool = Field(
        default=False, description="Hold the rollout: changes of the pods wait, while replicas still follow the spec."
    )
    template_updates: Literal["OnRestart", "Automatic"] = Field(
        default="OnRestart",
        description="When engines get pods as a newer version of the operator renders them from the same spec. "
        "OnRestart: with the next change of the spec or the next `rollout restart`; until then the status says that "
        "one waits. Automatic: at once, which replaces the engines of every model when the operator is upgraded.",
    )
    revision_history_limit: Annotated[int, Field(ge=1, le=100)] = Field(
        default=DEFAULT_REVISION_HISTORY_LIMIT,
        description="How many earlier revisions are kept for `kubectl vllm rollout undo`, as ControllerRevisions.",
    )
