"""What this operator has rendered itself: its additions are taken off, and what is left is read as anybody's pod."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api import names
from vllm_operator.api.spec.engine import (
    DEFAULT_SHUTDOWN_DELAY_SECONDS,
    DEFAULT_SHUTDOWN_SECONDS,
    EXIT_MARGIN_SECONDS,
)
from vllm_operator.api.spec.operations import DEFAULT_CANARY_SECONDS, DEFAULT_RESTART_SECONDS
from vllm_operator.api.spec.profiles import PROFILES
from vllm_operator.cli.importing.arguments import fields_by_argument
from vllm_operator.cli.importing.devices import asked_of
from vllm_operator.cli.importing.draft import schema_at
from vllm_operator.cli.importing.manifests import ingress_of, name_of
from vllm_operator.cli.importing.parts import world_size
from vllm_operator.manager.settings import NEVER
from vllm_operator.render import adapters, amx, files
from vllm_operator.render.environment import CACHE, HOME
from vllm_operator.render.manager import NAMES_PATH, PROGRAM_FOLDER, STATE_FOLDER, STEM
from vllm_operator.render.sources import CLAIMS_FOLDER, IMAGES_FOLDER
from vllm_operator.render.untyped import items, named, part, words

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from vllm_operator.cli.importing.draft import Draft
    from vllm_operator.cli.importing.manifests import Bundle
    from vllm_operator.cli.importing.workload import Workload

CERTIFICATE_VOLUME: Final = "server-certificate"
"""Volume of the Secret with the server's certificate."""

_OWN_VOLUMES: Final = frozenset({"home", "tmp", "manager", "manager-state", amx.VOLUME, CERTIFICATE_VOLUME})
_NUMBERED: Final = re.compile(r"(claim|image)-([0-9]+)")
_GENERATED_VARIABLE: Final = re.compile(r"API_KEY_[0-9]+")
_POD_FIELDS: Final = {"POD_NAME": "metadata.name", "POD_IP": "status.podIP", "POD_IPS": "status.podIPs"}
_SECONDS: Final = {
    "--canary-interval": "canaryIntervalSeconds",
    "--stall-window": "stallWindowSeconds",
    "--longest-stall-window": "longestStallWindowSeconds",
    "--restart-window": "restartWindowSeconds",
    "--startup-budget": "startupBudgetSeconds",
}
_DEFAULT_SECONDS: Final = {"--canary-interval": DEFAULT_CANARY_SECONDS, "--restart-window": DEFAULT_RESTART_SECONDS}
_PLAIN: Final = {"HOME": HOME, "TRITON_CACHE_DIR": f"{CACHE}/triton", "VLLM_NO_USAGE_STATS": "1"}


def is_rendered(container: Mapping[str, Any]) -> bool:
    """Whether the operator has made a container."""
    return STEM in words(container, "command")


