"""The ControllerRevision that remembers which pod template a spec was given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vllm_operator.api import revisions
from vllm_operator.render.objects import child

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.api.resource import VLLMModel


def revision(
    model: VLLMModel, name: str, data: Mapping[str, Any], number: int, annotations: Mapping[str, str]
) -> dict[str, Any]:
    """The object; empty annotations are left out."""
    return child(
        model,
        api_version=revisions.API_VERSION,
        kind=revisions.KIND,
        name=name,
        component=revisions.COMPONENT,
        annotations={key: text for key, text in annotations.items() if text},
        revision=number,
        data=data,
    )
