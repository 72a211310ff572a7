"""Expressions in CEL, the language of the schema's rules."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final

import cel
from cel import stdlib

if TYPE_CHECKING:
    from collections.abc import Callable

_FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "join": lambda words, between: between.join(words),
    "replace": stdlib.replace,
    "split": stdlib.split,
}
"""What Kubernetes has beside the language itself, as far as our rules use it."""


def evaluated(expression: str, value: Any) -> Any:
    """What the expression makes of the value; None where it fails, which the API server counts as a refusal too."""
    try:
        return _program(expression).execute(cel.Context({"self": value}, _FUNCTIONS))
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError):
        return None


@cache
def _program(expression: str) -> cel.Program:
    return cel.compile(expression)
