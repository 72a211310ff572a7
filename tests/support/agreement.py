"""What the fields of a generated spec must agree on: the rules of the resource, and those of the core API's kinds.

Each function mends one part of a spec in place. What is mended is what was generated, never what a user wrote.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.spec.sources import served_name

if TYPE_CHECKING:
    from collections.abc import Iterator

Part = dict[str, Any]

ONE_OF: Final[dict[str, tuple[str, ...]]] = {
    "chatTemplate": ("inline", "configMapKeyRef", "path"),
    "cache": ("persistentVolumeClaim", "existingClaim", "emptyDir", "hostPath"),
    "valueFrom": ("secretKeyRef", "configMapKeyRef", "fieldRef", "resourceFieldRef"),
    "env[]": ("value", "valueFrom"),
    "envFrom[]": ("secretRef", "configMapRef"),
    "disruption": ("minAvailable", "maxUnavailable"),
}
"""Parts that hold exactly one of some fields, by the last name of their path."""

OLD_VERSION: Final = "0.8.5"
"""Of vLLM: its arguments are written otherwise."""
_NEW_VERSION: Final = "0.32.0"

_MOST_DEVICES: Final = 64
_LABEL: Final = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")


def agreeing(spec: Part) -> Part:
    """The spec, mended."""
    _model(spec)
    _engine(spec.get("engine", {}))
    _version(spec)
    _devices(spec)
    _pod(spec)
    _gates(spec.get("gates", {}))
    _autoscaling(spec)
    _prefetch(spec)
    port = spec.get("engine", {}).get("port", 8000)
    if spec.get("gates", {}).get("port", 8480) == port:
        spec.setdefault("gates", {})["port"] = port % 65535 + 1
    if spec.get("service", {}).get("targetPort") == spec.get("gates", {}).get("port", 8480):
        del spec["service"]["targetPort"]
    _service(spec)
    for part in _parts(spec):
        _requirement(part)
        _peer(part)
        _seccomp(part)
        _address_range(part)
    for toleration in spec.get("scheduling", {}).get("tolerations", []):
        _toleration(toleration)
    _spread(spec.get("scheduling", {}).get("topologySpreadConstraints", []))
    return spec


def _parts(node: Any) -> Iterator[Part]:
    """Every map of a spec, the inner ones first."""
    if isinstance(node, dict):
        for value in node.values():
            yield from _parts(value)
        yield node
    elif isinstance(node, list):
        for item in node:
            yield from _parts(item)


_ELSEWHERE: Final = {"HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME", "HF_HUB_OFFLINE"}
_NOT_BROUGHT: Final = ("pvc:", "oci:", "gs:", "/")


def _prefetch(spec: Part) -> None:
    """A Job fills a claim, with what it can bring, and where engines look."""
    cache, model = spec.get("storage", {}).get("cache", {}), spec["model"]
    claim = cache.get("persistentVolumeClaim", {})
    alone = claim.get("accessModes") == ["ReadWriteOncePod"]
    unfit = alone or not {"persistentVolumeClaim", "existingClaim"} & set(cache)
    if unfit or model["source"].startswith(_NOT_BROUGHT) or "$(" in model["source"]:
        cache.pop("prefetch", None)
    if "prefetch" not in cache:
        return
    model.pop("downloadDir", None)
    engine = spec.get("engine", {})
    if "env" in engine:
        engine["env"] = [one for one in engine["env"] if one["name"] not in _ELSEWHERE] or [{"name": "A", "value": "a"}]


def _model(spec: Part) -> None:
    model, lora, auth = spec["model"], spec.get("lora", {}), spec.get("auth")
    if model["source"].startswith(("pvc:", "oci:", "s3:", "gs:", "/")):
        model.pop("revision", None)
    if model.get("convert") in {"embed", "classify"} and model.get("runner") == "generate":
        model["runner"] = "auto"
    if model.get("runner") == "pooling":
        spec.pop("lora", None)
    names = {*model.get("servedNames", []), served_name(model["source"])}
    if any(one["name"] in names for one in lora.get("adapters", [])):
        lora.pop("adapters")
    if lora.get("runtimeUpdates"):
        claims = {one["source"][6:].partition("/")[0] for one in lora.get("adapters", []) if "pvc://" in one["source"]}
        lora.update({"claims": sorted({*lora.get("claims", []), *claims})[:16]} if claims else {})
        spec.setdefault("engine", {})["apiServerCount"] = 1
        variables = spec["engine"].get("env", [])
        spec["engine"].update({"env": [one for one in variables if "LORA" not in one["name"]]} if variables else {})
    if "maxCpuLoras" in lora:
        lora["maxCpuLoras"] = max(lora["maxCpuLoras"], lora.get("maxLoras", 1))
    if auth is not None and not auth.get("keys"):
        auth["generate"] = True


def _engine(engine: Part) -> None:
    if "maxNumBatchedTokens" in engine:
        engine["maxNumBatchedTokens"] = max(engine["maxNumBatchedTokens"], engine.get("maxNumSeqs", 1))
    if engine.get("enableAutoToolChoice"):
        engine.setdefault("toolCallParser", "hermes")
    if engine.get("debug"):
        engine.pop("logLevel", None)
    draft = engine.get("speculativeDecoding")
    if draft is not None:
        draft.setdefault("method", "suffix")
        if draft["method"] == "ngram":
            draft.setdefault("numSpeculativeTokens", 3)
        low, high = draft.get("promptLookupMin", 1), draft.get("promptLookupMax", math.inf)
        if low > high:
            draft["promptLookupMin"], draft["promptLookupMax"] = high, low


def _version(spec: Part) -> None:
    """An old version stands alone: there are fields that it does not know."""
    engine = spec.get("engine", {})
    if engine.get("version") == OLD_VERSION and (len(engine) > 1 or len(spec) > len(("model", "engine"))):
        engine["version"] = _NEW_VERSION


def _devices(spec: Part) -> None:
    parallelism, accelerator = spec.get("parallelism", {}), spec.get("accelerator", {})
    shared = parallelism.get("decodeContext", 1)
    if shared > _MOST_DEVICES:
        del parallelism["decodeContext"]
    elif parallelism.get("tensor", 1) % shared:
        parallelism["tensor"] = shared
    devices = math.prod(parallelism.get(name, 1) for name in ("tensor", "pipeline", "data"))
    if accelerator.get("count"):
        accelerator["count"] = devices if devices <= _MOST_DEVICES else 0
    if accelerator.get("profile") in {"gaudi", "neuron", "other"}:
        spec.setdefault("engine", {}).setdefault("image", "registry.example.com/vllm-special:1")
    if accelerator.get("profile") == "other" and accelerator.get("count") != 0:
        accelerator.setdefault("resource", "example.com/npu")
    if accelerator.get("profile") == "cpu":
        for field in ("count", "resource", "resourceClaims"):
            accelerator.pop(field, None)
    if "resourceClaims" in accelerator:
        accelerator.pop("count", None)
        accelerator.pop("resource", None)
        accelerator["resourceClaims"] = [
            _device_claim(number, claim) for number, claim in enumerate(accelerator["resourceClaims"])
        ]
        if any("resourceClaimName" in claim for claim in accelerator["resourceClaims"]):
            spec.pop("replicas", None)  # engines that share a claim are few
            spec.pop("autoscaling", None)


def _device_claim(number: int, claim: Part) -> Part:
    """A claim of one kind, whose name no other one has."""
    named = {**claim, "name": f"claim-{number}"}
    if {"deviceClassName", "count", "selectors"} & named.keys():
        named.setdefault("deviceClassName", "gpu.example.com")
        others = {"resourceClaimTemplateName", "resourceClaimName", "request"}
        return {field: value for field, value in named.items() if field not in others}
    if "resourceClaimTemplateName" in named or "resourceClaimName" not in named:
        named.setdefault("resourceClaimTemplateName", "mine")
        named.pop("resourceClaimName", None)
    return named


def _service(spec: Part) -> None:
    """What a sidecar speaks needs the port of one, and a port of the nodes a Service that has some."""
    service, gate = spec.get("service", {}), spec.get("gates", {}).get("port", 8480)
    if "nodePort" in service and service.get("type", "ClusterIP") == "ClusterIP":
        service["type"] = "NodePort"
    if "appProtocol" in service:
        service.setdefault("targetPort", next(port for port in (8443, 8444) if port != gate))


def _pod(spec: Part) -> None:
    pod, engine = spec.get("pod", {}), spec.get("engine", {})
    if "terminationGracePeriodSeconds" in pod:
        shortest = engine.get("shutdownDelaySeconds", 5) + engine.get("shutdownTimeoutSeconds", 30) + 10
        pod["terminationGracePeriodSeconds"] = max(pod["terminationGracePeriodSeconds"], shortest)
    if pod.get("containerSecurityContext", {}).get("privileged"):
        pod["containerSecurityContext"].pop("allowPrivilegeEscalation", None)
    if pod.get("hostNetwork"):
        pod.get("securityContext", {}).pop("sysctls", None)
    if "serviceAccountName" in pod:
        pod.pop("serviceAccountAnnotations", None)
    mounts = {mount["mountPath"]: mount for mount in pod.get("volumeMounts", [])}
    if mounts:  # a mount needs its volume
        volumes = pod.setdefault("volumes", [])
        names = {mount["name"] for mount in mounts.values()} - {volume["name"] for volume in volumes}
        volumes += [{"name": name, "emptyDir": {}} for name in sorted(names)]
        pod["volumeMounts"] = list(mounts.values())
        for mount in mounts.values():
            mount.update({"subPath": mount["subPath"].strip("/")} if "subPath" in mount else {})


def _gates(gates: Part) -> None:
    """Windows in their order: canary, stall, restart; none where nothing reads them."""
    windows = ("canaryIntervalSeconds", "stallWindowSeconds", "restartWindowSeconds")
    if gates.get("canary") == "Never":
        gates.pop("canaryIntervalSeconds", None)
    if gates.get("restart") == "Never":
        gates.pop("restartWindowSeconds", None)
    defaults = dict(zip(windows, (2, 6, 40), strict=True))
    if gates.keys() & defaults.keys() and gates.get("restart") != "Never":
        longest = max(gates.get(name, defaults[name]) for name in windows[:2])
        if gates.get("restartWindowSeconds", defaults["restartWindowSeconds"]) <= longest:
            gates["restartWindowSeconds"] = longest + 1
    if gates.get("canaryIntervalSeconds", 0) > gates.get("stallWindowSeconds", defaults["stallWindowSeconds"]):
        gates["stallWindowSeconds"] = gates["canaryIntervalSeconds"]
    if "longestStallWindowSeconds" in gates:
        shortest = gates.get("stallWindowSeconds", defaults["stallWindowSeconds"])
        gates["longestStallWindowSeconds"] = max(gates["longestStallWindowSeconds"], shortest)


def _autoscaling(spec: Part) -> None:
    """The autoscaler alone says how many engines there are, within its bounds; none only where something wakes one."""
    scaling = spec.get("autoscaling")
    if scaling is None:
        return
    spec.pop("replicas", None)
    if "idle" in scaling:
        scaling["minReplicas"] = 0
    elif scaling.get("minReplicas") == 0:
        scaling["minReplicas"] = 1
    least = (scaling["maxReplicas"], scaling.get("minReplicas", 1), scaling.get("fallbackReplicas", 1))
    scaling["maxReplicas"] = max(least)
    if scaling.get("targets") == {}:
        scaling["targets"] = {"waitingRequests": 3}


def _requirement(part: Part) -> None:
    """A condition on labels: some ways of comparing take values, some one number, some none."""
    if {"key", "operator"} <= part.keys() and "effect" not in part:
        if part["operator"] in {"In", "NotIn"}:
            part["values"] = [value for value in part.get("values", ()) if _LABEL.fullmatch(value)] or ["alpha"]
        elif part["operator"] in {"Gt", "Lt"}:
            part["values"] = ["4"]
        elif part["operator"] in {"Exists", "DoesNotExist"}:
            part.pop("values", None)


def _peer(part: Part) -> None:
    """Who may call: pods or addresses."""
    if isinstance(part.get("allowFrom"), list):
        for peer in part["allowFrom"]:
            if "ipBlock" in peer:
                peer.pop("podSelector", None)
                peer.pop("namespaceSelector", None)
            elif not peer:
                peer["podSelector"] = {}


def _seccomp(part: Part) -> None:
    profile = part.get("seccompProfile")
    if profile:
        if "localhostProfile" in profile:
            profile["type"] = "Localhost"
        elif profile["type"] == "Localhost":
            profile["localhostProfile"] = "profiles/vllm.json"


def _address_range(part: Part) -> None:
    if "cidr" in part and "except" in part:
        part["cidr"] = "10.0.0.0/8"


def _toleration(toleration: Part) -> None:
    if toleration.keys() & {"value", "operator"}:
        toleration.setdefault("key", "alpha")
    if "value" in toleration:
        toleration["operator"] = "Equal"
    toleration.setdefault("operator", "Exists")
    if "tolerationSeconds" in toleration:
        toleration["effect"] = "NoExecute"


def _spread(constraints: list[Part]) -> None:
    kept = {}
    for constraint in constraints:
        if "minDomains" in constraint:
            constraint["whenUnsatisfiable"] = "DoNotSchedule"
        kept[constraint["topologyKey"], constraint["whenUnsatisfiable"]] = constraint
    constraints[:] = kept.values()
