"""What each kind of device needs: an image, the name of its resource, settings of the pod and of the engine."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

VLLM_VERSION: Final = "v0.32.0"


@dataclass(frozen=True, slots=True)
class DeviceProfile:
    """One kind of device."""

    image: str
    resource: str
    """Extended resource that its device plug-in offers; empty where there are no devices."""
    environment: tuple[tuple[str, str], ...] = ()
    """Variables that the engine needs on it."""


PROFILES: Final[Mapping[str, DeviceProfile]] = MappingProxyType(
    {
        "nvidia": DeviceProfile(f"vllm/vllm-openai:{VLLM_VERSION}", "nvidia.com/gpu"),
        "amd": DeviceProfile(f"vllm/vllm-openai-rocm:{VLLM_VERSION}", "amd.com/gpu"),
        "gaudi": DeviceProfile(
            "?",
            "habana.ai/gaudi",
            (("OMPI_MCA_btl_vader_single_copy_mechanism", "none"), ("HABANA_VISIBLE_DEVICES", "all")),
        ),
        "tpu": DeviceProfile(f"vllm/vllm-tpu:{VLLM_VERSION}", "google.com/tpu"),
        "cpu": DeviceProfile(f"vllm/vllm-openai-cpu:{VLLM_VERSION}-x86_64", ""),
    }
)
