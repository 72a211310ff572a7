"""A values file of the Helm chart of vllm-project/production-stack: each model of it, as the chart renders it.

What the chart makes of which value is that of its template deployment-vllm-multi.yaml, read in November 2026.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.vllm_releases import Version
from vllm_operator.cli.importing import helm_cache, scaling
from vllm_operator.cli.importing.arguments import TRUE
from vllm_operator.cli.importing.manifests import ingress_of, is_simple
from vllm_operator.cli.importing.release_arguments import version_told
from vllm_operator.cli.importing.workload import Workload, fit_name, texts
from vllm_operator.render.untyped import items, part

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vllm_operator.cli.importing.draft import Draft

_DATA: Final = "/data"
_ARGUMENTS: Final = {
    "maxModelLen": "--max-model-len",
    "dtype": "--dtype",
    "tensorParallelSize": "--tensor-parallel-size",
    "pipelineParallelSize": "--pipeline-parallel-size",
    "maxNumSeqs": "--max-num-seqs",
    "gpuMemoryUtilization": "--gpu-memory-utilization",
    "maxLoras": "--max-loras",
}
_ONE_ENGINE: Final = Version((0, 11, 0), "0.11.0")
"""The first vLLM without the engine V0."""
_KNOWN_OF_ENGINE: Final = frozenset(
    {"enableChunkedPrefill", "enablePrefixCaching", "extraArgs", "prometheusMultiprocDir", "v0", "v1"}
)
_KNOWN: Final = frozenset(
    {
        *(
            "name",
            "repository",
            "tag",
            "modelURL",
            "replicaCount",
            "requestCPU",
            "requestMemory",
            "requestGPU",
            "limitCPU",
        ),
        *(
            "limitMemory",
            "requestGPUType",
            "pvcStorage",
            "pvcAccessMode",
            "storageClass",
            "pvcMatchLabels",
            "vllmConfig",
        ),
        *(
            "lmcacheConfig",
            "hf_token",
            "env",
            "nodeSelectorTerms",
            "nodeName",
            "nodeSelector",
            "tolerations",
            "affinity",
        ),
        *(
            "enableTool",
            "toolCallParser",
            "chatTemplate",
            "chatTemplateConfigMap",
            "enableLoRA",
            "shmSize",
            "annotations",
        ),
        *(
            "podAnnotations",
            "priorityClassName",
            "serviceAccountName",
            "extraVolumes",
            "extraVolumeMounts",
            "initContainer",
        ),
        *("imagePullSecret", "runtimeClassName", "schedulerName", "raySpec", "keda", "pdb", "sidecars", "extraPorts"),
        *(
            "labels",
            "podLabels",
            "pvcLabels",
            "pvcAnnotations",
            "requestGPUMem",
            "requestGPUMemPercentage",
            "limitGPUMem",
        ),
        *(
            "limitGPUMemPercentage",
            "requestGPUCores",
            "limitGPUCores",
            "imagePullPolicy",
            "livenessProbe",
            "startupProbe",
        ),
    }
)


def is_values(value: Any) -> bool:
    """Whether a document is a values file of the chart."""
    return isinstance(value, dict) and "kind" not in value and bool(items(value, "servingEngineSpec", "modelSpec"))


def models_of(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The models of a values file."""
    return [dict(model) for model in items(values, "servingEngineSpec", "modelSpec")]


def workload_of(values: Mapping[str, Any], model: Mapping[str, Any]) -> Workload:
    """The pod that the chart makes of a model."""
    engine = part(values, "servingEngineSpec")
    container: dict[str, Any] = {
        "name": "vllm",
        "image": _image(model),
        "command": ["vllm", "serve", str(model.get("modelURL") or ""), *_arguments(model)],
        "env": list(_environment(engine, model)),
        "resources": _resources(model),
        "securityContext": dict(part(engine, "containerSecurityContext")),
    }
    policy = model.get("imagePullPolicy") or engine.get("imagePullPolicy")
    if policy:
        container["imagePullPolicy"] = policy
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        probe = part(model, name) or part(engine, name)
        if probe:
            container[name] = dict(probe)
    pod: dict[str, Any] = {"containers": [container], **_placing(engine, model)}
    _volumes(model, container, pod)
    if part(engine, "configs"):
        container["env"] = [
            *({"name": k, "value": str(v)} for k, v in part(engine, "configs").items()),
            *container["env"],
        ]
    metadata = {"annotations": dict(part(model, "podAnnotations")), "labels": dict(part(model, "podLabels"))}
    claims: dict[str, dict[str, Any]] = {}
    if model.get("pvcStorage"):
        claims["storage"] = {
            "resources": {"requests": {"storage": str(model["pvcStorage"])}},
            "storageClassName": model.get("storageClass") or None,
            "accessModes": model.get("pvcAccessMode") or ["ReadWriteOnce"],
        }
    replicas = model.get("replicaCount")
    return Workload(
        f"model {model.get('name')}",
        name=fit_name(str(model.get("name") or "")),
        template={"metadata": metadata, "spec": pod},
        replicas=replicas if isinstance(replicas, int) else None,
        shared_memory=str(model.get("shmSize") or ""),
        claims=claims,
        shares_claims=True,
    )


