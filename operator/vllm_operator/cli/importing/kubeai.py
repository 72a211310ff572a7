"""A Model of KubeAI, and an InferenceService of KServe, as the pods that they make."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.cli.importing import scaling
from vllm_operator.cli.importing.manifests import name_of
from vllm_operator.cli.importing.workload import Workload, fit_name, texts
from vllm_operator.render.untyped import items, part

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vllm_operator.cli.importing.draft import Draft

_PROFILE: Final = re.compile(r"(?P<name>[^:]+)(?::(?P<count>\d+))?")


def is_model(document: Mapping[str, Any]) -> bool:
    """Whether a document is a Model of KubeAI that vLLM serves."""
    return document.get("kind") == "Model" and str(document.get("apiVersion")).startswith("kubeai.org/")


def model_workload(document: Mapping[str, Any]) -> Workload:
    """The pod that KubeAI makes of a Model."""
    spec = part(document, "spec")
    profile = _PROFILE.fullmatch(str(spec.get("resourceProfile") or "cpu")) or _PROFILE.match("cpu")
    name, count = (profile["name"], int(profile["count"] or 1)) if profile else ("cpu", 1)
    source = str(spec.get("url") or "")
    scheme, _, rest = source.partition("://")
    located = rest.partition("?")[0] if scheme == "hf" else source.partition("?")[0]
    env = [{"name": str(key), "value": str(value)} for key, value in part(spec, "env").items()]
    container: dict[str, Any] = {
        "name": "server",
        "image": str(spec.get("image") or ""),
        "args": ["--model", located, "--served-model-name", name_of(document), *texts(spec.get("args"))],
        "env": env,
        "envFrom": [dict(one) for one in items(spec, "envFrom")],
        "command": ["python3", "-m", "vllm.entrypoints.openai.api_server"],
    }
    resource = _resource(name)
    if resource:
        container["resources"] = {"limits": {resource: count}}
    elif "cpu" in name:
        container["env"].insert(0, {"name": "VLLM_CPU_KVCACHE_SPACE", "value": "4"}) if not _has_space(env) else None
    pod: dict[str, Any] = {"containers": [container]}
    if spec.get("priorityClassName"):
        pod["priorityClassName"] = spec["priorityClassName"]
    replicas = spec.get("replicas") or spec.get("minReplicas") or None
    return Workload(
        f"Model {name_of(document)}",
        name=fit_name(name_of(document)),
        namespace=str(part(document, "metadata").get("namespace") or ""),
        template={"spec": pod},
        replicas=replicas if isinstance(replicas, int) else None,
    )


def _has_space(env: list[dict[str, str]]) -> bool:
    return any(one["name"] == "VLLM_CPU_KVCACHE_SPACE" for one in env)


def _resource(profile: str) -> str:
    """The extended resource of a resource profile of KubeAI's own chart."""
    for word, resource in (
        ("nvidia", "nvidia.com/gpu"),
        ("amd", "amd.com/gpu"),
        ("tpu", "google.com/tpu"),
        ("gaudi", "habana.ai/gaudi"),
        ("cpu", ""),
    ):
        if word in profile.lower():
            return resource
    return "nvidia.com/gpu"


def tell_model(document: Mapping[str, Any], draft: Draft) -> None:
    """What a Model says and a VLLMModel has not, or says otherwise."""
    spec = part(document, "spec")
    adapters = [
        {"name": str(adapter.get("name")), "source": str(adapter.get("url") or "").removeprefix("hf://")}
        for adapter in items(spec, "adapters")
    ]
    draft.put(("lora", "adapters"), adapters)
    features = set(texts(spec.get("features")))
    if "TextEmbedding" in features and not draft.get("model", "runner"):
        draft.put(("model", "runner"), "pooling")
    if features - {"TextGeneration", "TextEmbedding", "Reranking"}:
        draft.lost(
            f"features {', '.join(sorted(features))}: spec.catalog.tasks tells applications what a model is for",
            "catalog",
        )
    profile = str(spec.get("resourceProfile") or "")
    if profile and "cpu" not in profile:
        draft.note(
            f"resourceProfile {profile}: which nodes it means stands in KubeAI's configuration; see spec.scheduling "
            "and spec.resources",
            "accelerator",
        )
    if not spec.get("minReplicas") and not spec.get("replicas"):
        draft.note(
            "KubeAI starts an engine when a request comes: here one is always there, unless spec.replicas is 0",
            "replicas",
        )
    _read_scaling(spec, draft)
    if spec.get("cacheProfile"):
        draft.note(
            f"cacheProfile {spec['cacheProfile']} kept the downloads in a claim of KubeAI's: here they last as long as "
            "their pod, unless spec.storage.cache.persistentVolumeClaim keeps them",
            "storage",
        )
    if part(spec, "loadBalancing"):
        draft.note("loadBalancing is left out: clients of the library balance by themselves, see docs/client.md")
    _read_files(spec, draft)


def _read_scaling(spec: Mapping[str, Any], draft: Draft) -> None:
    """Between how many engines KubeAI scales, and by what."""
    fewest, most = _whole(spec.get("minReplicas")), _whole(spec.get("maxReplicas"))
    if most > max(fewest, 1):
        down = spec.get("scaleDownDelaySeconds")
        scaling.write(draft, scaling.of_request_count(fewest, most, spec.get("targetRequests"), down))
        draft.note(
            "targetRequests: KubeAI counts the requests at its proxy, and spec.autoscaling those that the engines say "
            "they work on",
            "autoscaling",
        )


