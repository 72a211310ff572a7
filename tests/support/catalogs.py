"""The catalogue of so few models that one ConfigMap has room for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vllm_operator.render import catalog as rendered

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from vllm_operator.api.live import LiveObject


def catalog(
    namespace: str, models: Iterable[LiveObject | Mapping[str, Any]], *live: Mapping[str, Any]
) -> dict[str, Any]:
    """Its only part. `live` are the parts that are there."""
    (found,) = rendered.catalog(namespace, models, live)
    return found
