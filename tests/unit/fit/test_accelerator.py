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
        ("NVIDIA-A100-SXM4-80GB-MIG-1g.10gb", "MIG 1g.10gb"),
        ("NVIDIA-L4-SHARED", None),
        ("Tesla-T4", None),
        ("", None),
    ],
)
def test_products_are_known_by_the_names_that_nodes_have(product: str, card: str | None) -> None:
    found = card_of_product(product)
    assert (found.name if found else None) == card


@pytest.mark.parametrize(
    ("resource", "card", "gib"),
    [
        ("nvidia.com/mig-1g.10gb", "MIG 1g.10gb", 9.5),
        ("nvidia.com/mig-1g.18gb", "MIG 1g.18gb", 16.0),
        ("nvidia.com/mig-1g.10gb.me", "MIG 1g.10gb", 9.5),
        ("nvidia.com/mig-3g.71gb", "MIG 3g.71gb", 71 * 0.86),
    ],
)
def test_a_slice_of_a_gpu_has_the_memory_of_its_profile(resource: str, card: str, gib: float) -> None:
    found = card_for(parse_spec({"model": {"source": "org/model"}, "accelerator": {"resource": resource}}))
    assert found is not None
    assert (found.name, found.memory_bytes) == (card, int(gib * 2**30))


def test_a_slice_is_known_by_the_selector_of_a_claim_and_the_users_word_counts_before() -> None:
    profile = "device.attributes['gpu.nvidia.com'].profile == '3g.40gb'"
    claim = {"name": "gpu", "deviceClassName": "mig.nvidia.com", "selectors": [profile]}
    assert named(accelerator={"resourceClaims": [claim]}) == "MIG 3g.40gb"
    assert named(accelerator={"resourceClaims": [claim], "memory": "38Gi"}) == "38 GiB"
    assert named(accelerator={"resource": "nvidia.com/gpu.shared"}) is None


def test_the_memory_counts_before_the_nodes_and_neither_on_cpu() -> None:
    nodes = {"nodeSelector": {"other": "a", "nvidia.com/gpu.product": "NVIDIA-L4"}}
    assert named() is None
    assert named(scheduling=nodes) == "L4"
    assert named(scheduling=nodes, accelerator={"memory": "21.9Gi"}) == "21.9 GiB"
    assert named(scheduling={"nodeSelector": {"nvidia.com/gpu.product": "Tesla-T4"}}) is None
    assert named(scheduling=nodes, accelerator={"profile": "cpu"}) is None
