"""The devices of a pod: which profile they are of, and how many the engine gets."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.quantity import quantity
from vllm_operator.api.spec.profiles import PROFILES
from vllm_operator.cli.importing.shell import shown
from vllm_operator.render.untyped import items, part

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    *((name, name) for name in ("xpu", "ascend", "neuron") if name in PROFILES),
)


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
        image = set(re.split(r"[^a-z0-9]+", str(self._parts.container.get("image") or "").lower()))
        known = {str(variable.get("name")) for variable in items(self._parts.container, "env")}
        if "VLLM_CPU_KVCACHE_SPACE" in known:
            return "cpu", ""
        given = self._draft.get("accelerator", "profile") or self._workload.profile
        return given or next((profile for word, profile in _IMAGE_PROFILES if word in image), "nvidia"), ""

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


def is_device(name: str) -> bool:
    """Whether a resource of a container is a device."""
    known = {profile.resource for profile in PROFILES.values()}
    return name in known or name.startswith(tuple(_KINDS))
