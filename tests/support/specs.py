"""Valid specs, as they stand in YAML, made of the schema that the types generate: a new field takes part by itself.

    specs(), chosen(chance)         a hypothesis strategy: many fields set, in ways that agree with each other
    setting("engine.seed")          the smallest spec that sets a field
    field_paths()                   every field: `engine.env[].name`, `resources.limits`

A value is one of a few samples: those of FORMS where a text has a form that the schema does not tell, otherwise what of
NUMBERS and TEXTS fits the schema. `agreeing` then does what the rules between fields ask for, and what the API server
asks for of the children.
"""

from __future__ import annotations

import copy
import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from hypothesis import strategies as st

from tests.support.agreement import OLD_VERSION, ONE_OF, agreeing
from vllm_operator.api.crd import crd

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Mapping, Sequence

T = TypeVar("T")
Node = dict[str, Any]
"""A schema."""

SCHEMA: Final[Node] = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]

NUMBERS: Final = (0.0625, 0.5, 1, 2, 3, 16, 100, 512, 4096, 100000)
TEXTS: Final = (
    "alpha",
    "beta-2",
    "gamma",
    "A_B",
    "32k",
    "8G",
    "auto",
    "/data/alpha",
    "/data/beta",
    "16Gi",
    "1.5Gi",
    "50%",
)
VARIANTS: Final = 3
"""How many values of a field are tried one by one."""

KEYS: Final = ("alpha", "example.com/beta", "gamma")
"""Of maps; their keys have no schema."""

_SOURCES: Final = (
    "org/tiny",
    "hf://org/other",
    "pvc://weights/llama/8b",
    "pvc://weights",
    "oci://registry.example.com/llama:8b",
    "oci://registry.example.com/llama",
    "s3://bucket/llama",
    "gs://bucket/llama/",
    "/models/llama",
)
_SECRET_VOLUME: Final = {"name": "certificates", "secret": {"secretName": "ca", "defaultMode": 256}}

