"""What a policy finds: the state of an engine, a reason for programs and a sentence for people."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from vllm_operator.api.conditions import Reason

_LONGEST_QUOTE: Final = 300


class EngineState(StrEnum):
    """How far an engine has come."""

    SERVING = "serving"
    """The engine passed its gate and takes traffic."""
    STARTING = "starting"
    """The engine waits for a node, for its image or for what starts before it, or loads its model."""
    WITHDRAWN = "withdrawn"
    """The engine served before, and lost its traffic."""
    FAILING = "failing"
    """The engine cannot start, does not stay up, or has loaded and cannot be admitted."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Why an engine is in its state."""

    state: EngineState
    reason: Reason
    sentence: str = ""
    """What to say after the pod's name; empty where the engine serves."""
    needs_events: bool = False
    """Whether kubelet's Events may say more."""


def quoted(text: object) -> str:
    """A text of somebody else's on one line, cut to 300 characters."""
    flat = " ".join(str(text).split())
    return flat if len(flat) <= _LONGEST_QUOTE else f"{flat[: _LONGEST_QUOTE - 3]}..."
