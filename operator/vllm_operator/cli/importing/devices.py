"""The devices of a pod: which profile they are of, and how many the engine gets."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.quantity import quantity
from vllm_operator.api.spec.profiles import PROFILES
from vllm_operator.cli.importing.shell import shown
from vllm_operator.render.untyped import items, part

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vllm_operator.cli.importing.draft import Draft
    from vllm_operator.cli.importing.parts import PodParts

_KINDS: Final = {
    "nvidia.com/gpu": "nvidia",
    "nvidia.com/mig-": "nvidia",
    "amd.com/": "amd",
    "gpu.intel.com/": "xpu",
    "aws.amazon.com/neuron": "neuron",
    "huawei.com/": "ascend",
}
"""What the names of the devices' resources begin with, by the profiles; not every version has a profile for each."""

_IMAGE_PROFILES: Final = (
    ("rocm", "amd"),
    ("cpu", "cpu"),
    ("gaudi", "gaudi"),
    ("hpu", "gaudi"),
    ("habana", "gaudi"),
    ("tpu", "tpu"),
    *((name, name) for name in ("xpu", "ascend", "neuron")),
    ("intel", "xpu"),
)
"""Words in the names of images, and the profile that they tell: the first that stands there."""

_CUDA_IMAGE: Final = "vllm-openai"
"""Last part of the name of vLLM's own image for NVIDIA."""