class Undone:
    """Takes the operator's additions off a workload, and keeps what they say of the spec for its draft."""

    def __init__(self, workload: Workload, bundle: Bundle) -> None:
        self._workload = workload
        self._bundle = bundle
        self._pod: dict[str, Any] = workload.template["spec"]
        self._container = workload.container
        self._options = _options(words(self._container, "command"))
        self._images = self._image_references()
        self._keys: list[dict[str, Any]] = []
        self._debugs = False
        self._prefetched = False
        self._lists_adapters = "--adapters-file" in self._options
        self._profile = self._found_profile()
        self._volumes = {str(one.get("name")): one for one in items(self._pod, "volumes")}
        self._claims = tuple(self._mounted_claims())

    def undo(self) -> None:
        """Change the workload to what it would be without the operator."""
        self._workload.rendered = True
        del self._container["command"]
        metadata = self._workload.template.setdefault("metadata", {})
        self._prefetched = names.PREFETCHED in part(metadata, "annotations")
        self._environment()
        self._drop_volumes()
        self._rights()
        metadata["annotations"] = {
            name: value
            for name, value in part(metadata, "annotations").items()
            if name not in {files.CONFIG_HASH, names.KEYS_CHANGED_AT, names.PREFETCHED}
        }
        instance = self._workload.name
        if self._pod.get("serviceAccountName") == names.engines_name(instance):
            del self._pod["serviceAccountName"]
        if self._pod.get("automountServiceAccountToken") is (self._pod.get("serviceAccountName") is not None):
            self._pod.pop("automountServiceAccountToken")
        if self._container.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            del self._container["terminationMessagePolicy"]
        for constraint in self._pod.get("topologySpreadConstraints") or []:
            if constraint.get("labelSelector") == {"matchLabels": names.selector_labels(instance)}:
                del constraint["labelSelector"]

    def write(self, draft: Draft) -> None:
        """Write what the additions said into the draft, once the arguments are in it."""
        draft.put(("accelerator", "profile"), self._profile)
        self._write_gates(draft)
        self._write_shutdown(draft)
        self._write_sources(draft)
        self._write_adapters(draft)
        self._write_template(draft)
        self._write_cache(draft)
        self._write_prefetch(draft)
        self._write_auth(draft)
        if schema_at(("engine", "tls")):
            draft.put(("engine", "tls"), dict(_tls(self._volumes.get(CERTIFICATE_VOLUME, {}))))
        self._write_debug(draft)
        account = next(
            (one for one in self._bundle.of_kind("ServiceAccount") if name_of(one) == f"{draft.name}-engines"), {}
        )
        draft.put(("pod", "serviceAccountAnnotations"), _annotations(account))

    def _found_profile(self) -> str:
        image = self._container.get("image")
        known = {str(one.get("name")) for one in items(self._pod, "volumes")}
        if amx.VOLUME in known:
            return "cpu"
        if self._workload.profile:
            return self._workload.profile
        by_image = next((name for name, profile in PROFILES.items() if profile.image and profile.image == image), "")
        context = part(self._pod, "securityContext")
        gaudi = dict(PROFILES["gaudi"].environment).keys() & {
            str(one.get("name")) for one in items(self._container, "env")
        }
        limits = part(self._container, "resources", "limits")
        by_resource = next((name for name, profile in PROFILES.items() if profile.resource in limits), "")
        if gaudi and by_resource in {"", "gaudi"}:
            return "gaudi"
        for name, profile in PROFILES.items():
            rights = {"supplementalGroups": list(profile.groups), "seccompProfile": {"type": profile.seccomp}}
            if profile.groups and rights.items() <= context.items():
                return name
        return by_resource or by_image or "nvidia"

    def _environment(self) -> None:
        plain = {**_PLAIN, **dict(PROFILES[self._profile].environment)}
        if self._prefetched:
            plain["HF_HUB_OFFLINE"] = "1"
        if self._lists_adapters:
            plain["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "True"
        kept = []
        for variable in items(self._container, "env"):
            name = str(variable.get("name"))
            origin = part(variable, "valueFrom")
            if origin == {"fieldRef": {"fieldPath": _POD_FIELDS.get(name)}}:
                continue
            if name == "GATE_LOOPBACK" or (plain.get(name) is not None and plain[name] == variable.get("value")):
                continue
            if (name == "VLLM_API_KEY" or _GENERATED_VARIABLE.fullmatch(name)) and part(origin, "secretKeyRef"):
                self._keys.append(dict(part(origin, "secretKeyRef")))
                continue
            kept += _without_own_path(variable)
        level = {"name": "VLLM_LOGGING_LEVEL", "value": "DEBUG"}
        self._debugs = "--enable-log-requests" in words(self._container, "args") and level in kept
        self._container["env"] = [one for one in kept if not (self._debugs and one == level)]

    def _image_references(self) -> dict[str, str]:
        found = {}
        for volume in items(self._pod, "volumes"):
            numbered = _NUMBERED.fullmatch(str(volume.get("name")))
            if numbered and numbered[1] == "image":
                found[numbered[2]] = str(part(volume, "image").get("reference"))
        return found

    def _is_own(self, name: str) -> bool:
        listed = self._lists_adapters and name == adapters.VOLUME
        return listed or name in _OWN_VOLUMES or name in {"cache", "config"} or bool(_NUMBERED.fullmatch(name))

    def _drop_volumes(self) -> None:
        self._pod["volumes"] = [one for one in items(self._pod, "volumes") if not self._is_own(str(one.get("name")))]
        claims = {
            f"{CLAIMS_FOLDER}/{part(one, 'persistentVolumeClaim').get('claimName')}" for one in self._volumes.values()
        }
        own = {
            HOME,
            CACHE,
            files.FOLDER,
            adapters.FOLDER,
            *self._options.get("--certificate", []),
            PROGRAM_FOLDER,
            STATE_FOLDER,
            *claims,
        }
        own |= {amx.FOLDER, "/tmp"}  # noqa: S108 # a mount point
        self._container["volumeMounts"] = [
            one
            for one in items(self._container, "volumeMounts")
            if not (
                self._is_own(str(one.get("name")))
                and (one.get("mountPath") in own or str(one.get("mountPath")).startswith(f"{IMAGES_FOLDER}/"))
            )
        ]

    def _rights(self) -> None:
        context = dict(part(self._pod, "securityContext"))
        profile = PROFILES[self._profile]
        own: dict[str, Any] = {
            "runAsNonRoot": context.get("runAsUser") != 0,
            "runAsUser": 2000,
            "runAsGroup": 0,
            "fsGroup": 0,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": profile.seccomp},
            **({"supplementalGroups": list(profile.groups)} if profile.groups else {}),
        }
        self._pod["securityContext"] = {key: value for key, value in context.items() if own.get(key) != value}
        context = dict(part(self._container, "securityContext"))
        capabilities = dict(part(context, "capabilities"))
        if capabilities.get("drop") == ["ALL"]:
            del capabilities["drop"]
        context["capabilities"] = capabilities
        if not capabilities:
            del context["capabilities"]
        if context.get("allowPrivilegeEscalation") is False:
            del context["allowPrivilegeEscalation"]
        if context.get("runAsUser") == 0 and context.get("runAsNonRoot") is False:
            del context["runAsNonRoot"]
        self._container["securityContext"] = context

    def _write_gates(self, draft: Draft) -> None:
        given = self._options
        draft.put(("gates", "port"), int(given.get("--gate-port", ["8480"])[-1]))
        for option, field in _SECONDS.items():
            for value in given.get(option, []):
                if value != NEVER:
                    draft.put(("gates", field), int(value))
        if NEVER in given.get("--canary-interval", []):
            draft.put(("gates", "canary"), "Never")
        if NEVER in given.get("--restart-window", []):
            draft.put(("gates", "restart"), "Never")
        if "--command" in given:
            draft.put(("gates", "probe"), json.loads(given["--command"][-1]))
        if "--leave" in given:
            draft.put(("engine", "shutdownDelaySeconds"), int(given["--leave"][-1]))

    def _write_shutdown(self, draft: Draft) -> None:
        """Tell an engine that may finish its requests, and is only not told how long, from one that may not.

        A vLLM that does not know the argument gets none; its pod has the time all the same.
        """
        engine = draft.get("engine") or {}
        allowed = engine.get("shutdownDelaySeconds", DEFAULT_SHUTDOWN_DELAY_SECONDS) + EXIT_MARGIN_SECONDS
        grace = self._pod.get("terminationGracePeriodSeconds")
        if engine.get("shutdownTimeoutSeconds") == 0 and grace == allowed + DEFAULT_SHUTDOWN_SECONDS:
            del engine["shutdownTimeoutSeconds"]
            if not engine:
                del draft.spec["engine"]

    def _write_sources(self, draft: Draft) -> None:
        model = draft.get("model") or {}
        for key in ("source", "tokenizer"):
            if key in model:
                model[key] = self._source(str(model[key]))
        drafted = draft.get("engine", "speculativeDecoding") or {}
        if "model" in drafted:
            drafted["model"] = self._source(str(drafted["model"]))
        for adapter in draft.get("lora", "adapters") or []:
            adapter["source"] = self._source(str(adapter["source"]))

    def _write_adapters(self, draft: Draft) -> None:
        """Adapters that engines are told while they run: they stand in a ConfigMap, and claims of any are mounted."""
        if not self._lists_adapters:
            return
        ours = {str(draft.get("model", key) or "") for key in ("source", "tokenizer")}
        ours.add(str(draft.get("engine", "speculativeDecoding", "model") or ""))
        lists = (one for one in self._bundle.of_kind("ConfigMap") if name_of(one) == f"{draft.name}-adapters")
        found = next(lists, None)
        listed = [] if found is None else adapters.read_list(found).adapters
        told = [{"name": one.name, "source": self._source(one.path)} for one in listed]
        needed = set(_claims_of(one["source"] for one in told))
        brought = set(_claims_of(ours))
        draft.put(("lora", "runtimeUpdates"), True)  # noqa: FBT003 # it is the value
        draft.put(("lora", "adapters"), told)
        draft.put(("lora", "claims"), [claim for claim in self._claims if claim in needed or claim not in brought])
        if found is None:
            draft.check("the ConfigMap with the adapters is not in the input", "lora", "adapters")
        engine = draft.get("engine") or {}
        quiet = [path for path in engine.pop("disableAccessLogForEndpoints", ()) if path != NAMES_PATH]
        draft.put(("engine", "disableAccessLogForEndpoints"), quiet)

    def _mounted_claims(self) -> Iterator[str]:
        """Names of the claims in which models and adapters are."""
        for mount in items(self._container, "volumeMounts"):
            if str(mount.get("mountPath")).startswith(f"{CLAIMS_FOLDER}/"):
                volume = self._volumes.get(str(mount.get("name")), {})
                yield str(part(volume, "persistentVolumeClaim").get("claimName"))

    def _source(self, located: str) -> str:
        if located.startswith(f"{CLAIMS_FOLDER}/"):
            return "pvc://" + located.removeprefix(f"{CLAIMS_FOLDER}/")
        number = located.removeprefix(f"{IMAGES_FOLDER}/")
        return f"oci://{self._images[number]}" if number != located and number in self._images else located

    def _write_template(self, draft: Draft) -> None:
        volume = self._volumes.get("config", {})
        source = part(volume, "configMap")
        if not source:
            return
        chosen = items(source, "items")
        if chosen:
            reference = {"name": source.get("name"), "key": chosen[0].get("key")}
            draft.spec["model"]["chatTemplate"] = {"configMapKeyRef": reference}
            return
        found = next((one for one in self._bundle.of_kind("ConfigMap") if name_of(one) == source.get("name")), {})
        text = part(found, "data").get(files.TEMPLATE_FILE)
        if text is not None:
            draft.spec["model"]["chatTemplate"] = {"inline": text}
        else:
            draft.check(
                f"the ConfigMap {source.get('name')} with the chat template is not in the input",
                "model",
                "chatTemplate",
            )

    def _write_cache(self, draft: Draft) -> None:
        volume = self._volumes.get("cache", {})
        claim = str(part(volume, "persistentVolumeClaim").get("claimName") or "")
        if claim == names.cache_name(draft.name):
            found = next((one for one in self._bundle.of_kind("PersistentVolumeClaim") if name_of(one) == claim), None)
            if found is None:
                draft.put(("storage", "cache"), {"existingClaim": claim})
                return
            modes = part(found, "spec").get("accessModes")
            made = {
                "size": part(found, "spec", "resources", "requests").get("storage"),
                "storageClassName": part(found, "spec").get("storageClassName"),
                "accessModes": modes if modes != ["ReadWriteOnce"] else None,
                "keep": names.INSTANCE not in part(found, "metadata", "labels") or None,
            }
            draft.put(("storage", "cache"), {"persistentVolumeClaim": {key: one for key, one in made.items() if one}})
        elif claim:
            draft.put(("storage", "cache"), {"existingClaim": claim})
        elif "hostPath" in volume:
            draft.put(("storage", "cache"), {"hostPath": {"path": part(volume, "hostPath").get("path")}})
        elif "emptyDir" in volume:
            draft.spec.setdefault("storage", {})["cache"] = {"emptyDir": dict(part(volume, "emptyDir"))}

    def _write_prefetch(self, draft: Draft) -> None:
        """The claim is filled by Jobs, which alone say which files they bring, and from where if not from the hub."""
        if not self._prefetched:
            return
        draft.put_empty("storage", "cache", "prefetch")
        source = str(draft.get("model", "source") or "")
        told = next((one for one in self._job_settings() if _is_of(one, source)), None)
        if told is None:
            advice = "the Job that fills the claim is not in the input, which says what files it brings"
            draft.check(advice, "storage", "cache", "prefetch")
            return
        draft.put(("model", "source"), source if told.get("kind") == "hub" else told.get("source"))
        for name in ("allow", "ignore"):
            draft.put(("storage", "cache", "prefetch", f"{name}Patterns"), told.get(name))

    def _job_settings(self) -> Iterator[dict[str, Any]]:
        """What the Jobs in the input are told to bring."""
        for job in self._bundle.of_kind("Job"):
            for container in items(job, "spec", "template", "spec", "containers"):
                for variable in items(container, "env"):
                    if variable.get("name") == "VLLM_PREFETCH":
                        yield json.loads(str(variable.get("value")).replace("$$", "$"))

    def _write_debug(self, draft: Draft) -> None:
        """`debug` sets two things, of which each alone has a field too."""
        if self._debugs:
            path = fields_by_argument()["--enable-log-requests"].path
            del draft.spec[path[0]][path[1]]
            draft.put(("engine", "debug"), value=True)

    def _write_auth(self, draft: Draft) -> None:
        own = names.binding_name(draft.name)
        keys = [{"name": one.get("name"), "key": one.get("key")} for one in self._keys]
        if any(one["name"] == own for one in keys):
            draft.put(("auth", "generate"), value=True)
        draft.put(("auth", "keys"), [one for one in keys if one["name"] != own])


def _tls(volume: Mapping[str, Any]) -> Mapping[str, Any]:
    """The certificate that a volume holds; empty where there is none."""
    name = part(volume, "secret").get("secretName")
    return {"secretName": name} if name else {}


def _without_own_path(variable: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A variable without the folder that the operator puts first into PYTHONPATH; nothing where that is all of it."""
    value = str(variable.get("value") or "")
    if variable.get("name") != amx.PATH_VARIABLE or not value.startswith(amx.FOLDER):
        return [dict(variable)]
    rest = value[len(amx.FOLDER) :].removeprefix(":")
    return [{"name": amx.PATH_VARIABLE, "value": rest}] if rest else []


def _is_of(settings: Mapping[str, Any], source: str) -> bool:
    """Whether a Job brings a model, which its engines know by its id, or by its folder in the claim."""
    return settings.get("source") == source.removeprefix("hf://") or source.endswith(f"/{settings.get('key')}")


def _annotations(document: Mapping[str, Any]) -> dict[str, Any]:
    """The annotations of an object that are not the operator's own."""
    found = part(document, "metadata", "annotations")
    return {key: value for key, value in found.items() if key != names.DESIRED_HASH}


def read_device_classes(bundle: Bundle, draft: Draft) -> None:
    """Classes of devices in place of the ResourceClaimTemplates that the operator makes of them."""
    templates = {name_of(one): one for one in bundle.of_kind("ResourceClaimTemplate")}
    ours = {name: one for name, one in templates.items() if names.is_device_template_name(draft.name, name)}
    claims = [dict(claim) for claim in items(draft.spec, "accelerator", "resourceClaims")]
    for claim in claims:
        template = ours.get(str(claim.get("resourceClaimTemplateName")))
        if template is not None:
            del claim["resourceClaimTemplateName"]
            claim.update(asked_of(template, world_size(draft)))
    if claims:
        draft.spec["accelerator"]["resourceClaims"] = claims


def read_policies(bundle: Bundle, draft: Draft) -> None:
    """NetworkPolicy and PodMonitor that the operator has made for a model."""
    selector = names.selector_labels(draft.name)
    for document in bundle.documents:
        spec, kind = part(document, "spec"), document.get("kind")
        if kind == "NetworkPolicy" and part(spec, "podSelector", "matchLabels") == selector:
            rules = items(spec, "ingress")
            peers = [dict(peer) for rule in rules if not rule.get("ports") for peer in items(rule, "from")]
            draft.spec["network"] = {"allowFrom": peers}
        if kind == "PodMonitor" and part(spec, "selector", "matchLabels") == selector:
            interval = str((items(spec, "podMetricsEndpoints") or [{}])[0].get("interval", "15s"))
            draft.put_empty("monitoring")
            draft.put(("monitoring", "intervalSeconds"), int(interval.removesuffix("s")))
            labels = {
                key: value
                for key, value in part(document, "metadata", "labels").items()
                if key not in names.labels(draft.name, "engine")
            }
            draft.put(("monitoring", "labels"), labels)
        if kind == "Service" and name_of(document) == draft.name:
            port = named(items(spec, "ports"), "http")
            target = port.get("targetPort")
            if isinstance(target, int):
                draft.put(("service", "targetPort"), target)
            draft.put(("service", "type"), spec.get("type"))
            draft.put(("service", "port"), port.get("port"))
            draft.put(("service", "nodePort"), port.get("nodePort"))
            draft.put(("service", "annotations"), _annotations(document))
            spoken = port.get("appProtocol")
            if spoken != ("https" if draft.get("engine", "tls") else None):
                draft.put(("service", "appProtocol"), spoken)
        if kind == "Ingress" and name_of(document) == draft.name:
            draft.put(("ingress",), ingress_of(document))
        if kind == "PodDisruptionBudget" and part(spec, "selector", "matchLabels") == selector:
            for key in ("minAvailable", "maxUnavailable"):
                draft.put(("disruption", key), spec.get(key))


def _options(command: Sequence[str]) -> dict[str, list[str]]:
    """The manager's options, by their names."""
    rest = list(command[command.index(STEM) + 1 :])
    if rest and rest[-1] == "--":
        rest = rest[:-1]
    found: dict[str, list[str]] = {}
    for name, value in zip(rest[::2], rest[1::2], strict=False):
        found.setdefault(name, []).append(value.replace("$$", "$"))
    return found


def _claims_of(sources: Iterable[str]) -> Iterator[str]:
    """The claims that hold them, where claims do."""
    return (one.removeprefix("pvc://").partition("/")[0] for one in sources if one.startswith("pvc://"))