FORMS: Final[dict[str, tuple[Any, ...]]] = {
    "model.source": _SOURCES,
    "model.tokenizer": _SOURCES,
    "engine.version": ("0.32.0", "v0.33.0", OLD_VERSION),
    "engine.speculativeDecoding.model": ("org/draft", "pvc://drafts/tiny", "/models/draft"),
    "engine.speculativeDecoding.method": ("ngram", "eagle3"),
    "engine.speculativeDecoding.extraConfig": (
        {"draft_sample_method": "probabilistic"},
        {"num_speculative_tokens_per_batch_size": [[1, 4, 5]], "enforce_eager": True},
    ),
    "engine.kvCacheDtype": ("fp8", "auto", "bfloat16"),
    "engine.kvTransferConfig": (
        {"kv_connector": "NixlConnector", "kv_role": "kv_both"},
        {"kv_connector": "LMCacheConnectorV1", "kv_role": "kv_consumer", "kv_connector_extra_config": {"a": [1, "b"]}},
    ),
    "engine.kvEventsConfig": (
        {"enable_kv_cache_events": True, "publisher": "zmq", "endpoint": "tcp://*:5557"},
        {"enable_kv_cache_events": True, "topic": "kv@pod"},
    ),
    "engine.compilationConfig": (
        {"cache_dir": "/data/alpha"},
        {"custom_ops": ["none"], "cudagraph_capture_sizes": [1, 2]},
    ),
    "model.hfOverrides": ({"max_position_embeddings": 4096}, {"rope_scaling": {"rope_type": "yarn", "factor": 4.5}}),
    "model.loaderExtraConfig": ({"concurrency": 16}, {"enable_multithread_load": True, "num_threads": 8}),
    "engine.attentionBackend": ("FLASH_ATTN", "TRITON_ATTN"),
    "parallelism.all2allBackend": ("deepep_low_latency", "pplx"),
    "model.chatTemplate.path": ("/data/alpha", "examples/beta-2.jinja"),
    "engine.multimodalLimits": ({"image": 4}, {"image": 0, "video": 2}),
    "engine.extraArgs": (
        ["--max-logprobs", "7"],
        ["--stream-interval=2", "--enable-prompt-tokens-details"],
        ["--generation-config", "vllm"],
    ),
    "engine.env[].name": ("ALPHA", "HF_HUB_OFFLINE", "beta.2"),
    "engine.env[].valueFrom.fieldRef.apiVersion": ("v1",),
    "engine.env[].valueFrom.fieldRef.fieldPath": ("metadata.name", "status.podIP", "spec.nodeName"),
    "engine.env[].valueFrom.resourceFieldRef.containerName": ("vllm",),
    "engine.env[].valueFrom.resourceFieldRef.resource": ("limits.memory", "requests.memory"),
    "engine.env[].valueFrom.resourceFieldRef.divisor": ("1Mi", "1"),
    "engine.envFrom[].prefix": ("A_", "B_"),
    "model.chatTemplate.inline": ("{{ messages }}", "{% for one in messages %}{{ one.content }}{% endfor %}"),
    "lora.adapters[].name": ("sql", "legal,v2", '"quoted"'),
    "lora.adapters[].source": ("org/adapter", "hf://org/adapter", "pvc://adapters/sql", "/models/adapter"),
    "parallelism.nodes": (1,),
    "accelerator.count": (0, 1),
    "accelerator.resourceClaims[].request": ("gpu", "gpu/fast"),
    "accelerator.resourceClaims[].selectors": (
        ["device.driver == 'gpu.example.com'"],
        ["device.attributes['gpu.example.com'].model == 'H100'", "'gpu.example.com' in device.capacity"],
    ),
    "accelerator.resource": ("nvidia.com/mig-1g.5gb", "example.com/npu"),
    "resources.requests": ({"cpu": "500m"}, {"cpu": 2, "memory": "4Gi"}),
    "resources.limits": ({"memory": "32Gi"}, {"cpu": "4000m", "memory": "64Gi", "ephemeral-storage": "10Gi"}),
    "storage.cache.persistentVolumeClaim.accessModes": (
        ["ReadWriteMany"],
        ["ReadWriteOncePod"],
        ["ReadWriteOnce", "ReadWriteMany"],
    ),
    "scheduling.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[].matchFields": (
        [{"key": "metadata.name", "operator": "In", "values": ["node-1"]}],
        [{"key": "metadata.name", "operator": "NotIn", "values": ["node-2"]}],
    ),
    "scheduling.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[].preference.matchFields": (
        [{"key": "metadata.name", "operator": "NotIn", "values": ["node-1"]}],
        [{"key": "metadata.name", "operator": "In", "values": ["node-2"]}],
    ),
    "scheduling.topologySpreadConstraints[].matchLabelKeys": (["pod-template-hash"],),
    "pod.securityContext.seccompProfile.localhostProfile": ("profiles/vllm.json", "profiles/strict.json"),
    "pod.containerSecurityContext.seccompProfile.localhostProfile": ("profiles/vllm.json", "profiles/strict.json"),
    "pod.securityContext.sysctls": (
        [{"name": "net.core.somaxconn", "value": "1024"}],
        [{"name": "net.ipv4.tcp_syncookies", "value": "1"}],
    ),
    "pod.containerSecurityContext.capabilities.add": (["SYS_PTRACE"], ["IPC_LOCK", "SYS_NICE"]),
    "pod.containerSecurityContext.capabilities.drop": (["ALL"], ["NET_RAW"]),
    "pod.volumes": (
        [{"name": "scratch", "emptyDir": {"sizeLimit": "1024Mi"}}],
        [_SECRET_VOLUME, {"name": "data", "persistentVolumeClaim": {"claimName": "data", "readOnly": True}}],
    ),
    "pod.initContainers": (
        [{"name": "fetch", "image": "fetch:1", "command": ["fetch"], "env": [{"name": "A", "value": "1"}]}],
        [{"name": "wait", "image": "wait:2", "volumeMounts": [{"name": "home", "mountPath": "/home/vllm"}]}],
    ),
    "pod.terminationGracePeriodSeconds": (600, 7200),
    "pod.sidecars": (
        [{"name": "proxy", "image": "proxy:1", "ports": [{"containerPort": 9090}]}],
        [{"name": "logs", "image": "logs:1", "resources": {"limits": {"cpu": "0.5"}}}],
    ),
    "pod.patch": (
        {"spec": {"dnsPolicy": "Default"}},
        {"metadata": {"annotations": {"example.com/patched": "yes"}}},
        {"spec": {"containers": [{"name": "vllm", "stdin": True, "env": [{"name": "PATCHED", "value": "1"}]}]}},
    ),
    "service.nodePort": (30080, 30081),
    "ingress.host": ("llm.example.com", "*.example.com", "alpha"),
    "network.allowFrom[].ipBlock.cidr": ("10.0.0.0/8", "2001:db8::/32"),
    "network.allowFrom[].ipBlock.except": (["10.1.0.0/16"],),
    "autoscaling.idle.query": ('sum(rate(gateway_requests_total{model="qwen"}[1m]))', "gateway_queue"),
    "autoscaling.prometheus.serverAddress": ("http://prometheus.monitoring:9090", "https://thanos.example.com/team"),
    "autoscaling.prometheus.authentication.modes": (["bearer"], ["basic", "tls"]),
    "autoscaling.prometheus.labels": ({"job": "team/qwen"}, {"cluster": "a", "kubernetes_namespace": "team"}),
}
"""Values of fields whose form the schema does not tell, or not all of it."""


