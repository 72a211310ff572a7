"""A pod that serves a model, read into a draft: environment, volumes, devices, placing, rights."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.quantity import quantity
from vllm_operator.api.spec.pod import OPERATOR_LABELS, OPERATOR_VOLUMES
from vllm_operator.api.spec.profiles import PROFILES
from vllm_operator.cli.importing.draft import schema_at, spec_schema
from vllm_operator.cli.importing.secrets import HUB_VARIABLES, KEY_VARIABLE, is_secret, new_secret
from vllm_operator.cli.importing.shell import mark, shown, variables_in
from vllm_operator.cli.schema import faults, unknown_fields
from vllm_operator.render.environment import CACHE, HOME
from vllm_operator.render.images import pull_policy
from vllm_operator.render.pod import CONTAINER_NAME
from vllm_operator.render.untyped import items, part

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from vllm_operator.cli.importing.draft import Draft
    from vllm_operator.cli.importing.secrets import Vault
    from vllm_operator.cli.importing.workload import Workload

_REFERENCE: Final = re.compile(r"\$(\$|\(([^)]*)\))")
_OTHER_PROFILES: Final = {"gpu.intel.com/": "xpu", "aws.amazon.com/neuron": "neuron", "huawei.com/": "ascend"}
_IMAGE_PROFILES: Final = (
    ("rocm", "amd"),
    ("cpu", "cpu"),
    ("gaudi", "gaudi"),
    ("hpu", "gaudi"),
    ("habana", "gaudi"),
    ("tpu", "tpu"),
)
_CHOSEN_DEVICES: Final = frozenset(
    {"CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"}
    | {"NVIDIA_DRIVER_CAPABILITIES", "CUDA_DEVICE_ORDER", "HABANA_VISIBLE_DEVICES"}
)
_CACHE_VARIABLES: Final = frozenset(
    {"HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_CACHE", "XDG_CACHE_HOME", "VLLM_CACHE_ROOT"}
    | {"TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "VLLM_ASSETS_CACHE", "TORCH_HOME", "VLLM_CONFIG_ROOT"}
)
_LOG_LEVELS: Final = frozenset({"DEBUG", "INFO", "WARNING", "ERROR"})
_LABELS_OF_TOOLS: Final = ("pod-template-hash", "helm.sh/", "helm-release-name", "heritage", "release", "chart")
_ANNOTATIONS_OF_TOOLS: Final = ("kubectl.kubernetes.io/", "checksum/", "deployment.kubernetes.io/")
_HOMES: Final = re.compile(r"(/root|/home/[^/]+|/home|/opt/app-root/src|)/\.cache(?:/(huggingface)(?:/(hub))?)?/?")
_SCHEDULING: Final = (
    *("nodeSelector", "tolerations", "affinity", "topologySpreadConstraints"),
    *("priorityClassName", "runtimeClassName", "schedulerName"),
)
_LEAST_GRACE_SECONDS: Final = 45
"""What the operator's own pauses take: 5 to leave the Services, 30 to finish requests, 10 to exit."""

_LONGEST_WHOLE: Final = 6
"""Digits of a quantity that people write as a number: of cores, and not of bytes."""

_DEFAULT_BUDGET_SECONDS: Final = 3600


def plain_variables(workload: Workload) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """Variables whose values are known here, and where the others come from, as in `valueFrom`."""
    known: dict[str, str] = {}
    elsewhere: dict[str, dict[str, Any]] = {}
    for source in items(workload.container, "envFrom"):
        data = workload.config_maps.get(str(part(source, "configMapRef").get("name")), {})
        known |= {f"{source.get('prefix') or ''}{name}": str(value) for name, value in data.items()}
    for variable in items(workload.container, "env"):
        name, origin = str(variable.get("name")), part(variable, "valueFrom")
        reference = part(origin, "configMapKeyRef")
        data = workload.config_maps.get(str(reference.get("name")), {})
        if reference and reference.get("key") in data:
            known[name] = str(data[reference["key"]])
        elif origin:
            elsewhere[name] = dict(origin)
            known.pop(name, None)
        else:
            known[name] = expanded(str(variable.get("value") or ""), known)
    return known, elsewhere


