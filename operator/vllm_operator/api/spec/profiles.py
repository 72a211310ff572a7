"""What each kind of device needs: an image, the name of its resource, settings of the pod and of the engine.

Images and settings are those of vLLM's own documentation (installation and Kubernetes pages of 0.32.0), of the
Gaudi plug-in's and of the device plug-ins'. Only `nvidia` and `cpu` come with all that their images need by themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

VLLM_VERSION: Final = "v0.32.0"

_VIDEO_GROUP: Final = 44
"""Owns the devices of AMD on Debian and its relatives."""


@dataclass(frozen=True, slots=True)
class DeviceProfile:
    """One kind of device."""

    image: str
    """Empty where nobody publishes one."""
    resource: str
    """Extended resource that its device plug-in offers; empty where there are no devices."""
    environment: tuple[tuple[str, str], ...] = ()
    """Variables that the engine needs on it."""
    groups: tuple[int, ...] = ()
    """Groups that own the devices."""
    seccomp: str = "RuntimeDefault"


PROFILES: Final[Mapping[str, DeviceProfile]] = MappingProxyType(
    {
        "nvidia": DeviceProfile(f"vllm/vllm-openai:{VLLM_VERSION}", "nvidia.com/gpu"),
        "amd": DeviceProfile(
            f"vllm/vllm-openai-rocm:{VLLM_VERSION}", "amd.com/gpu", groups=(_VIDEO_GROUP,), seccomp="Unconfined"
        ),
        "gaudi": DeviceProfile(
            "", "habana.ai/gaudi", environment=(("OMPI_MCA_btl_vader_single_copy_mechanism", "none"),)
        ),
        "tpu": DeviceProfile(f"vllm/vllm-tpu:{VLLM_VERSION}", "google.com/tpu"),
        "cpu": DeviceProfile(f"vllm/vllm-openai-cpu:{VLLM_VERSION}-x86_64", ""),
    }
)