def _image(model: Mapping[str, Any]) -> str:
    repository, tag = str(model.get("repository") or ""), str(model.get("tag") or "")
    return f"{repository}:{tag}" if tag else repository


def _arguments(model: Mapping[str, Any]) -> Iterator[str]:
    config = part(model, "vllmConfig")
    if model.get("enableLoRA"):
        yield "--enable-lora"
    if model.get("enableTool"):
        yield "--enable-auto-tool-choice"
    if model.get("toolCallParser"):
        yield from ("--tool-call-parser", str(model["toolCallParser"]))
    for key, flag in (
        ("enableChunkedPrefill", "enable-chunked-prefill"),
        ("enablePrefixCaching", "enable-prefix-caching"),
    ):
        if key in config:
            yield f"--{flag}" if config[key] else f"--no-{flag}"
    for key, flag in _ARGUMENTS.items():
        if config.get(key) not in (None, ""):
            yield from (flag, str(config[key]))
    extra = config.get("extraArgs")
    yield from texts(extra)
    yield from helm_cache.arguments(model)
    if model.get("chatTemplate"):
        yield from ("--chat-template", f"/templates/{model['chatTemplate']}")


def _environment(engine: Mapping[str, Any], model: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    token, key = model.get("hf_token"), engine.get("vllmApiKey")
    for name, value in (("HF_TOKEN", token), ("VLLM_API_KEY", key)):
        if isinstance(value, dict):
            reference = {"name": value.get("secretName"), "key": value.get("secretKey")}
            yield {"name": name, "valueFrom": {"secretKeyRef": reference}}
        elif value:
            yield {"name": name, "value": str(value)}
    yield from _choice_of_engine(model)
    yield from (dict(variable) for variable in items(model, "env"))
    yield from helm_cache.environment(model)


def _choice_of_engine(model: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The variable by which older releases choose between their two engines; newer ones have one."""
    version, wanted = version_told(_image(model)), _engine_wanted(model)
    if wanted and (version < _ONE_ENGINE if version else wanted == "0"):
        yield {"name": "VLLM_USE_V1", "value": wanted}


def _engine_wanted(model: Mapping[str, Any]) -> str:
    """`1` for the engine V1, `0` for V0; empty where nothing is said."""
    config = part(model, "vllmConfig")
    for name, wanted in (("v0", "0"), ("v1", "1")):
        if name in config:
            on = str(config[name]).lower() in TRUE
            return wanted if on else str(1 - int(wanted))
    return ""


def _tell_engine_config(model: Mapping[str, Any], draft: Draft) -> None:
    """What vllmConfig says and nothing carries over."""
    config, version, wanted = part(model, "vllmConfig"), version_told(_image(model)), _engine_wanted(model)
    if wanted == "0" and version is None:
        draft.check(
            f"VLLM_USE_V1=0: from vLLM {_ONE_ENGINE} on there is no other engine than V1, and the image's "
            "name does not tell which vLLM it is",
            "engine",
            "env",
        )
    elif wanted and (version is None or version >= _ONE_ENGINE):
        draft.note(f"VLLM_USE_V1={wanted} is left out: vLLM has the one engine V1 from {_ONE_ENGINE} on")
    if "prometheusMultiprocDir" in config:
        draft.note("vllmConfig.prometheusMultiprocDir is left out: vLLM makes a folder of its own for its metrics")
    for key in sorted(map(str, set(config) - set(_ARGUMENTS) - _KNOWN_OF_ENGINE)):
        draft.lost(f"vllmConfig.{key}: has no counterpart here")


def _resources(model: Mapping[str, Any]) -> dict[str, Any]:
    requests: dict[str, Any] = {}
    limits: dict[str, Any] = {}
    for section, prefix in ((requests, "request"), (limits, "limit")):
        for name, key in (("cpu", "CPU"), ("memory", "Memory")):
            if model.get(f"{prefix}{key}") not in (None, ""):
                section[name] = model[f"{prefix}{key}"]
    count = model.get("requestGPU")
    if count:
        limits[str(model.get("requestGPUType") or "nvidia.com/gpu")] = count
    return {"requests": requests, "limits": limits}


def _placing(engine: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    terms = items(model, "nodeSelectorTerms")
    affinity = dict(part(model, "affinity")) or dict(part(engine, "affinity"))
    if terms:
        required = {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [dict(one) for one in terms]}
        }
        affinity = {**affinity, "nodeAffinity": required}
    given = {
        "affinity": affinity,
        "nodeSelector": dict(part(model, "nodeSelector")) or dict(part(engine, "nodeSelector")),
        "tolerations": model.get("tolerations") or engine.get("tolerations"),
        "runtimeClassName": model.get("runtimeClassName") or engine.get("runtimeClassName"),
        "schedulerName": model.get("schedulerName") or engine.get("schedulerName"),
        "priorityClassName": model.get("priorityClassName"),
        "serviceAccountName": model.get("serviceAccountName"),
        "securityContext": dict(part(engine, "securityContext")),
    }
    pod = {name: value for name, value in given.items() if value}
    if model.get("nodeName"):
        pod["nodeName"] = model["nodeName"]
    if model.get("imagePullSecret"):
        pod["imagePullSecrets"] = [{"name": model["imagePullSecret"]}]
    return pod


def _volumes(model: Mapping[str, Any], container: dict[str, Any], pod: dict[str, Any]) -> None:
    mounts = [dict(one) for one in items(model, "extraVolumeMounts")]
    volumes = [dict(one) for one in items(model, "extraVolumes")]
    if model.get("pvcStorage"):
        container["env"].insert(0, {"name": "HF_HOME", "value": _DATA})
        mounts.insert(0, {"name": "storage", "mountPath": _DATA})
    if model.get("chatTemplate"):
        name = str(model.get("chatTemplateConfigMap") or "chat-templates")
        volumes.append({"name": "templates", "configMap": {"name": name}})
        mounts.append({"name": "templates", "mountPath": "/templates"})
    init = part(model, "initContainer")
    if init:
        one = {key: value for key, value in init.items() if key not in {"mountPvcStorage", "extraVolumeMounts"}}
        one["volumeMounts"] = [dict(mount) for mount in items(init, "extraVolumeMounts")]
        if init.get("mountPvcStorage") and model.get("pvcStorage"):
            one["volumeMounts"].insert(0, {"name": "storage", "mountPath": _DATA})
        pod["initContainers"] = [one]
    container["volumeMounts"], pod["volumes"] = mounts, volumes


def _read_keda(keda: Mapping[str, Any], draft: Draft) -> None:
    """The ScaledObject that the chart makes."""
    if keda.get("enabled") is False:
        return
    found = scaling.of_scaled_object(keda)
    if found:
        scaling.write(draft, found)
        draft.note("keda: spec.autoscaling makes a ScaledObject instead", "autoscaling")
        scaling.tell_unsaid(draft, keda)
    else:
        draft.lost("keda: an autoscaler of your own scales the VLLMModel")


def tell(values: Mapping[str, Any], model: Mapping[str, Any], draft: Draft) -> None:
    """What the chart has and a VLLMModel has not."""
    _tell_engine_config(model, draft)
    helm_cache.tell(model, draft)
    if part(model, "raySpec"):
        draft.lost("raySpec: an engine over several nodes is not imported: set spec.parallelism.nodes")
    if part(model, "chatTemplateConfigMap") or (model.get("chatTemplate") and not model.get("chatTemplateConfigMap")):
        draft.check(
            "the chart keeps its chat templates on a claim: put this one into a ConfigMap", "model", "chatTemplate"
        )
    if part(values, "servingEngineSpec", "strategy").get("type") == "Recreate":
        draft.put(("rollout", "strategy"), "Recreate")
    if part(model, "keda"):
        _read_keda(part(model, "keda"), draft)
    for key in sorted(set(model) - _KNOWN):
        draft.lost(f"modelSpec.{key}: has no counterpart here")
    _tell_router(values, draft)
    if part(values, "cacheserverSpec"):
        draft.lost("cacheserverSpec: the cache server of LMCache is a Deployment of its own")


def _tell_router(values: Mapping[str, Any], draft: Draft) -> None:
    """The router of the chart, and the Ingress that leads to it."""
    router = part(values, "routerSpec")
    if not router or router.get("enableRouter") is False:
        return
    draft.note("the router of the chart is no part of a VLLMModel: clients call the model's Service")
    if not part(router, "ingress").get("enabled"):
        return
    document = _ingress(part(router, "ingress"))
    if len(models_of(values)) > 1 or not is_simple(document):
        draft.lost("routerSpec.ingress: it leads to the router: make an Ingress of your own, or set spec.ingress")
        return
    draft.put(("ingress",), ingress_of(document))
    draft.note("routerSpec.ingress: spec.ingress leads to the model instead", "ingress")
    unset = re.search(r"\$\{(\w+)\}", str(document))
    if unset:
        told = f"nobody has filled in ${{{unset[1]}}}: put the host here, or --set {unset[1]}=VALUE"
        draft.check(told, "ingress", "host")


def _ingress(given: Mapping[str, Any]) -> dict[str, Any]:
    """The Ingress that the chart makes of `ingress`."""
    rules = [
        {
            "host": one.get("host"),
            "http": {"paths": [{"path": path.get("path") or "/"} for path in items(one, "paths")]},
        }
        for one in items(given, "hosts")
    ]
    spec = {
        "ingressClassName": given.get("className"),
        "rules": rules,
        "tls": [dict(one) for one in items(given, "tls")],
    }
    return {"metadata": {"annotations": dict(part(given, "annotations"))}, "spec": spec}