HAD_BY_ONE: Final = frozenset({"service.nodePort"})
"""Fields of whose values each is had by one object of a cluster: only who aims at them sets them."""


class Chooser(Protocol):
    """Who decides what stands in a spec."""

    def wants(self, path: str) -> bool:
        """Whether an optional field, or one more item of a list, is there."""

    def pick(self, path: str, samples: Sequence[T]) -> T:
        """One of them."""


def specs() -> st.SearchStrategy[dict[str, Any]]:
    """Valid specs. A third of the optional fields of each part is set."""
    return st.composite(lambda draw: agreeing(_object(SCHEMA, "", _Drawn(draw))))()


def chosen(chance: random.Random) -> dict[str, Any]:
    """A valid spec of the same kind, without hypothesis: much faster, and nothing finds a smaller one."""
    return agreeing(_object(SCHEMA, "", _Tossed(chance)))


def setting(path: str, variant: int = 0) -> dict[str, Any]:
    """The smallest spec that sets a field, and to another value for each variant where there are several."""
    return agreeing(_object(SCHEMA, "", _Aimed(path, variant)))


def edits(path: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Pairs of specs that differ in one field: without it, or with another value, and with it."""
    name = path.rpartition(".")[2]
    group = ONE_OF.get(path.rpartition(".")[0].rpartition(".")[2], ())
    others = [f"{path.removesuffix(name)}{other}" for other in group if name in group and other != name]
    before = setting(others[0]) if others else _without(setting(path), path)
    values = [setting(path, variant) for variant in range(VARIANTS)]
    return [(one, other) for one, other in [*((before, value) for value in values), *pairwise(values)] if one != other]


def _without(spec: dict[str, Any], path: str) -> dict[str, Any]:
    parent, _, name = path.rpartition(".")
    holder = value_at(spec, parent)
    if name in (_node(parent) if parent else SCHEMA).get("required", ()):
        holder[name] = next(value for value in _known(path) if value != holder[name])
    else:
        holder.pop(name, None)
    return spec


def _known(path: str) -> Sequence[Any]:
    if path in FORMS:
        return FORMS[path]
    node = schema_at(path)
    return [[], *([value] for value in samples(node["items"], path))] if "items" in node else samples(node, path)


def _node(path: str) -> Node:
    node = schema_at(path.removesuffix("[]"))
    found: Node = node["items"] if path.endswith("[]") else node
    return found


def leaf_paths() -> list[str]:
    """Every field that holds a value, and no fields of its own."""
    return [path for path, node in _fields(SCHEMA, "") if not {*node, *node.get("items", ())} & {"properties"}]


def field_paths() -> list[str]:
    """Every field of the spec."""
    return [path for path, _ in _fields(SCHEMA, "")]


def schema_at(path: str) -> Node:
    """Schema of a field."""
    return dict(_fields(SCHEMA, ""))[path]


def _fields(node: Node, path: str) -> Iterator[tuple[str, Node]]:
    for name, field in node.get("properties", {}).items():
        here = _below(path, name)
        yield here, field
        yield from _fields(field, here)
    if "items" in node:
        yield from _fields(node["items"], f"{path}[]")


class _Drawn:
    """Chooses as hypothesis says."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw

    def wants(self, path: str) -> bool:
        return path not in HAD_BY_ONE and self._draw(st.sampled_from([False, False, True]))

    def pick(self, path: str, samples: Sequence[T]) -> T:  # noqa: ARG002
        return self._draw(st.sampled_from(samples))


class _Tossed:
    """Chooses by chance."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def wants(self, path: str) -> bool:
        return path not in HAD_BY_ONE and self._chance.randrange(3) == 0

    def pick(self, path: str, samples: Sequence[T]) -> T:  # noqa: ARG002
        return self._chance.choice(samples)


class _Aimed:
    """Chooses what it takes to set one field, and nothing else."""

    def __init__(self, path: str, variant: int) -> None:
        self._path = path
        self._variant = variant

    def wants(self, path: str) -> bool:
        return self._path == path or self._path.startswith((f"{path}.", f"{path}["))

    def pick(self, path: str, samples: Sequence[T]) -> T:
        aimed_at = path in {self._path, f"{self._path}[]"} or self._path.startswith(f"{path}[")
        return samples[self._variant % len(samples) if aimed_at else 0]


def _object(node: Node, path: str, chooser: Chooser) -> dict[str, Any]:
    """A map with fields of its own: the required ones, those that are wanted, and exactly one of an exclusive group."""
    group = [name for name in ONE_OF.get(path.rpartition(".")[2], ()) if name in node["properties"]]
    chosen = next((name for name in group if chooser.wants(_below(path, name))), group[0] if group else "")
    made = {}
    for name, field in node["properties"].items():
        here = _below(path, name)
        there = name == chosen if name in group else name in node.get("required", ()) or chooser.wants(here)
        if there:
            made[name] = _value(field, here, chooser)
    return made


def _value(node: Node, path: str, chooser: Chooser) -> Any:
    if path in FORMS:
        return copy.deepcopy(chooser.pick(path, FORMS[path]))
    if "properties" in node:
        return _object(node, path, chooser)
    if node.get("type") == "array":
        return _list(node, path, chooser)
    if "additionalProperties" in node:
        return {key: _value(node["additionalProperties"], f"{path}{{}}", chooser) for key in _keys(path, chooser)}
    return chooser.pick(path, samples(node, path))


def _keys(path: str, chooser: Chooser) -> list[str]:
    return [KEYS[0], *(key for key in KEYS[1:] if chooser.wants(f"{path}{{}}"))]


def _list(node: Node, path: str, chooser: Chooser) -> list[Any]:
    """One item or more; none where that is allowed and nobody aims at what is in them."""
    more = [_value(node["items"], f"{path}[]", chooser) for _ in range(2) if chooser.wants(f"{path}[]")]
    items = more if more and not node.get("minItems") else [_value(node["items"], f"{path}[]", chooser), *more]
    keys = node.get("x-kubernetes-list-map-keys", ())
    known = {tuple(item[key] for key in keys) if keys else str(item): item for item in items}
    return list(known.values())


def samples(node: Node, path: str) -> list[Any]:
    """Values of a simple field, each different from its default.

    Raises:
        LookupError: none is known that fits; FORMS, NUMBERS or TEXTS must get one.
    """
    kind = node.get("type")
    if "enum" in node:
        found: list[Any] = list(node["enum"])
    elif kind == "boolean":
        found = [True, False]
    else:
        found = [*_numbers(node), *_texts(node)]
    found = [value for value in found if value != node.get("default")]
    if not found:
        raise LookupError(f"{path}: no sample fits {node}: give it one in {__name__}")
    return found


def _numbers(node: Node) -> list[float]:
    kind = node.get("type")
    if kind == "string":
        return []
    found = [number for number in NUMBERS if kind == "number" or isinstance(number, int)]
    low, high = node.get("minimum", 0), node.get("maximum", found[-1])
    return [number for number in found if low <= number <= high]


def _texts(node: Node) -> list[str]:
    if node.get("type") in {"integer", "number"}:
        return []
    fitting = [text for text in TEXTS if re.fullmatch(node.get("pattern", ".*"), text)]
    return [text for text in fitting if len(text) <= node["maxLength"]]


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def value_at(spec: Mapping[str, Any], path: str) -> Any:
    """What stands at a path, of the first item where a list is on the way; None where nothing does."""
    found: Any = spec
    for step in path.replace("[]", ".0").split(".") if path else ():
        if isinstance(found, list):
            found = found[0] if found else None
        elif isinstance(found, dict):
            found = found.get(step)
        else:
            return None
    return found
