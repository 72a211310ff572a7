"""A pod that serves a model, read into a draft: its parts in turn, and what no field says into a patch."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.spec.pod import OPERATOR_LABELS
from vllm_operator.api.spec.profiles import PROFILES
from vllm_operator.api.spec.versions import image_version
from vllm_operator.api.vllm_releases import releases
from vllm_operator.cli.importing.devices import Devices, is_device
from vllm_operator.cli.importing.draft import schema_at
from vllm_operator.cli.importing.paths import Paths
from vllm_operator.cli.importing.secrets import is_secret
from vllm_operator.cli.importing.shell import shown, variables_in
from vllm_operator.cli.importing.variables import Variables
from vllm_operator.cli.importing.volumes import Volumes
from vllm_operator.cli.schema import faults, unknown_fields
from vllm_operator.render.images import pull_policy
from vllm_operator.render.pod import CONTAINER_NAME
from vllm_operator.render.untyped import items, part

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.cli.importing.parts import PodParts

_LABELS_OF_TOOLS: Final = ("pod-template-hash", "helm.sh/", "helm-release-name", "heritage", "release", "chart")
_ANNOTATIONS_OF_TOOLS: Final = ("kubectl.kubernetes.io/", "checksum/", "deployment.kubernetes.io/")
_SCHEDULING: Final = (
    *("nodeSelector", "tolerations", "affinity", "topologySpreadConstraints"),
    *("priorityClassName", "runtimeClassName", "schedulerName"),
)

_VOLUMES_OF_WEBHOOKS: Final = ("gke-gcsfuse-",)
"""How the names of volumes begin that a sidecar mounts which only the cluster adds."""

_LONGEST_WHOLE: Final = 6
"""Digits of a quantity that people write as a number: of cores, and not of bytes."""

_DEFAULT_BUDGET_SECONDS: Final = 3600


class PodReader:
    """Reads one pod into its draft."""

    def __init__(self, parts: PodParts) -> None:
        self._parts = parts
        self._draft = parts.draft
        self._workload = parts.workload

    def read(self) -> None:
        """Read everything but the server's arguments, which are in the draft already."""
        parts = self._parts
        self._image()
        Devices(parts).read()
        Variables(parts).read()
        Paths(parts).read()
        Volumes(parts).read()
        self._unmounted()
        self._resources()
        self._metadata()
        self._placing()
        self._lifecycle()
        self._rights()
        self._others()
        self._service_port()
        self._left_over()
        self._draft.put(("engine", "env"), parts.variables)
        self._draft.put(("pod", "patch"), self._whole_patch())

    def _image(self) -> None:
        image = str(self._parts.container.get("image") or "")
        if variables_in(image):
            self._draft.check(f"the image {shown(image)}: nobody has filled in its variables", "engine", "image")
            image = ""
        elif "${" in image or " " in image or "{{" in image:
            unset = re.findall(r"\$\{(\w+)\}", image)
            set_them = f": put it here, or {' '.join(f'--set {name}=VALUE' for name in unset)}" if unset else ""
            self._draft.check(f"the image {image} is a template of another tool{set_them}", "engine", "image")
            image = ""
        profile = self._draft.get("accelerator", "profile") or "nvidia"
        if image != PROFILES[profile].image or not self._workload.rendered:
            self._draft.put(("engine", "image"), image)
        version = image_version(image)
        if version and version < releases()[0] and not self._workload.rendered:
            self._draft.check(
                f"the image {image} is vLLM {version}, and {releases()[0]} is the oldest that is supported: take a "
                "newer image",
                "engine",
                "image",
            )
        policy = self._parts.container.get("imagePullPolicy")
        if policy and image and (policy != pull_policy(image) or self._workload.on_a_machine):
            self._draft.put(("engine", "imagePullPolicy"), policy)

    def _unmounted(self) -> None:
        """Volumes that no container mounts: a webhook that adds a sidecar finds some of them by their names."""
        if self._workload.rendered:
            return
        containers = [*items(self._parts.pod, "containers"), *items(self._parts.pod, "initContainers")]
        mounted = {
            str(mount.get("name"))
            for one in containers
            for mount in (*items(one, "volumeMounts"), *items(one, "volumeDevices"))
        }
        for volume in items(self._parts.pod, "volumes"):
            name = str(volume.get("name"))
            if name in mounted:
                continue
            if name.startswith(_VOLUMES_OF_WEBHOOKS):
                self._draft.append(("pod", "volumes"), dict(volume))
            else:
                self._draft.note(f"the volume {name} is left out: no container mounts it")

    def _resources(self) -> None:
        for section in ("requests", "limits"):
            given = part(self._parts.container, "resources", section)
            kept = {name: value for name, value in given.items() if not is_device(name)}
            for name, value in list(kept.items()):
                if isinstance(value, str) and value.isdigit() and len(value) <= _LONGEST_WHOLE:
                    kept[name] = int(value)
                wrong = list(faults(schema_at(("resources", section, name)), value, ""))
                if wrong and isinstance(value, float):
                    kept[name] = str(value)
                elif wrong:
                    self._draft.check(
                        f"resources.{section}.{name}: {shown(str(value))} is no quantity", "resources", section
                    )
                    del kept[name]
            self._draft.put(("resources", section), kept)
        more = {
            key: value
            for key, value in part(self._parts.container, "resources").items()
            if key not in {"requests", "limits", "claims"}
        }
        if more:
            self._parts.container_patch["resources"] = more

    def _metadata(self) -> None:
        metadata = part(self._workload.template, "metadata")
        used = str([self._parts.pod.get("affinity"), self._parts.pod.get("topologySpreadConstraints")])
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
            if self._parts.pod.get(name) != "default-scheduler":
                self._typed(("scheduling", name), self._parts.pod.get(name))
        if not self._workload.rendered and (self._parts.pod.get("hostname") or self._parts.pod.get("subdomain")):
            self._draft.note("hostname and subdomain are left out: NAME-engines leads to the single engines")
        self._typed(("pod", "imagePullSecrets"), self._parts.pod.get("imagePullSecrets"))
        account = self._parts.pod.get("serviceAccountName") or self._parts.pod.get("serviceAccount")
        if account and account != "default":
            self._draft.put(("pod", "serviceAccountName"), account)
            if self._parts.pod.get("automountServiceAccountToken") is False:
                self._parts.patch["automountServiceAccountToken"] = False
        if self._parts.pod.get("hostNetwork"):
            self._draft.put(("pod", "hostNetwork"), value=True)

    def _typed(self, path: tuple[str, ...], value: Any) -> None:
        """A part of the pod that the resource has in the same form; into the patch where it is not quite the same."""
        if value in (None, [], {}, ""):
            return
        node = schema_at(path)
        if list(unknown_fields(node, value)) or list(faults(node, value, "")):
            self._parts.patch[path[-1]] = value
        else:
            self._draft.put(path, value)

    def _lifecycle(self) -> None:
        grace = self._parts.pod.get("terminationGracePeriodSeconds")
        lifecycle = dict(part(self._parts.container, "lifecycle"))
        pause = _sleep_seconds(part(lifecycle, "preStop"))
        if pause is not None:
            del lifecycle["preStop"]
            self._draft.put(("engine", "shutdownDelaySeconds"), pause)
        if lifecycle:
            self._parts.container_patch["lifecycle"] = lifecycle
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
        given = [
            name for name in ("startupProbe", "readinessProbe", "livenessProbe") if part(self._parts.container, name)
        ]
        if not given or self._workload.rendered:
            return
        self._draft.note(f"{', '.join(given)}: the operator's gates stand in for them, and ask for a prompt")
        longest = max(_budget_seconds(part(self._parts.container, name)) for name in given)
        if longest > _DEFAULT_BUDGET_SECONDS:
            self._draft.put(("gates", "startupBudgetSeconds"), min(longest, 86400))

    def _rights(self) -> None:
        for path, given in (
            ("securityContext", part(self._parts.pod, "securityContext")),
            ("containerSecurityContext", part(self._parts.container, "securityContext")),
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
                holder = self._parts.patch if path == "securityContext" else self._parts.container_patch
                holder["securityContext"] = rest
        if not self._workload.rendered and self._parts.container.get("image"):
            self._tell_users()

    def _tell_users(self) -> None:
        """Say which containers get another user, since the pod has one where none was told."""
        if "runAsUser" in part(self._parts.pod, "securityContext"):
            return
        others = [str(one.get("name")) for one in self._parts.beside() if not (_has_user(one) or _is_privileged(one))]
        engine = [] if _has_user(self._parts.container) else ["engine"]
        if engine and not others:
            self._draft.note("the engine runs as user 2000 of group 0, and not as the image's own user")
        elif others:
            names = ", ".join([*engine, *others])
            self._draft.note(
                f"containers that run as user 2000 of group 0, and not as their images' own users: {names}"
            )

    def _others(self) -> None:
        for container in items(self._parts.pod, "initContainers"):
            always = container.get("restartPolicy") == "Always"
            written = self._container_beside(dict(container))
            if always:
                written.pop("restartPolicy")
            self._draft.append(("pod", "sidecars" if always else "initContainers"), written)
        for container in self._parts.sidecars():
            self._draft.append(("pod", "sidecars"), self._container_beside(dict(container)))
            self._draft.note(
                f"the container {container.get('name')} is a sidecar now: it starts before the engine",
                "pod",
                "sidecars",
            )

    def _container_beside(self, container: dict[str, Any]) -> dict[str, Any]:
        """Another container of the pod: its volumes under their new names, and no secret in it."""
        mounts = [
            {**mount, "name": self._parts.renamed.get(str(mount.get("name")), mount.get("name"))}
            for mount in items(container, "volumeMounts")
        ]
        if mounts:
            container["volumeMounts"] = mounts
        self._keep_root(container)
        written = []
        for variable in items(container, "env"):
            name, value = str(variable.get("name")), str(variable.get("value") or "")
            if value and is_secret(name, value) and "$(" not in value:
                reference = self._parts.new_reference(name, value, "env", name)
                written.append({"name": name, "valueFrom": {"secretKeyRef": reference}})
            else:
                written.append(dict(variable))
        if written:
            container["env"] = written
        if container.get("imagePullPolicy") == pull_policy(str(container.get("image") or "")):
            del container["imagePullPolicy"]
        return container

    def _keep_root(self, container: dict[str, Any]) -> None:
        """Have a privileged container run as root, as its image most likely did: no other user has its rights."""
        told = "runAsUser" in part(self._parts.pod, "securityContext") or self._workload.rendered
        if told or not _is_privileged(container) or _has_user(container):
            return
        rights = part(container, "securityContext")
        container["securityContext"] = {**rights, "runAsUser": 0, "runAsNonRoot": False}
        self._draft.note(f"the privileged container {container.get('name')} runs as root, and not as user 2000")

    def _left_over(self) -> None:
        """What has no field: into the patch of the pod, as far as a patch can say it."""
        host_network = bool(self._parts.pod.get("hostNetwork"))
        for name, value in self._parts.pod.items():
            if name in {"hostname", "subdomain"} and not self._workload.rendered:
                continue
            if name in _READ_OF_POD or value in (None, [], {}) or (name, value) in _DEFAULTS_OF_POD:
                continue
            if name == "dnsPolicy" and value == ("ClusterFirstWithHostNet" if host_network else "ClusterFirst"):
                continue
            self._parts.patch[name] = value
        for name, value in self._parts.container.items():
            if name in _READ_OF_CONTAINER or value in (None, [], {}):
                continue
            if self._workload.rendered or (name, value) not in _DEFAULTS_OF_CONTAINER:
                self._parts.container_patch[name] = value
        self._ports()
        told = [*self._parts.patch, *self._parts.container_patch]
        if told and not self._workload.rendered:
            self._draft.note(
                f"{', '.join(told)} of the pod: no field says it, so it stands in spec.pod.patch", "pod", "patch"
            )

    def _ports(self) -> None:
        port = self._draft.get("engine", "port") or 8000
        for one in items(self._parts.container, "ports"):
            if one.get("hostPort") and not _is_own_host_port(one, self._parts.pod):
                self._draft.lost(f"hostPort {one['hostPort']}: clients reach the engines by their Service", "pod")
            elif one.get("containerPort") != port and not self._workload.rendered:
                self._draft.note(
                    f"the port {one.get('containerPort')} of the container is not told: pods take traffic at any port"
                )

    def _service_port(self) -> None:
        """Have clients find the engines at the port that they know of the machine."""
        if not self._workload.on_a_machine:
            return
        port = self._draft.get("engine", "port") or 8000
        asked = any(remark.path == ("engine", "port") for remark in self._draft.remarks)
        known = [outside for outside, inside in self._workload.published if asked or inside == port]
        if known or not self._workload.rendered:
            self._draft.put(("service", "port"), known[0] if known else port)
        if not (self._workload.rendered or asked):
            self._tell_ports(port, known)

    def _tell_ports(self, port: int, known: list[int]) -> None:
        """Say which ports of the machine lead nowhere now: `known` ones led to the server, which is at `port`."""
        for outside in dict.fromkeys(known[1:]):
            if outside != known[0]:
                told = f"the port {outside} led to the engine too: its Service has one port, {known[0]}"
                self._draft.lost(told, "service", "port")
        for outside, inside in self._workload.published:
            if inside != port:
                told = f"the port {outside} led to {inside}, where nothing is known to listen: the server is at {port}"
                self._draft.check(told, "service", "port")

    def _whole_patch(self) -> dict[str, Any]:
        patch = dict(self._parts.patch)
        if self._parts.container_patch:
            patch["containers"] = [{"name": CONTAINER_NAME, **self._parts.container_patch}]
        return {"spec": patch} if patch else {}


def _has_user(container: Mapping[str, Any]) -> bool:
    """Whether a container says itself which user it runs as."""
    return "runAsUser" in part(container, "securityContext")


def _is_privileged(container: Mapping[str, Any]) -> bool:
    return part(container, "securityContext").get("privileged") is True


def _is_own_host_port(port: Mapping[str, Any], pod: Mapping[str, Any]) -> bool:
    """Whether a host's port only says what the node's network means anyway."""
    return bool(pod.get("hostNetwork")) and port.get("hostPort") == port.get("containerPort")


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
        *("enableServiceLinks", "resourceClaims"),
    }
)
_DEFAULTS_OF_POD: Final = (("restartPolicy", "Always"), ("restartPolicy", "OnFailure"), ("restartPolicy", "Never"))
_READ_OF_CONTAINER: Final = frozenset(
    {
        *(
            "name",
            "image",
            "imagePullPolicy",
            "command",
            "args",
            "env",
            "envFrom",
            "volumeMounts",
            "resources",
            "ports",
        ),
        *("securityContext", "lifecycle", "startupProbe", "readinessProbe", "livenessProbe"),
    }
)
_DEFAULTS_OF_CONTAINER: Final = (
    ("terminationMessagePath", "/dev/termination-log"),
    ("terminationMessagePolicy", "File"),
    ("stdin", True),
    ("tty", True),
)
