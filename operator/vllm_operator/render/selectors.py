"""Does a label selector select these labels? As the API server has it; what is no selector of its kind selects less."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vllm_operator.render.untyped import items, part, words

if TYPE_CHECKING:
    from collections.abc import Mapping


def selects(selector: Mapping[str, Any], labels: Mapping[str, Any]) -> bool:
    """Whether a selector is met. An empty one is met by everything; of one that is missing, the caller knows more."""
    wanted = part(selector, "matchLabels").items()
    return all(labels.get(key) == value for key, value in wanted) and all(
        _meets(requirement, labels) for requirement in items(selector, "matchExpressions")
    )


def _meets(requirement: Mapping[str, Any], labels: Mapping[str, Any]) -> bool:
    value, values = labels.get(str(requirement.get("key"))), words(requirement, "values")
    match requirement.get("operator"):
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case _:
            return value is None
