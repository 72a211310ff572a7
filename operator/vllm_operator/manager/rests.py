"""Why an engine has no traffic though nothing is wrong with it: it sleeps, is paused, or is scaled. Pure."""

from __future__ import annotations

from .evidence import SCALING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .evidence import Look


def _asleep(look: Look) -> bool:
    return any(rank.asleep for rank in (look.ranks or {}).values())


RESTS = (
    ("Asleep", _asleep, "asleep until it is woken up", "awake again, and has not completed a prompt since then"),
    (
        "Paused",
        lambda look: look.paused,
        "paused until it is resumed",
        "resumed, and has not completed a prompt since then",
    ),
    (
        "Scaling",
        lambda look: look.server == SCALING,
        "ranks are being added or removed",
        "scaled, and has not completed a prompt since then",
    ),
)
"""Why an engine has no traffic though nothing is wrong with it: cause, how a look shows it, what is told, and what is
told afterwards, until it has completed a prompt."""

BACK = "listens again, and has not completed a prompt since then"
"""The same for a server that had ended and listens again in the same container."""