def expanded(text: str, known: Mapping[str, str]) -> str:
    """A text as kubelet makes it: `$(NAME)` filled in, or marked where nobody here knows the value."""

    def value(found: re.Match[str]) -> str:
        if found[1] == "$":
            return "$"
        return known.get(found[2], mark(f"({found[2]}"))

    return _REFERENCE.sub(value, text)


class PodReader:
    """Reads one pod into a draft."""

    def __init__(self, workload: Workload, draft: Draft, vault: Vault) -> None:
        self._workload = workload
        self._draft = draft
        self._vault = vault
        self._pod: dict[str, Any] = workload.template.get("spec") or {}
        self._container = workload.container
        self._patch: dict[str, Any] = {}
        self._container_patch: dict[str, Any] = {}
        self._renamed: dict[str, str] = {}
        self._written: set[str] = set()
        self._variables: list[dict[str, Any]] = []

    def read(self) -> None:
        """Read everything but the server's arguments, which are in the draft already."""
        self._image()
        self._accelerator()
        self._environment()
        self._volumes()
        self._resources()
        self._metadata()
        self._placing()
        self._lifecycle()
        self._rights()
        self._others()
        self._left_over()
        self._draft.put(("engine", "env"), self._variables)
        self._draft.put(("pod", "patch"), self._whole_patch())

    # the engine

    def _image(self) -> None:
        image = str(self._container.get("image") or "")
        if variables_in(image):
            self._draft.check(f"the image {shown(image)}: nobody has filled in its variables", "engine", "image")
            image = ""
        elif "${" in image or " " in image or "{{" in image:
            self._draft.check(f"the image {image} is a template of another tool", "engine", "image")
            image = ""
        profile = self._draft.get("accelerator", "profile") or "nvidia"
        if image != PROFILES[profile].image or not self._workload.rendered:
            self._draft.put(("engine", "image"), image)
        policy = self._container.get("imagePullPolicy")
        if policy and image and (policy != pull_policy(image) or self._workload.on_a_machine):
            self._draft.put(("engine", "imagePullPolicy"), policy)

    def _accelerator(self) -> None:
        """Kind and number of the devices."""
        limits = {**part(self._container, "resources", "requests"), **part(self._container, "resources", "limits")}
        profile, resource = self._profile(limits)
        self._draft.put(("accelerator", "profile"), profile)
        profile = self._draft.get("accelerator", "profile") or "nvidia"
        image = self._draft.get("engine", "image")
        if image == PROFILES[profile].image:
            del self._draft.spec["engine"]["image"]
            if not self._draft.spec["engine"]:
                del self._draft.spec["engine"]
        count = self._counted(limits.get(resource)) if resource else self._workload.devices
        size = self._world_size()
        if resource and resource != PROFILES[profile].resource:
            self._draft.put(("accelerator", "resource"), resource)
            if count is not None and count != size:
                self._draft.put(("accelerator", "count"), count)
        elif profile != "cpu":
            self._count(count, size, resource)

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
        elif count < size:
            self._draft.check(
                f"the engine wants {size} devices (tensor x pipeline x data) and had {count}: it gets {size}", "parallelism"
            )

    def _counted(self, value: Any) -> int | None:
        try:
            return int(quantity(str(value)))
        except ArithmeticError:
            self._draft.check(f"the number of devices {shown(str(value))} is not filled in", "parallelism")
            return None

    def _profile(self, limits: Mapping[str, Any]) -> tuple[str, str]:
        """The profile, and the extended resource that the devices are."""
        by_resource = {profile.resource: name for name, profile in PROFILES.items() if profile.resource}
        for name in limits:
            if name in by_resource:
                return by_resource[name], name
            if name.startswith("nvidia.com/") and not name.startswith("nvidia.com/hostdev"):
                return "nvidia", name
            if name.startswith("amd.com/"):
                return "amd", name
            other = next((kind for prefix, kind in _OTHER_PROFILES.items() if name.startswith(prefix)), "")
            if other:
                self._draft.check(f"{name}: no profile is for such devices: the image has to be one for {other}", "accelerator")
                return "nvidia", name
        image = set(re.split(r"[^a-z0-9]+", str(self._container.get("image") or "").lower()))
        known = {variable.get("name") for variable in items(self._container, "env")}
        if "VLLM_CPU_KVCACHE_SPACE" in known:
            return "cpu", ""
        given = self._draft.get("accelerator", "profile") or self._workload.profile
        return given or next((profile for word, profile in _IMAGE_PROFILES if word in image), "nvidia"), ""

    def _world_size(self) -> int:
        size = 1
        for name in ("tensor", "pipeline", "data"):
            size *= self._draft.get("parallelism", name) or 1
        return size

    def _environment(self) -> None:
        for source in items(self._container, "envFrom"):
            self._env_from(dict(source))
        for variable in items(self._container, "env"):
            self._variable(dict(variable))

    def _env_from(self, source: dict[str, Any]) -> None:
        wrong = list(faults(schema_at(("engine", "envFrom")).get("items", {}), source, "envFrom"))
        if wrong:
            self._draft.lost(f"{wrong[0].path} {wrong[0].message}", "engine", "envFrom")
        else:
            self._draft.append(("engine", "envFrom"), source)

    def _variable(self, variable: dict[str, Any]) -> None:
        name, value = str(variable.get("name")), str(variable.get("value") or "")
        secret = part(variable, "valueFrom", "secretKeyRef")
        if name in HUB_VARIABLES and self._hub_token(name, value, secret):
            return
        if name == KEY_VARIABLE:
            self._api_key(value, secret)
            return
        if self._is_the_operators(name, value):
            return
        if name == "VLLM_LOGGING_LEVEL" and value.upper() in _LOG_LEVELS and not self._draft.get("engine", "debug"):
            self._draft.put(("engine", "logLevel"), value.upper())
            return
        if not part(variable, "valueFrom") and variable.get("value") is not None and is_secret(name, value) and value:
            variable = {"name": name, "valueFrom": {"secretKeyRef": self._new_reference(name, value, "env", name)}}
        elif variables_in(value):
            self._draft.check(f"the variable {name}: nobody has filled in {shown(value)}", "engine", "env")
            return
        self._variables = [one for one in self._variables if one["name"] != name]
        self._variables.append(self._typed_variable(variable))

    def _typed_variable(self, variable: dict[str, Any]) -> dict[str, Any]:
        if "value" in variable and not isinstance(variable["value"], str) and variable["value"] is not None:
            text = variable["value"]
            variable["value"] = str(text).lower() if isinstance(text, bool) else str(text)
        return {key: value for key, value in variable.items() if value is not None}

    def _new_reference(self, name: str, value: str, purpose: str, key: str) -> dict[str, str]:
        names = variables_in(value)
        if not names:
            self._vault.keep(value)
        shell = names[0] if names and re.fullmatch(r"[A-Za-z_]\w*", names[0]) else name
        return new_secret(self._draft, purpose, key, shell)

    def _hub_token(self, name: str, value: str, secret: Mapping[str, Any]) -> bool:
        """Whether the variable has become the token of the model."""
        if secret:
            reference = {key: item for key, item in secret.items() if key in {"name", "key", "optional"}}
        elif value:
            reference = dict(self._new_reference(name, value, "hub-token", "token"))
        else:
            return name in HUB_VARIABLES
        known = self._draft.get("model", "tokenSecret")
        if known and {**known, "optional": None} != {**reference, "optional": None}:
            return not secret
        self._draft.put(("model", "tokenSecret"), reference)
        return True

    def _api_key(self, value: str, secret: Mapping[str, Any]) -> None:
        if self._draft.get("auth", "keys") or not (value or secret):
            return
        if secret:
            reference = {"name": secret.get("name"), "key": secret.get("key")}
            if secret.get("optional"):
                self._draft.note("the API key was optional: now the engine starts only with it", "auth")
        else:
            reference = dict(self._new_reference(KEY_VARIABLE, value, "api-key", "api-key"))
        self._draft.put(("auth", "keys"), [reference])

    def _is_the_operators(self, name: str, value: str) -> bool:
        """Whether a variable is left to the operator, or to the cluster."""
        if name in _CHOSEN_DEVICES and self._workload.on_a_machine:
            self._draft.note(f"{name} is left out: in a cluster the device plug-in chooses the devices")
            return True
        if name == "HOME" and not self._workload.rendered:
            self._draft.note(f"HOME is left out: the engine's home is {HOME}, writable for any user")
            return True
        if name in _CACHE_VARIABLES and value.startswith("/") and not self._is_writable(value):
            self._draft.note(
                f"{name}={shown(value)} is left out: no volume is there; downloads go to {CACHE}, see spec.storage.cache",
                "storage",
            )
            return True
        if name == "VLLM_DEBUG":
            self._draft.note("VLLM_DEBUG is left out: vLLM has no such variable")
            return True
        return (name, value) in {("VLLM_NO_USAGE_STATS", "1"), ("DO_NOT_TRACK", "1")} and (
            name == "VLLM_NO_USAGE_STATS" or self._workload.rendered
        )

    def _is_writable(self, path: str) -> bool:
        """Whether a folder is in a volume, or in one that every image lets everybody write to."""
        mounted = [str(mount.get("mountPath")).rstrip("/") for mount in items(self._container, "volumeMounts")]
        return any(path == one or path.startswith(f"{one}/") for one in (*mounted, "/tmp", HOME))  # noqa: S108 # a folder of pods

    # volumes

    def _volumes(self) -> None:
        volumes = {str(volume.get("name")): dict(volume) for volume in items(self._pod, "volumes")}
        for name, claim in self._workload.claims.items():
            volumes.setdefault(name, {"name": name, "claimTemplate": claim})
        if self._workload.shared_memory:
            self._shared_memory(self._workload.shared_memory)
        if self._workload.rendered:
            for volume in items(self._pod, "volumes"):
                if volume.get("name") != "shm":
                    self._write_volume(dict(volume))
        for mount in items(self._container, "volumeMounts"):
            self._mount(dict(mount), volumes.get(str(mount.get("name")), {"name": mount.get("name")}))
        for container in [*items(self._pod, "initContainers"), *self._sidecars()]:
            for mount in items(container, "volumeMounts"):
                self._write_volume(volumes.get(str(mount.get("name"))))
        if self._pod.get("hostIPC"):
            self._draft.note("hostIPC is left out: the engine has a /dev/shm of its own (spec.storage.sharedMemory)")

    def _mount(self, mount: dict[str, Any], volume: dict[str, Any]) -> None:
        path = str(mount.get("mountPath") or "").rstrip("/") or "/"
        if path == "/dev/shm":  # noqa: S108 # the mount point that torch and NCCL use
            self._renamed[str(volume["name"])] = "shm"
            limit = part(volume, "emptyDir").get("sizeLimit")
            if limit:
                self._shared_memory(str(limit))
            return
        if self._as_cache(path, mount, volume) or self._as_source(path, mount, volume) or self._as_template(path, volume):
            return
        told = self._workload.volumes_of_machine.get(str(volume["name"]))
        if told:
            self._of_a_machine(path, told)
            return
        if "claimTemplate" in volume:
            self._claim_template(path, volume)
            return
        if path.startswith("/root/") and not self._runs_as_root():
            self._draft.check(
                f"{path} is below /root, which the engine's user 2000 cannot enter: mount it elsewhere, or set "
                "spec.pod.securityContext.runAsUser: 0",
                "pod",
                "volumeMounts",
            )
        self._write_volume(volume)
        empty = (None,) if self._workload.rendered else (None, "", False)
        written = {key: value for key, value in mount.items() if value not in empty}
        written["name"] = self._renamed.get(str(volume["name"]), str(volume["name"]))
        known = schema_at(("pod", "volumeMounts")).get("items", {})
        if list(unknown_fields(known, written)):
            self._container_patch.setdefault("volumeMounts", []).append(written)
        else:
            self._draft.append(("pod", "volumeMounts"), written)

    def _shared_memory(self, size: str) -> None:
        default = "8Gi" if self._world_size() > 1 else "2Gi"
        try:
            same = quantity(size) == quantity(default)
        except ArithmeticError:
            self._draft.check(f"the size of /dev/shm, {shown(size)}, is not filled in", "storage", "sharedMemory")
            return
        if not same:
            self._draft.put(("storage", "sharedMemory"), size)

    def _write_volume(self, volume: dict[str, Any] | None) -> None:
        """Have a volume in `spec.pod.volumes`, once, under a name that the operator does not use."""
        if volume is None or "claimTemplate" in volume or str(volume["name"]) in self._renamed:
            return
        name = str(volume["name"])
        new = f"{name}-volume" if name in OPERATOR_VOLUMES or re.fullmatch("(claim|image)-[0-9]+", name) else name
        self._renamed[name] = new
        self._draft.append(("pod", "volumes"), {**volume, "name": new})

    def _as_cache(self, path: str, mount: Mapping[str, Any], volume: Mapping[str, Any]) -> bool:
        """Whether a mount is where downloads are kept, and nothing else is looked for there."""
        found = _HOMES.fullmatch(path)
        named = any(one["name"] in _CACHE_VARIABLES and _is_below(str(one.get("value")), path) for one in self._variables)
        if not (found or named) or self._draft.get("storage", "cache") or self._names_below(path):
            return False
        if mount.get("subPath") or mount.get("subPathExpr"):
            return False
        name = str(volume["name"])
        shared = any(name == one.get("name") for other in self._beside() for one in items(other, "volumeMounts"))
        told = self._workload.volumes_of_machine.get(name)
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
        self._renamed[name] = "cache"
        for one in self._variables:
            value = str(one.get("value"))
            if one["name"] in _CACHE_VARIABLES and _is_below(value, path):
                one["value"] = CACHE + value[len(path) :]
        variable = {"huggingface": "HF_HOME", "hub": "HF_HUB_CACHE"}.get((found[3] or found[2] or "") if found else "", "")
        if variable and not any(one["name"] == variable for one in self._variables):
            self._variables.append({"name": variable, "value": CACHE})
        return True

    def _drop_cache(self, path: str, volume: Mapping[str, Any], told: str | None) -> None:
        """Leave a cache to the operator that nobody can take along, or that lasts no longer than its own."""
        self._variables = [
            one
            for one in self._variables
            if not (one["name"] in _CACHE_VARIABLES and _is_below(str(one.get("value")), path))
        ]
        self._renamed[str(volume["name"])] = "home"
        if told:
            self._draft.note(
                f"{told} held the downloads: here they last as long as their pod, unless "
                "spec.storage.cache.persistentVolumeClaim keeps them",
                "storage",
            )
            return
        limit = part(volume, "emptyDir").get("sizeLimit")
        self._draft.put(("storage", "cache"), {"emptyDir": {"sizeLimit": limit}} if limit else None)

    def _names_below(self, path: str) -> bool:
        """Whether the model, or another field than a variable for caches, lies below a path."""
        values = [str(one.get("value")) for one in self._variables if one["name"] not in _CACHE_VARIABLES]
        return any(f"{path}/" in text or text == path for text in (*_texts(self._draft.spec), *values))

    def _beside(self) -> Iterator[Mapping[str, Any]]:
        yield from items(self._pod, "initContainers")
        yield from self._sidecars()

    def _as_source(self, path: str, mount: Mapping[str, Any], volume: Mapping[str, Any]) -> bool:
        """Whether a claim or an image holds the model, and nobody writes to it."""
        claim, image = part(volume, "persistentVolumeClaim").get("claimName"), part(volume, "image").get("reference")
        name = str(volume["name"])
        if not (claim or image) or any(
            name == one.get("name") for other in self._beside() for one in items(other, "volumeMounts")
        ):
            return False
        model = self._draft.get("model") or {}
        places = [str(model.get("source") or ""), str(model.get("tokenizer") or "")]
        if not any(place == path or place.startswith(f"{path}/") for place in places):
            return False
        if path == "/" or self._names_elsewhere(path):
            return False
        below = str(mount.get("subPath") or "").strip("/")
        for key in ("source", "tokenizer"):
            place = str(model.get(key) or "")
            if place != path and not place.startswith(f"{path}/"):
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
        model = {key: value for key, value in self._draft.get("model").items() if key not in {"source", "tokenizer", "servedNames"}}
        values = [str(variable.get("value")) for variable in self._variables]
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

    def _of_a_machine(self, path: str, told: str) -> None:
        source = str(self._draft.get("model", "source") or "")
        if source == path or source.startswith(f"{path}/"):
            self._draft.check(
                f"the model lay in {told}: bring it into the cluster, as pvc://CLAIM/PATH, oci://IMAGE or s3://BUCKET/PATH",
                "model",
                "source",
            )
        else:
            self._draft.check(f"{told}, mounted at {path}, is on one machine only: bring it into spec.pod.volumes", "pod")

    def _claim_template(self, path: str, volume: Mapping[str, Any]) -> None:
        if self._draft.get("storage", "cache"):
            self._draft.lost(f"a claim of each pod's own, mounted at {path}: engines share their claims", "pod", "volumes")
            return
        self._draft.put(("storage", "cache"), {"persistentVolumeClaim": _claim(volume["claimTemplate"])})
        self._renamed[str(volume["name"])] = "cache"
        self._tell_shared_claim()
        source = str(self._draft.get("model", "source") or "")
        if _is_below(source, path):
            self._draft.check(
                f"the model lay in a claim that is made for the pods, mounted at {path}: name a claim that holds it, as pvc://CLAIM/PATH",
                "model",
                "source",
            )

    def _tell_shared_claim(self) -> None:
        if not self._workload.shares_claims:
            self._draft.note("each pod had a claim of its own: now the engines share one", "storage", "cache")

    # resources, placing and rights

    def _resources(self) -> None:
        for section in ("requests", "limits"):
            given = part(self._container, "resources", section)
            kept = {name: value for name, value in given.items() if not _is_device(name)}
            for name, value in list(kept.items()):
                if isinstance(value, str) and value.isdigit() and len(value) <= _LONGEST_WHOLE:
                    kept[name] = int(value)
                wrong = list(faults(schema_at(("resources", section, name)), value, ""))
                if wrong and isinstance(value, float):
                    kept[name] = str(value)
                elif wrong:
                    self._draft.check(f"resources.{section}.{name}: {shown(str(value))} is no quantity", "resources", section)
                    del kept[name]
            self._draft.put(("resources", section), kept)
        more = {key: value for key, value in part(self._container, "resources").items() if key not in {"requests", "limits"}}
        if more:
            self._container_patch["resources"] = more

    def _metadata(self) -> None:
        metadata = part(self._workload.template, "metadata")
        used = str([self._pod.get("affinity"), self._pod.get("topologySpreadConstraints")])
        labels, left = {}, []
        for name, value in part(metadata, "labels").items():
            of_old = name in self._workload.selector or name in OPERATOR_LABELS or name.startswith(_LABELS_OF_TOOLS)
            if not of_old or (name in used and name not in OPERATOR_LABELS):
                labels[name] = str(value)
            elif not self._workload.rendered:
                left.append(f"{name}={value}")
        if left:
            self._draft.note(f"labels by which the old pods were found are left out: {', '.join(left)}")
        self._draft.put(("pod", "labels"), labels)
        annotations = {
            name: str(value)
            for name, value in part(metadata, "annotations").items()
            if not name.startswith(_ANNOTATIONS_OF_TOOLS)
        }
        self._draft.put(("pod", "annotations"), annotations)

    def _placing(self) -> None:
        for name in _SCHEDULING:
            self._typed(("scheduling", name), self._pod.get(name))
        if self._pod.get("schedulerName") == "default-scheduler":
            self._draft.spec.get("scheduling", {}).pop("schedulerName", None)
        self._typed(("pod", "imagePullSecrets"), self._pod.get("imagePullSecrets"))
        account = self._pod.get("serviceAccountName") or self._pod.get("serviceAccount")
        if account and account != "default":
            self._draft.put(("pod", "serviceAccountName"), account)
            if self._pod.get("automountServiceAccountToken") is False:
                self._patch["automountServiceAccountToken"] = False
        if self._pod.get("hostNetwork"):
            self._draft.put(("pod", "hostNetwork"), True)

    def _typed(self, path: tuple[str, ...], value: Any) -> None:
        """A part of the pod that the resource has in the same form; into the patch where it is not quite the same."""
        if value in (None, [], {}, ""):
            return
        node = schema_at(path)
        if list(unknown_fields(node, value)) or list(faults(node, value, "")):
            self._patch[path[-1]] = value
        else:
            self._draft.put(path, value)

    def _lifecycle(self) -> None:
        grace = self._pod.get("terminationGracePeriodSeconds")
        lifecycle = dict(part(self._container, "lifecycle"))
        pause = _sleep_seconds(part(lifecycle, "preStop"))
        if pause is not None:
            del lifecycle["preStop"]
            self._draft.put(("engine", "shutdownDelaySeconds"), pause)
        if lifecycle:
            self._container_patch["lifecycle"] = lifecycle
        needed = self._shutdown_seconds()
        if isinstance(grace, int) and grace > needed:
            self._draft.put(("pod", "terminationGracePeriodSeconds"), grace)
        elif isinstance(grace, int) and grace < needed and not self._workload.rendered:
            self._draft.note(f"the grace of {grace} s is left out: an engine gets {needed} s to finish its requests")
        self._probes()

    def _shutdown_seconds(self) -> int:
        engine = self._draft.get("engine") or {}
        delay, timeout = engine.get("shutdownDelaySeconds", 5), engine.get("shutdownTimeoutSeconds", 30)
        return int(delay) + int(timeout) + 10

    def _probes(self) -> None:
        given = [name for name in ("startupProbe", "readinessProbe", "livenessProbe") if part(self._container, name)]
        if not given or self._workload.rendered:
            return
        self._draft.note(f"{', '.join(given)}: the operator's gates stand in for them, and ask for a prompt")
        longest = max(_budget_seconds(part(self._container, name)) for name in given)
        if longest > _DEFAULT_BUDGET_SECONDS:
            self._draft.put(("gates", "startupBudgetSeconds"), min(longest, 86400))

    def _rights(self) -> None:
        for path, given in (
            ("securityContext", part(self._pod, "securityContext")),
            ("containerSecurityContext", part(self._container, "securityContext")),
        ):
            node = schema_at(("pod", path))
            known = {key: value for key, value in given.items() if key in node["properties"] and value is not None}
            wrong = list(faults(node, known, f"spec.pod.{path}"))
            for fault in wrong:
                self._draft.lost(f"{fault.path} {fault.message}", "pod", path)
            if not wrong:
                self._draft.put(("pod", path), known)
            rest = {key: value for key, value in given.items() if key not in node["properties"]}
            if rest:
                holder = self._patch if path == "securityContext" else self._container_patch
                holder["securityContext"] = rest
        if not self._workload.rendered and self._container.get("image") and self._user() is None:
            self._draft.note("the engine runs as user 2000 of group 0, and not as the image's own user")

    def _user(self) -> Any:
        pod, own = part(self._pod, "securityContext"), part(self._container, "securityContext")
        return own.get("runAsUser", pod.get("runAsUser"))

    def _runs_as_root(self) -> bool:
        return bool(self._user() == 0)

    # what else is in the pod

    def _sidecars(self) -> list[Mapping[str, Any]]:
        beside = [one for one in items(self._pod, "containers") if one is not self._container]
        return beside

    def _others(self) -> None:
        for container in items(self._pod, "initContainers"):
            always = container.get("restartPolicy") == "Always"
            written = self._container_beside(dict(container))
            if always:
                written.pop("restartPolicy")
            self._draft.append(("pod", "sidecars" if always else "initContainers"), written)
        for container in self._sidecars():
            self._draft.append(("pod", "sidecars"), self._container_beside(dict(container)))
            self._draft.note(f"the container {container.get('name')} is a sidecar now: it starts before the engine", "pod", "sidecars")

    def _container_beside(self, container: dict[str, Any]) -> dict[str, Any]:
        """Another container of the pod: its volumes under their new names, and no secret in it."""
        mounts = [
            {**mount, "name": self._renamed.get(str(mount.get("name")), mount.get("name"))}
            for mount in items(container, "volumeMounts")
        ]
        if mounts:
            container["volumeMounts"] = mounts
        written = []
        for variable in items(container, "env"):
            name, value = str(variable.get("name")), str(variable.get("value") or "")
            if value and is_secret(name, value) and "$(" not in value:
                reference = self._new_reference(name, value, "env", name)
                written.append({"name": name, "valueFrom": {"secretKeyRef": reference}})
            else:
                written.append(dict(variable))
        if written:
            container["env"] = written
        if container.get("imagePullPolicy") == pull_policy(str(container.get("image") or "")):
            del container["imagePullPolicy"]
        return container

    def _left_over(self) -> None:
        """What has no field: into the patch of the pod, as far as a patch can say it."""
        host_network = bool(self._pod.get("hostNetwork"))
        for name, value in self._pod.items():
            if name in _READ_OF_POD or value in (None, [], {}) or (name, value) in _DEFAULTS_OF_POD:
                continue
            if name == "dnsPolicy" and value == ("ClusterFirstWithHostNet" if host_network else "ClusterFirst"):
                continue
            self._patch[name] = value
        for name, value in self._container.items():
            if name in _READ_OF_CONTAINER or value in (None, [], {}):
                continue
            if self._workload.rendered or (name, value) not in _DEFAULTS_OF_CONTAINER:
                self._container_patch[name] = value
        self._ports()
        told = [*self._patch, *self._container_patch]
        if told and not self._workload.rendered:
            self._draft.note(f"{', '.join(told)} of the pod: no field says it, so it stands in spec.pod.patch", "pod", "patch")

    def _ports(self) -> None:
        port = self._draft.get("engine", "port") or 8000
        for one in items(self._container, "ports"):
            if one.get("hostPort") and not host_port_of_own(one, self._pod):
                self._draft.lost(f"hostPort {one['hostPort']}: clients reach the engines by their Service", "pod")
            elif one.get("containerPort") != port and not self._workload.rendered:
                self._draft.note(f"the port {one.get('containerPort')} of the container is not told: pods take traffic at any port")

    def _whole_patch(self) -> dict[str, Any]:
        patch = dict(self._patch)
        if self._container_patch:
            patch["containers"] = [{"name": CONTAINER_NAME, **self._container_patch}]
        return {"spec": patch} if patch else {}