def _read_files(spec: Mapping[str, Any], draft: Draft) -> None:
    """Files that a Model puts into its pod. The one that is its chat template has a field."""
    template = draft.get("model", "chatTemplate", "path")
    for one in items(spec, "files"):
        if template and one.get("path") == template and one.get("content"):
            draft.spec["model"]["chatTemplate"] = {"inline": str(one["content"])}
            continue
        draft.lost(f"the file {one.get('path')}: put it into a ConfigMap and mount it by spec.pod.volumes", "pod")


def _whole(value: Any) -> int:
    """A number of replicas; 0 where none is told."""
    return value if isinstance(value, int) else 0


def is_inference_service(document: Mapping[str, Any]) -> bool:
    """Whether a document is an InferenceService of KServe."""
    return document.get("kind") == "InferenceService" and str(document.get("apiVersion")).startswith(
        "serving.kserve.io/"
    )


def service_workload(document: Mapping[str, Any], runtimes: Sequence[Mapping[str, Any]], draft: Draft) -> Workload:
    """The pod of an InferenceService: of its own containers, of a runtime beside it, or of KServe's own runtime."""
    predictor = part(document, "spec", "predictor")
    model = part(predictor, "model")
    containers = [dict(one) for one in items(predictor, "containers")]
    runtime = next((one for one in runtimes if name_of(one) == model.get("runtime")), {})
    if model and runtime:
        containers = _runtime_containers(document, model, runtime)
        if str(model.get("storageUri") or "").startswith("oci://"):
            draft.check(
                "KServe looks for the model in /models of the image: oci:// takes an image with it at its top",
                "model",
                "source",
            )
        own = {key: value for key, value in part(runtime, "spec").items() if key in _OF_RUNTIME}
        predictor = {**own, **predictor}
    elif model:
        containers = [_kserve_container(document, model, draft)]
    pod = {key: value for key, value in predictor.items() if key not in {"model", "containers", *_SCALING}}
    pod["containers"] = containers
    replicas = predictor.get("minReplicas")
    fewest, most = _whole(replicas), _whole(predictor.get("maxReplicas"))
    if most > max(fewest, 1) and predictor.get("scaleMetric") == "concurrency" and _whole(predictor.get("scaleTarget")):
        scaling.write(draft, scaling.of_request_count(fewest, most, predictor["scaleTarget"]))
        replicas = None
    elif most > max(fewest, 1):
        draft.lost("maxReplicas: a HorizontalPodAutoscaler of your own scales the VLLMModel", "replicas")
    return Workload(
        f"InferenceService {name_of(document)}",
        name=fit_name(name_of(document)),
        namespace=str(part(document, "metadata").get("namespace") or ""),
        template={"spec": pod},
        replicas=replicas if isinstance(replicas, int) else None,
    )


_SCALING: Final = (
    "minReplicas",
    "maxReplicas",
    "scaleTarget",
    "scaleMetric",
    "timeout",
    "deploymentStrategy",
    "canaryTrafficPercent",
)


_OF_RUNTIME: Final = ("volumes", "tolerations", "nodeSelector", "affinity", "imagePullSecrets")
_MODEL_FOLDER: Final = "/mnt/models"
"""Where KServe puts what `storageUri` names."""


def _runtime_containers(
    document: Mapping[str, Any], model: Mapping[str, Any], runtime: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The containers of a ServingRuntime as KServe merges them with what the service says of its model."""
    found = [dict(one) for one in items(part(runtime, "spec"), "containers")]
    engine = next((one for one in found if one.get("name") == "kserve-container"), found[0] if found else {})
    source = _source(str(model.get("storageUri") or ""))
    for field in ("command", "args"):
        given = [*texts(engine.get(field)), *(texts(model.get("args")) if field == "args" else [])]
        engine[field] = [_filled(word, name_of(document), source) for word in given]
    engine["env"] = [*items(engine, "env"), *items(model, "env")]
    engine["resources"] = {
        section: {**part(engine, "resources", section), **part(model, "resources", section)}
        for section in ("requests", "limits")
    }
    return found


def _filled(word: str, name: str, source: str) -> str:
    """A word of a runtime with the service's name and model in it."""
    named = word.replace("{{.Name}}", name).replace("{{ .Name }}", name)
    return re.sub(rf"{_MODEL_FOLDER}/?(?=$|[\s\"'])", source, named) if source else named


def _source(storage: str) -> str:
    return storage if storage.startswith(("pvc://", "oci://", "s3://", "gs://")) else storage.removeprefix("hf://")


_OF_KSERVE: Final = frozenset({"--model-id", "--model-name", "--backend", "--task"})


def _joined(words: list[str]) -> list[str]:
    """The words with each argument of KServe's own and its value as one word."""
    found: list[str] = []
    for word in words:
        if found and found[-1].replace("_", "-") in _OF_KSERVE:
            found[-1] += f"={word}"
        else:
            found.append(word)
    return found


def _kserve_container(document: Mapping[str, Any], model: Mapping[str, Any], draft: Draft) -> dict[str, Any]:
    """The container of KServe's Hugging Face runtime, which takes vLLM's arguments beside its own."""
    words: list[str] = []
    given = _joined(texts(model.get("args")))
    source = _source(str(model.get("storageUri") or ""))
    named = name_of(document)
    for word in given:
        name, _, value = word.partition("=")
        plain = name.replace("_", "-")
        if plain == "--model-id":
            source = value
        elif plain == "--model-name":
            named = value
        elif plain in {"--backend", "--task"}:
            draft.note(f"{word} is left out: it chooses KServe's backend")
        else:
            words.append(word)
    draft.note(
        "the image of KServe's runtime holds a server of its own: spec.engine.image is that of the profile", "engine"
    )
    return {
        "name": "kserve-container",
        "command": ["vllm", "serve", source, "--served-model-name", named],
        "args": words,
        "env": [dict(one) for one in items(model, "env")],
        "resources": dict(part(model, "resources")),
    }
