"""Which GPU a spec asks for: by the memory that it names, or by the nodes that it wants."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from vllm_operator.fit.cards import CARDS, card_of
from vllm_operator.fit.mig import slice_in, slice_named
from vllm_operator.fit.settings import memory_of

if TYPE_CHECKING:
    from vllm_operator.api.spec import VLLMModelSpec
    from vllm_operator.fit.cards import Card

PRODUCT_LABELS: Final = (
    "nvidia.com/gpu.product",
    "amd.com/gpu.product-name",
    "cloud.google.com/gke-accelerator",
    "karpenter.k8s.aws/instance-gpu-name",
)
"""Labels of nodes whose values name a GPU: of NVIDIA's and AMD's discovery, of GKE and of Karpenter on AWS."""

_PARTS: Final = frozenset({"mig", "shared", "nvl"})
"""Words of a product that has another memory than the card of that name: a part of it, or another card."""

_SLICED: Final = re.compile(r"-mig-([1-7]g\.[0-9]{1,3}gb)$")
"""How a product ends whose GPUs are all cut into slices of one kind (NVIDIA's strategy `single`)."""

_CPU: Final = "cpu"


def card_for(spec: VLLMModelSpec) -> Card | None:
    """The GPU of a spec; None where it does not say which.

    `spec.accelerator.memory` counts, then the slice of a GPU that the resource or the selectors of a claim name
    (`nvidia.com/mig-1g.10gb`), and else the product in `spec.scheduling.nodeSelector`, where it is a common card.
    """
    if spec.accelerator.profile == _CPU:
        return None
    memory = memory_of(spec)
    return (slice_of(spec) or _selected(spec)) if memory is None else card_of(memory)


def slice_of(spec: VLLMModelSpec) -> Card | None:
    """The slice of a GPU (MIG) that a spec asks for by name; None where it names none."""
    claims = spec.accelerator.resource_claims or []
    return slice_in([spec.accelerator.resource or "", *(one for claim in claims for one in claim.selectors or [])])


def _selected(spec: VLLMModelSpec) -> Card | None:
    selector = spec.scheduling.node_selector or {}
    products = (selector[label] for label in PRODUCT_LABELS if label in selector)
    return next((card for product in products if (card := card_of_product(product)) is not None), None)


def card_of_product(product: str) -> Card | None:
    """The common card whose words are all in a product's name, such as NVIDIA-A100-SXM4-80GB; None if there is none.

    A name that leaves the size out of which there are several, such as nvidia-tesla-a100, is none.
    """
    sliced = _SLICED.search(product.lower())
    if sliced:
        return slice_named(sliced[1])
    words = set(re.split(r"[^a-z0-9]+", product.lower()))
    if words & _PARTS:
        return None
    return next((card for card in CARDS if set(card.name.lower().split()) <= words), None)