def _is_below(place: str, path: str) -> bool:
    return place == path or place.startswith(f"{path}/")


def _texts(value: Any) -> Iterator[str]:
    """Every text in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


def host_port_of_own(port: Mapping[str, Any], pod: Mapping[str, Any]) -> bool:
    """Whether a host's port only says what the node's network means anyway."""
    return bool(pod.get("hostNetwork")) and port.get("hostPort") == port.get("containerPort")


def _is_device(name: str) -> bool:
    known = {profile.resource for profile in PROFILES.values()}
    return name in known or name.startswith(("nvidia.com/gpu", "nvidia.com/mig-", "amd.com/gpu", *_OTHER_PROFILES))


def _claim(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A claim that the operator makes, as another one asked for it."""
    size = part(spec, "resources", "requests").get("storage")
    claim = {
        "size": str(size),
        "storageClassName": spec.get("storageClassName"),
        "accessModes": spec.get("accessModes") if spec.get("accessModes") != ["ReadWriteOnce"] else None,
    }
    return {key: value for key, value in claim.items() if value}


def _sleep_seconds(hook: Mapping[str, Any]) -> int | None:
    """Seconds of a hook that only sleeps; None for any other one."""
    if part(hook, "sleep"):
        return int(part(hook, "sleep").get("seconds") or 0)
    command = part(hook, "exec").get("command")
    text = " ".join(map(str, command)) if isinstance(command, list) else ""
    found = re.fullmatch(r"(?:\S*sh -c )?(?:\S*/)?sleep ([0-9]+)s?", text)
    return int(found[1]) if found else None


