"""Which GPU a spec asks for."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_operator.api.spec import parse_spec
from vllm_operator.fit.accelerator import card_for, card_of_product


def named(**spec: Any) -> str | None:
    """The name of the card of a spec."""
    card = card_for(parse_spec({"model": {"source": "org/model"}, **spec}))
    return card.name if card else None


@pytest.mark.parametrize(
    ("product", "card"),
    [
        ("NVIDIA-A100-SXM4-80GB", "A100 80GB"),
        ("NVIDIA-A100-PCIE-40GB", "A100 40GB"),
        ("NVIDIA-A10", "A10"),
        ("NVIDIA-L4", "L4"),
        ("NVIDIA-L40S", "L40S"),
        ("NVIDIA-H100-80GB-HBM3", "H100"),
        ("NVIDIA-H200", "H200"),
        ("NVIDIA-B200", "B200"),
        ("NVIDIA-GeForce-RTX-4090", "RTX 4090"),
        ("AMD_Instinct_MI300X_OAM", "MI300X"),
        ("nvidia-h100-mega-80gb", "H100"),
        ("nvidia-l4", "L4"),
        ("l4", "L4"),
        ("a10g", None),
        ("nvidia-tesla-a100", None),
        ("NVIDIA-H100-NVL", None),
        ("NVIDIA-A100-SXM4-80GB-MIG-1g.10gb", None),
        ("NVIDIA-L4-SHARED", None),
        ("Tesla-T4", None),
        ("", None),
    ],
)
def test_products_are_known_by_the_names_that_nodes_have(product: str, card: str | None) -> None:
    found = card_of_product(product)
    assert (found.name if found else None) == card


def test_the_memory_counts_before_the_nodes_and_neither_on_cpu() -> None:
    nodes = {"nodeSelector": {"other": "a", "nvidia.com/gpu.product": "NVIDIA-L4"}}
    assert named() is None
    assert named(scheduling=nodes) == "L4"
    assert named(scheduling=nodes, accelerator={"memory": "21.9Gi"}) == "21.9 GiB"
    assert named(scheduling={"nodeSelector": {"nvidia.com/gpu.product": "Tesla-T4"}}) is None
    assert named(scheduling=nodes, accelerator={"profile": "cpu"}) is None