_VARIABLE_PROFILES: Final = (
    *((start, "gaudi") for start in ("PT_HPU_", "HABANA_")),
    *((start, "ascend") for start in ("HCCL_", "ASCEND_", "VLLM_ASCEND_")),
    *((start, "amd") for start in ("VLLM_ROCM_", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")),
    *((start, "xpu") for start in ("ONEAPI_DEVICE_SELECTOR", "ZE_AFFINITY_MASK", "ZES_ENABLE_SYSMAN")),
    *((start, "neuron") for start in ("NEURON_RT_", "NEURON_CC_")),
)
"""What the names of variables begin with that only one kind of device has; Gaudi's HCCL comes with its others."""

_VISIBLE: Final = ("NVIDIA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")
_UTILIZATION: Final = 0.9
"""Share of its devices' memory that vLLM takes where nothing else is told."""


class Devices:
    """Reads the devices of one pod."""

    def __init__(self, parts: PodParts) -> None:
        self._parts = parts
        self._draft = parts.draft
        self._workload = parts.workload

    def read(self) -> None:
        """Kind and number of the devices."""
        limits = {
            **part(self._parts.container, "resources", "requests"),
            **part(self._parts.container, "resources", "limits"),
        }
        profile, resource = self._profile(limits)
        self._draft.put(("accelerator", "profile"), profile)
        claims = self._claims()
        self._draft.put(("accelerator", "resourceClaims"), claims)
        profile = self._draft.get("accelerator", "profile") or "nvidia"
        image = self._draft.get("engine", "image")
        if image == PROFILES[profile].image:
            del self._draft.spec["engine"]["image"]
            if not self._draft.spec["engine"]:
                del self._draft.spec["engine"]
        if self._workload.on_a_machine and not self._workload.rendered and profile != "cpu":
            self._draft.devices = self._devices_of_machine()
        if claims:
            return
        count = self._counted(limits.get(resource)) if resource else self._workload.devices
        size = self._parts.world_size()
        if resource and resource != PROFILES[profile].resource:
            self._draft.put(("accelerator", "resource"), resource)
            if count is not None and count != size:
                self._draft.put(("accelerator", "count"), count)
        elif not getattr(PROFILES[profile], "counted_as_processes", True):
            counted = 0 if count is None and not self._workload.on_a_machine else count
            self._draft.put(("accelerator", "count"), None if counted in {None, size} else counted)
        elif profile != "cpu":
            self._count(count, size, resource)

    def _devices_of_machine(self) -> frozenset[str]:
        """The devices of its machine that the engine used: the first ones of those that it saw."""
        seen = self._workload.device_ids
        given = {str(one.get("name")): str(one.get("value")) for one in items(self._parts.container, "env")}
        for name in _VISIBLE:
            chosen = [one.strip() for one in given.get(name, "all").split(",")]
            if chosen == ["all"] or not all(chosen):
                continue
            inside = seen is not None and all(one.isdigit() and int(one) < len(seen) for one in chosen)
            seen = [seen[int(one)] for one in chosen] if seen is not None and inside else chosen
        size = self._parts.world_size()
        return frozenset([str(number) for number in range(size)] if seen is None else seen[:size])

    def _claims(self) -> list[dict[str, Any]]:
        """The claims whose devices the engine's container gets, as the field has them."""
        named = {one.get("name"): one for one in items(self._parts.pod, "resourceClaims")}
        used = items(part(self._parts.container, "resources"), "claims")
        return [{**named[one["name"]], **one} for one in used if one.get("name") in named]

    def _count(self, count: int | None, size: int, resource: str) -> None:
        workload = self._workload
        if count == 0 and workload.rendered:
            self._draft.spec.setdefault("accelerator", {})["count"] = 0
            return
        if count is None:
            if not workload.on_a_machine and not resource:
                self._draft.spec.setdefault("accelerator", {})["count"] = 0
                if not workload.rendered:
                    self._draft.note(
                        "the pod asks for no device, so spec.accelerator.count is 0: leave it out, and the engine gets "
                        f"{size} of {PROFILES['nvidia'].resource}",
                        "accelerator",
                        "count",
                    )
            return
        if count > size and not workload.on_a_machine:
            self._draft.check(
                f"the pod asks for {count} devices, and the engine uses {size} (tensor x pipeline x data): "
                "spec.parallelism says how many it gets",
                "parallelism",
            )
        elif count < size and not workload.rendered:
            self._draft.check(
                f"the engine wants {size} devices (tensor x pipeline x data) and had {count}: it gets {size}",
                "parallelism",
            )

    def _counted(self, value: Any) -> int | None:
        try:
            return int(quantity(str(value)))
        except ArithmeticError:
            self._draft.check(f"the number of devices {shown(str(value))} is not filled in", "parallelism")
            return None

    def _profile(self, limits: Mapping[str, Any]) -> tuple[str, str]:
        """The profile, and the extended resource that the devices are."""
        for name in filter(is_device, limits):
            return self._profile_of(name), name
        known = {str(variable.get("name")) for variable in items(self._parts.container, "env")}
        if "VLLM_CPU_KVCACHE_SPACE" in known:
            return "cpu", ""
        given = self._draft.get("accelerator", "profile") or self._workload.profile
        image = profile_of_image(str(self._parts.container.get("image") or ""))
        return given or image or self._profile_of_settings(known), ""

    def _profile_of_settings(self, variables: set[str]) -> str:
        """The profile that variables or arguments tell which only one kind of device has."""
        if self._workload.rendered:
            return "nvidia"
        if self._draft.get("engine", "quantization") in PROFILES:
            return str(self._draft.get("engine", "quantization"))
        told = (kind for start, kind in _VARIABLE_PROFILES if any(name.startswith(start) for name in variables))
        return next(told, "nvidia")

    def _profile_of(self, resource: str) -> str:
        """The profile of devices of an extended resource."""
        own = {profile.resource: name for name, profile in PROFILES.items() if profile.resource}
        kind = own.get(resource) or next(kind for prefix, kind in _KINDS.items() if resource.startswith(prefix))
        if kind in PROFILES:
            return kind
        told = f"{resource}: no profile is for such devices: the image has to be one for {kind}"
        self._draft.check(told, "accelerator")
        return "nvidia"


def asked_of(template: Mapping[str, Any], devices: int) -> dict[str, Any]:
    """What a ResourceClaimTemplate that the operator has made asks for, as fields of `DeviceClaim`.

    Args:
        template: It has one request, for an exact count of devices of one class.
        devices: How many are asked for where the field says nothing.
    """
    (request,) = items(template, "spec", "spec", "devices", "requests")
    asked = part(request, "exactly")
    selectors = [part(one, "cel")["expression"] for one in items(asked, "selectors")]
    return {
        "deviceClassName": asked["deviceClassName"],
        **({"count": asked["count"]} if asked["count"] != devices else {}),
        **({"selectors": selectors} if selectors else {}),
    }


def profile_of_image(image: str) -> str:
    """The profile that the name of an image tells; empty where it tells none."""
    words = set(re.split(r"[^a-z0-9]+", image.lower()))
    cuda = "nvidia" if image.partition("@")[0].rpartition("/")[2].partition(":")[0] == _CUDA_IMAGE else ""
    return next((profile for word, profile in _IMAGE_PROFILES if word in words), cuda)


def tell_shared(drafts: Sequence[Draft]) -> None:
    """Say of engines that shared a device that each takes one of its own now.

    Engines that would not fit side by side on it ran at different times.
    """
    for draft in drafts:
        others = [
            one
            for one in drafts
            if one is not draft and one.devices & draft.devices and _utilization(one) + _utilization(draft) <= 1
        ]
        if others:
            shared = sorted({device for one in others for device in one.devices & draft.devices})
            names = ", ".join(dict.fromkeys(one.name for one in others))
            draft.note(
                f"it shared the device {', '.join(shared)} with {names}: each engine takes a device of its own now",
                "engine",
                "gpuMemoryUtilization",
            )


def _utilization(draft: Draft) -> float:
    return float(draft.get("engine", "gpuMemoryUtilization") or _UTILIZATION)


def is_device(name: str) -> bool:
    """Whether a resource of a container is a device."""
    known = {profile.resource for profile in PROFILES.values()}
    return name in known or name.startswith(tuple(_KINDS))
