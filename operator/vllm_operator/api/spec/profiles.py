"""What each kind of device needs: an image, the name of its resource, settings of the pod and of the engine.

Images and settings are those of vLLM's own documentation (installation and Kubernetes pages of 0.32.0), of the
documentation of its plug-ins for Gaudi, Ascend and Neuron, and of the device plug-ins'. Only `nvidia` and `cpu` come
with all that their images need by themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

VLLM_VERSION: Final = "v0.32.0"

_ASCEND_VERSION: Final = "v0.23.0"
"""Of the plug-in for Ascend, which follows vLLM's releases some time later; the image is that of the A2 series."""

_VIDEO_GROUP: Final = 44
"""Owns the devices of AMD and Intel on Debian and its relatives."""


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
    no_image: str = ""
    """Why there is no image, and what to do; empty where there is one."""
    counted_as_processes: bool = True
    """Whether its device plug-in counts what one process of an engine takes."""
    spans_nodes: bool = True
    """Whether vLLM spreads an engine over nodes by itself there (`--nnodes`): its own workers do, while plug-ins and
    TPUs want Ray (vllm/config/parallel.py of 0.32.0)."""


PROFILES: Final[Mapping[str, DeviceProfile]] = MappingProxyType(
    {
        "nvidia": DeviceProfile(f"vllm/vllm-openai:{VLLM_VERSION}", "nvidia.com/gpu"),
        "amd": DeviceProfile(
            f"vllm/vllm-openai-rocm:{VLLM_VERSION}", "amd.com/gpu", groups=(_VIDEO_GROUP,), seccomp="Unconfined"
        ),
        "gaudi": DeviceProfile(
            "",
            "habana.ai/gaudi",
            environment=(("OMPI_MCA_btl_vader_single_copy_mechanism", "none"),),
            no_image="nobody publishes an image of vLLM for it; build one as the vllm-gaudi plug-in says",
            spans_nodes=False,
        ),
        "tpu": DeviceProfile(
            f"vllm/vllm-tpu:{VLLM_VERSION}", "google.com/tpu", counted_as_processes=False, spans_nodes=False
        ),
        "xpu": DeviceProfile(f"vllm/vllm-openai-xpu:{VLLM_VERSION}", "gpu.intel.com/xe", groups=(_VIDEO_GROUP,)),
        "ascend": DeviceProfile(
            f"quay.io/ascend/vllm-ascend:{_ASCEND_VERSION}", "huawei.com/Ascend910", spans_nodes=False
        ),
        "neuron": DeviceProfile(
            "",
            "aws.amazon.com/neuroncore",
            no_image="its images have the version of the Neuron SDK in their names; choose one in AWS's list of Deep "
            "Learning Containers",
            counted_as_processes=False,
            spans_nodes=False,
        ),
        "other": DeviceProfile("", "", no_image="name one that is made for the devices", counted_as_processes=False),
        "cpu": DeviceProfile(f"vllm/vllm-openai-cpu:{VLLM_VERSION}-x86_64", ""),
    }
)
