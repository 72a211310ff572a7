"""The volumes of an engine: its cache, its shared memory, where its model is, and the rest as it is."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.quantity import quantity
from vllm_operator.api.spec.pod import OPERATOR_VOLUMES
from vllm_operator.cli.importing.draft import schema_at
from vllm_operator.cli.importing.paths import SOURCES, Moves, Renaming, argument_values
from vllm_operator.cli.importing.shell import shown
from vllm_operator.cli.importing.variables import CACHE_VARIABLES
from vllm_operator.cli.importing.workload import is_below
from vllm_operator.cli.schema import unknown_fields
from vllm_operator.render.environment import CACHE
from vllm_operator.render.untyped import items, part

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vllm_operator.cli.importing.parts import PodParts

_HOMES: Final = re.compile(r"(/root|/home/[^/]+|/home|/opt/app-root/src|)/\.cache(?:/(huggingface)(?:/(hub))?)?/?")

_KERNELS: Final = re.compile(
    r"(/root|/home/[^/]+)/(\.cache/(?!huggingface(/|$))|\.(triton|nv|cutlass|inductor)(/|$)).*"
)
"""Folders below a home in which Triton, torch, vLLM and CUDA keep what they have compiled."""
_CACHE_GIB: Final = "4"
"""Size of the cache of images and sounds where none is told."""
_OF_THE_SYSTEM: Final = ("/etc/", "/usr/", "/lib", "/dev/", "/sys/", "/proc/", "/run/", "/var/run/")
_FILE: Final = re.compile(r"\.[A-Za-z]+$")


class Volumes:
    """Reads the volumes of one pod, once its variables are read."""

    def __init__(self, parts: PodParts) -> None:
        self._parts = parts
        self._draft = parts.draft
        self._workload = parts.workload
        self._has_memory = False
        """Whether a size of /dev/shm is told."""
        self._written: list[str] = []
        """Folders of the node that the engine may write to."""

    def read(self) -> None:
        """Read every volume, by where it is mounted."""
        volumes = {str(volume.get("name")): dict(volume) for volume in items(self._parts.pod, "volumes")}
        for name, claim in self._workload.claims.items():
            volumes.setdefault(name, {"name": name, "claimTemplate": claim})
        if self._workload.shared_memory:
            self._shared_memory(self._workload.shared_memory)
        if self._workload.rendered:
            for volume in items(self._parts.pod, "volumes"):
                if volume.get("name") != "shm":
                    self._write_volume(dict(volume))
        for mount in items(self._parts.container, "volumeMounts"):
            self._mount(dict(mount), volumes.get(str(mount.get("name")), {"name": mount.get("name")}))
        for container in [*items(self._parts.pod, "initContainers"), *self._parts.sidecars()]:
            for mount in items(container, "volumeMounts"):
                self._write_volume(volumes.get(str(mount.get("name"))))
        self._tell()

    def _tell(self) -> None:
        """Say what no volume has told."""
        if not (self._has_memory or self._workload.rendered):
            self._memory_of_cache()
        self._tell_unreachable()
        if self._written:
            self._draft.note(
                f"{', '.join(self._written)} of the node must be writable for group 0 where the engine is to write "
                "there, since it does not run as root",
                "pod",
                "volumes",
            )
        if self._draft.certificate != ("", "") and not self._draft.get("engine", "tls"):
            told = (
                f"https with {shown(self._draft.certificate[0])}: no Secret with it is told here; set spec.engine.tls"
            )
            self._draft.lost(told, "engine")
        if self._parts.pod.get("hostIPC"):
            self._draft.note("hostIPC is left out: the engine has a /dev/shm of its own (spec.storage.sharedMemory)")

    def _tell_unreachable(self) -> None:
        """Say what the image has below /root, where only root gets at it."""
        if self._workload.rendered or not self._parts.container.get("image") or self._parts.user() is not None:
            return
        mounted = self._parts.mounted()
        for place in dict.fromkeys(self._read_only_places()):
            if place.startswith("/root/") and not any(is_below(place, path) for path in mounted):
                self._draft.check(
                    f"{shown(place)} is in the image, below /root, which only root can enter: build the image with it "
                    "elsewhere, or set spec.pod.securityContext.runAsUser: 0",
                    "pod",
                    "securityContext",
                )

    def _mount(self, mount: dict[str, Any], volume: dict[str, Any]) -> None:
        path = str(mount.get("mountPath") or "").rstrip("/") or "/"
        if path == "/dev/shm":  # noqa: S108 # the mount point that torch and NCCL use
            self._memory(volume)
            return
        if (
            self._as_certificate(path, volume)
            or self._as_cache(path, mount, volume)
            or self._as_source(path, mount, volume)
            or self._as_template(path, volume)
            or self._as_kernels(path, volume)
        ):
            return
        told = self._workload.volumes_of_machine.get(str(volume["name"]))
        if told:
            self._of_a_machine(path, told)
            return
        if "claimTemplate" in volume:
            self._claim_template(path, volume)
            return
        self._as_it_is(path, mount, volume)

    def _memory(self, volume: dict[str, Any]) -> None:
        """What is mounted at /dev/shm."""
        self._parts.renamed[str(volume["name"])] = "shm"
        limit = part(volume, "emptyDir").get("sizeLimit")
        if "emptyDir" not in volume:
            self._draft.note(
                "the mount at /dev/shm is left out: the engine has one of its own (spec.storage.sharedMemory)"
            )
        if limit:
            self._shared_memory(str(limit))

    def _as_it_is(self, path: str, mount: dict[str, Any], volume: dict[str, Any]) -> None:
        """Write a mount that no field of its own says."""
        if path.startswith("/root/") and not (self._parts.runs_as_root() or self._workload.rendered):
            path = mount["mountPath"] = Moves(self._parts).move(path)
        folder = str(part(volume, "hostPath").get("path") or "")
        if folder and self._workload.on_a_machine and not self._workload.rendered:
            self._tell_of_node(path, folder, writes=not mount.get("readOnly"))
        self._write_volume(volume)
        empty = (None,) if self._workload.rendered else (None, "", False)
        written = {key: value for key, value in mount.items() if value not in empty}
        written["name"] = self._parts.renamed.get(str(volume["name"]), str(volume["name"]))
        known = schema_at(("pod", "volumeMounts")).get("items", {})
        if list(unknown_fields(known, written)):
            self._parts.container_patch.setdefault("volumeMounts", []).append(written)
        else:
            self._draft.append(("pod", "volumeMounts"), written)

    def _tell_of_node(self, path: str, folder: str, *, writes: bool) -> None:
        """Say what a folder or file of a node needs for an engine to use it."""
        self._draft.note(
            f"{folder} has to be on every node that engines run on: a claim (pvc://CLAIM/PATH) is on all of them",
            "pod",
            "volumes",
        )
        if folder.rstrip("/") == "/root" and not self._parts.runs_as_root():
            self._draft.check("only root can enter /root of a node: mount the folders in it", "pod", "volumes")
        elif writes and self._parts.user() is None and self._is_for_writing(path, folder):
            self._written.append(folder)

    def _is_for_writing(self, path: str, folder: str) -> bool:
        """Whether an engine may want to write to a mount: no file, no folder of the system, and not only its models."""
        if folder.startswith(_OF_THE_SYSTEM) or _FILE.search(folder):
            return False
        return not any(is_below(str(text), path) for text in self._read_only_places())

    def _read_only_places(self) -> Iterator[str]:
        """Paths that an engine reads and never writes to."""
        yield from _texts([self._draft.get(*field) for field in SOURCES])
        yield str(self._draft.get("model", "chatTemplate", "path") or "")
        for adapter in self._draft.get("lora", "adapters") or ():
            yield str(adapter["source"])

    def _memory_of_cache(self) -> None:
        """Have /dev/shm hold the cache of images and sounds that is kept there, beside what it holds by default.

        vLLM keeps it there where one server serves one engine core, and once (vllm/multimodal/registry.py of 0.32.0).
        """
        given = argument_values([str(word) for word in self._draft.get("engine", "extraArgs") or []])
        counts = {self._draft.get(*field) or 1 for field in (("parallelism", "data"), ("engine", "apiServerCount"))}
        if given.get("--mm-processor-cache-type") != "shm" or counts != {1}:
            return
        try:
            cache = Decimal(given.get("--mm-processor-cache-gb", _CACHE_GIB))
        except ArithmeticError:
            return
        if cache > 0:
            self._draft.put(("storage", "sharedMemory"), f"{math.ceil(cache) + self._default_memory()}Gi")

    def _default_memory(self) -> int:
        """GiB of /dev/shm where nothing is told."""
        return 8 if self._parts.world_size() > 1 else 2

    def _shared_memory(self, size: str) -> None:
        self._has_memory = True
        try:
            same = quantity(size) == quantity(f"{self._default_memory()}Gi")
        except ArithmeticError:
            self._draft.check(f"the size of /dev/shm, {shown(size)}, is not filled in", "storage", "sharedMemory")
            return
        if not same:
            self._draft.put(("storage", "sharedMemory"), size)

    def _write_volume(self, volume: dict[str, Any] | None) -> None:
        """Have a volume in `spec.pod.volumes`, once, under a name that the operator does not use."""
        if volume is None or "claimTemplate" in volume or str(volume["name"]) in self._parts.renamed:
            return
        name = str(volume["name"])
        new = f"{name}-volume" if name in OPERATOR_VOLUMES or re.fullmatch("(claim|image)-[0-9]+", name) else name
        self._parts.renamed[name] = new
        self._draft.append(("pod", "volumes"), {**volume, "name": new})

    def _as_cache(self, path: str, mount: Mapping[str, Any], volume: Mapping[str, Any]) -> bool:
        """Whether a mount is where downloads are kept, and nothing else is looked for there."""
        found = _HOMES.fullmatch(path)
        named = any(
            one["name"] in CACHE_VARIABLES and is_below(str(one.get("value")), path) for one in self._parts.variables
        )
        if not (found or named) or self._draft.get("storage", "cache") or self._names_below(path):
            return False
        name = str(volume["name"])
        told = self._workload.volumes_of_machine.get(name)
        if mount.get("subPath") or mount.get("subPathExpr") or (mount.get("readOnly") and not told):
            return False
        shared = any(name == one.get("name") for other in self._parts.beside() for one in items(other, "volumeMounts"))
        if told or ("emptyDir" in volume and not shared):
            self._drop_cache(path, volume, told)
            return True
        claim, folder = part(volume, "persistentVolumeClaim"), part(volume, "hostPath")
        if claim:
            self._draft.put(("storage", "cache"), {"existingClaim": claim.get("claimName")})
        elif folder:
            self._draft.put(("storage", "cache"), {"hostPath": {"path": folder.get("path")}})
            self._draft.note(
                f"{folder.get('path')} of the node must be writable for group 0, since the engine does not run as root",
                "storage",
                "cache",
            )
        elif "claimTemplate" in volume:
            self._draft.put(("storage", "cache"), {"persistentVolumeClaim": _claim(volume["claimTemplate"])})
            self._tell_shared_claim()
        else:
            return False
        self._parts.renamed[name] = "cache"
        for one in self._parts.variables:
            value = str(one.get("value"))
            if one["name"] in CACHE_VARIABLES and is_below(value, path):
                one["value"] = CACHE + value[len(path) :]
        variable = {"huggingface": "HF_HOME", "hub": "HF_HUB_CACHE"}.get(
            (found[3] or found[2] or "") if found else "", ""
        )
        if variable and not any(one["name"] == variable for one in self._parts.variables):
            self._parts.variables.append({"name": variable, "value": CACHE})
        return True

    def _drop_cache(self, path: str, volume: Mapping[str, Any], told: str | None) -> None:
        """Leave a cache to the operator that nobody can take along, or that lasts no longer than its own."""
        self._parts.variables = [
            one
            for one in self._parts.variables
            if not (one["name"] in CACHE_VARIABLES and is_below(str(one.get("value")), path))
        ]
        self._parts.renamed[str(volume["name"])] = "home"
        if told:
            self._draft.note(
                f"{told} held the downloads: here they last as long as their pod, unless "
                "spec.storage.cache.persistentVolumeClaim keeps them",
                "storage",
            )
            return
        limit = part(volume, "emptyDir").get("sizeLimit")
        self._draft.put(("storage", "cache"), {"emptyDir": {"sizeLimit": limit}} if limit else None)

    def _as_kernels(self, path: str, volume: Mapping[str, Any]) -> bool:
        """Whether a mount keeps compiled kernels in a home that the engine has no longer; it makes them anew."""
        if not _KERNELS.fullmatch(path) or self._parts.runs_as_root() or self._workload.rendered:
            return False
        if "persistentVolumeClaim" in volume or "claimTemplate" in volume:
            return False
        if any(is_below(text, path) for text in _texts(self._draft.spec)):
            return False
        left = [str(one["name"]) for one in self._parts.variables if is_below(str(one.get("value")), path)]
        self._parts.variables = [one for one in self._parts.variables if str(one["name"]) not in left]
        self._parts.renamed.setdefault(str(volume["name"]), "home")
        told = f", and with it {', '.join(left)}" if left else ""
        self._draft.note(f"{path} is left out{told}: what is compiled lasts as long as its pod", "storage")
        return True

    def _names_below(self, path: str) -> bool:
        """Whether the model, or another field than a variable for caches, lies below a path."""
        values = [str(one.get("value")) for one in self._parts.variables if one["name"] not in CACHE_VARIABLES]
        return any(f"{path}/" in text or text == path for text in (*_texts(self._draft.spec), *values))

    def _as_source(self, path: str, mount: Mapping[str, Any], volume: Mapping[str, Any]) -> bool:
        """Whether a claim or an image holds the model, and nobody writes to it."""
        claim, image = part(volume, "persistentVolumeClaim").get("claimName"), part(volume, "image").get("reference")
        name = str(volume["name"])
        if not (claim or image) or any(
            name == one.get("name") for other in self._parts.beside() for one in items(other, "volumeMounts")
        ):
            return False
        model = self._draft.get("model") or {}
        places = [str(model.get("source") or ""), str(model.get("tokenizer") or "")]
        if not any(is_below(place, path) for place in places):
            return False
        if path == "/" or self._names_elsewhere(path):
            return False
        below = str(mount.get("subPath") or "").strip("/")
        for key in ("source", "tokenizer"):
            place = str(model.get(key) or "")
            if not is_below(place, path):
                continue
            rest = "/".join(step for step in (below, place[len(path) :].strip("/")) if step)
            if image and rest:
                return False
            if key == "source" and "servedNames" not in model:
                model["servedNames"] = [place]
            model[key] = f"oci://{image}" if image else f"pvc://{claim}" + (f"/{rest}" if rest else "")
        return True

    def _names_elsewhere(self, path: str) -> bool:
        """Whether something else than the model lies below a path."""
        rest = {key: value for key, value in self._draft.spec.items() if key != "model"}
        model = {
            key: value
            for key, value in self._draft.get("model").items()
            if key not in {"source", "tokenizer", "servedNames"}
        }
        values = [str(variable.get("value")) for variable in self._parts.variables]
        return any(path in text for text in (str(rest), str(model), *values))

    def _as_template(self, path: str, volume: Mapping[str, Any]) -> bool:
        """Whether a ConfigMap holds the chat template, and nothing else is mounted of it."""
        template = str((self._draft.get("model", "chatTemplate") or {}).get("path") or "")
        source = part(volume, "configMap")
        if not source or not template.startswith(f"{path}/"):
            return False
        key = template[len(path) + 1 :]
        for item in items(source, "items"):
            if item.get("path") == key:
                key = str(item.get("key"))
        if "/" in key:
            return False
        self._draft.spec["model"]["chatTemplate"] = {"configMapKeyRef": {"name": source.get("name"), "key": key}}
        return True

    def _as_certificate(self, path: str, volume: Mapping[str, Any]) -> bool:
        """Whether a Secret holds the certificate of the server, under the names that such Secrets have."""
        source = part(volume, "secret")
        if not source or self._draft.certificate != (f"{path}/tls.crt", f"{path}/tls.key"):
            return False
        self._draft.put(("engine", "tls"), {"secretName": source.get("secretName")})
        return True

    def _of_a_machine(self, path: str, told: str) -> None:
        source = str(self._draft.get("model", "source") or "")
        if is_below(source, path):
            self._draft.check(
                f"the model lay in {told}: bring it into the cluster, as pvc://CLAIM/PATH, oci://IMAGE or s3://BUCKET/PATH",
                "model",
                "source",
            )
        elif self._is_named(path):
            self._draft.check(
                f"{told}, mounted at {path}, is on one machine only: bring it into spec.pod.volumes", "pod"
            )
        else:
            self._draft.note(
                f"{told}, mounted at {path}, is left out: it is on one machine only, and nothing that the engine is "
                "told names it",
                "pod",
            )

    def _is_named(self, path: str) -> bool:
        """Whether an argument or a variable names a place below a path."""
        values = [str(one.get("value")) for one in self._parts.variables]
        return any(path in text for text in (*_texts(self._draft.spec), *values, *self._draft.named))

    def _claim_template(self, path: str, volume: Mapping[str, Any]) -> None:
        if self._draft.get("storage", "cache"):
            self._draft.lost(
                f"a claim of each pod's own, mounted at {path}: engines share their claims", "pod", "volumes"
            )
            return
        self._draft.put(("storage", "cache"), {"persistentVolumeClaim": _claim(volume["claimTemplate"])})
        self._parts.renamed[str(volume["name"])] = "cache"
        self._tell_shared_claim()
        moved = Renaming(path, CACHE)
        self._parts.variables = moved.of_variables(self._parts.variables)
        source = str(self._draft.get("model", "source") or "")
        if is_below(source, path) and self._is_filled(str(volume["name"])):
            self._draft.put(("model", "source"), moved.of(source))
            self._draft.put(("model", "servedNames"), self._draft.get("model", "servedNames") or [source])
            self._draft.note(
                f"{path} of the engine is {CACHE}, where its claim is; the init container fills it", "model", "source"
            )
        elif is_below(source, path):
            self._draft.check(
                f"the model lay in a claim that is made for the pods, mounted at {path}: name a claim that holds it, as pvc://CLAIM/PATH",
                "model",
                "source",
            )

    def _is_filled(self, name: str) -> bool:
        """Whether an init container writes into a volume before the engine starts."""
        mounts = (one for init in items(self._parts.pod, "initContainers") for one in items(init, "volumeMounts"))
        return any(one.get("name") == name and not one.get("readOnly") for one in mounts)

    def _tell_shared_claim(self) -> None:
        if not self._workload.shares_claims:
            self._draft.note("each pod had a claim of its own: now the engines share one", "storage", "cache")


def _texts(value: Any) -> Iterator[str]:
    """Every text in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


def _claim(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A claim that the operator makes, as another one asked for it."""
    size = part(spec, "resources", "requests").get("storage")
    claim = {
        "size": str(size),
        "storageClassName": spec.get("storageClassName"),
        "accessModes": spec.get("accessModes") if spec.get("accessModes") != ["ReadWriteOnce"] else None,
    }
    return {key: value for key, value in claim.items() if value}