def _budget_seconds(probe: Mapping[str, Any]) -> int:
    """How long a probe lets an engine start."""
    delay, failures, period = (
        probe.get(name, default)
        for name, default in (("initialDelaySeconds", 0), ("failureThreshold", 3), ("periodSeconds", 10))
    )
    return sum(_whole(number) for number in (delay,)) + _whole(failures) * _whole(period)


def _whole(number: Any) -> int:
    return number if isinstance(number, int) else 0


_READ_OF_POD: Final = frozenset(
    {
        *_SCHEDULING,
        *("containers", "initContainers", "volumes", "imagePullSecrets", "serviceAccountName", "serviceAccount"),
        *("automountServiceAccountToken", "hostNetwork", "hostIPC", "terminationGracePeriodSeconds", "securityContext"),
        *("enableServiceLinks",),
    }
)
_DEFAULTS_OF_POD: Final = (("restartPolicy", "Always"), ("restartPolicy", "OnFailure"), ("restartPolicy", "Never"))
_READ_OF_CONTAINER: Final = frozenset(
    {
        *("name", "image", "imagePullPolicy", "command", "args", "env", "envFrom", "volumeMounts", "resources", "ports"),
        *("securityContext", "lifecycle", "startupProbe", "readinessProbe", "livenessProbe"),
    }
)
_DEFAULTS_OF_CONTAINER: Final = (
    ("terminationMessagePath", "/dev/termination-log"),
    ("terminationMessagePolicy", "File"),
    ("stdin", True),
    ("tty", True),
)


def fits_schema(document: Mapping[str, Any]) -> Iterable[str]:
    """What the schema of the resource refuses of a spec."""
    return (f"spec{fault.path} {fault.message}" for fault in faults(spec_schema(), dict(document), ""))
