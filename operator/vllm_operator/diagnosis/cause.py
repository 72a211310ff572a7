"""What a policy finds: the state of an engine, a reason for programs and a sentence for people."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from vllm_operator.manager.redaction import without_secrets

if TYPE_CHECKING:
    from vllm_operator.api.conditions import Reason
    from vllm_operator.diagnosis.known import Diagnosis

_LONGEST_QUOTE: Final = 300
_LONGEST_READ: Final = 8192
"""Characters: more than any termination message or message of a condition has."""


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


class Lookup(StrEnum):
    """Where else to look for what a pod does not say itself, and how urgently."""

    EVENTS = "Events"
    """Kubelet's Events about the pod: its containers do not run yet."""
    PLACEMENT = "nodes, and the pod's claims"
    """Why the scheduler finds no node for the pod: what nodes have, who holds it, and what the claims wait for. Of a
    pod whose node does not answer, what is known of that node."""
    QUEUE = "the pod's Workload"
    """What a queue of Kueue says of a pod that it holds back."""
    LOADING = "manager of an engine that loads"
    """`/status` of the manager in the pod."""
    WITHDRAWN = "manager of an engine that lost its traffic"
    """The same, of an engine that served before."""
    SERVING = "manager of an engine that serves"
    """The same, for what it reported at its start, what slows it down, or what it refuses to everybody."""
    ADAPTERS = "manager of an engine that is to serve other adapters"
    """The same, until it says that it does, or that it cannot."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Why an engine is in its state."""

    state: EngineState
    reason: Reason
    sentence: str = ""
    """What to say after the pod's name; empty where the engine serves."""
    lookup: Lookup | None = None
    """Where more may be said of it; None where the pod says enough."""
    diagnosis: Diagnosis | None = None
    """The known failure that it is, or that the engine serves with; None where it is none, or not known."""


def quoted(text: object) -> str:
    """A text of somebody else's on one line, without secrets and what does not print, cut to 300 characters."""
    printable = "".join(letter if letter.isprintable() else " " for letter in str(text)[:_LONGEST_READ])
    printable = without_secrets(printable)
    flat = " ".join(printable.split())
    return flat if len(flat) <= _LONGEST_QUOTE else f"{flat[: _LONGEST_QUOTE - 3]}..."
