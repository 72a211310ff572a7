"""What the API server refuses and in which words: for each rule a spec that holds it, and one like it that does not."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from vllm_operator.api.spec.arguments import UNSUITED

Spec = dict[str, Any]

SOURCE: Final[Spec] = {"source": "org/tiny"}
GPU: Final[Spec] = {"nvidia.com/gpu": 1}
KEY: Final[Spec] = {"name": "a", "key": "b"}


class Constraint(NamedTuple):
    """A case of one rule."""

    accepted: Spec
    refused: Spec
    message: str
    """The beginning of what the user reads, and of the rule's own message if `rule` does not say another one."""
    rule: str = ""
    """The beginning of the message of a rule that makes its own text out of the values."""


def model(**fields: Any) -> Spec:
    """A spec with fields of the model."""
    return {"model": {**SOURCE, **fields}}


def source(text: str, **fields: Any) -> Spec:
    """A spec of a source."""
    return {"model": {"source": text, **fields}}


def engine(**fields: Any) -> Spec:
    """A spec with fields of the engine."""
    return {"engine": fields}


def pod(**fields: Any) -> Spec:
    """A spec with fields of the pod."""
    return {"pod": fields}


def draft(**fields: Any) -> Spec:
    """A spec with speculative decoding."""
    return engine(speculativeDecoding={"numSpeculativeTokens": 3, **fields})


def claims(*entries: Spec) -> Spec:
    """A spec with claims of devices."""
    return {"accelerator": {"resourceClaims": list(entries)}}


def claimed(**fields: Any) -> Spec:
    """A spec with a claim of devices beside other fields of the accelerator."""
    return {"accelerator": {"resourceClaims": [{"name": "a", "deviceClassName": "gpu"}], **fields}}


def variable(**fields: Any) -> Spec:
    """A spec with an environment variable."""
    return engine(env=[{"name": "A", **fields}])


def adapter(text: str, name: str = "a") -> Spec:
    """A spec with an adapter."""
    return {"lora": {"adapters": [{"name": name, "source": text}]}}


def updates(**fields: Any) -> Spec:
    """A spec whose adapters change at run time."""
    return {"lora": {"runtimeUpdates": True, **fields}}


def cache(**fields: Any) -> Spec:
    """A spec with a cache."""
    return {"storage": {"cache": fields}}


FILLED: Final[Spec] = cache(existingClaim="a", prefetch={})
"""A claim that a Job fills."""


def claim(**fields: Any) -> Spec:
    """A spec whose cache is a claim."""
    return cache(persistentVolumeClaim={"size": "10Gi", **fields})


def callers(**fields: Any) -> Spec:
    """A spec that says who may call."""
    return {"network": {"allowFrom": [fields]}}


def labelled(condition: Spec) -> Spec:
    """A spec with a condition on labels."""
    return callers(podSelector={"matchExpressions": [{"key": "a", **condition}]})


def on_nodes(condition: Spec) -> Spec:
    """A spec with a condition on nodes."""
    term = {"matchExpressions": [{"key": "a", **condition}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    return {"scheduling": {"affinity": {"nodeAffinity": required}}}


def gates(**fields: Any) -> Spec:
    """A spec with fields of the gates."""
    return {"gates": fields}


def catalog(**fields: Any) -> Spec:
    """A spec with fields of the catalogue."""
    return {"catalog": fields}


def scaling(**fields: Any) -> Spec:
    """A spec with an autoscaler."""
    return {"autoscaling": {"maxReplicas": 4, **fields}}


def words(*found: str) -> Spec:
    """A spec with further arguments."""
    return engine(extraArgs=list(found))


SHARED: Final[Spec] = claims({"name": "a", "resourceClaimName": "mine"})
SHARED_BY_SEVERAL: Final = "spec.accelerator.resourceClaims[].resourceClaimName: all engines share the devices"
FORBIDDEN_SKIP: Final = "spec.engine.extraArgs: --skip-tokenizer-init cannot be used: the gate and clients send texts"
COUNT: Final = "spec.accelerator.count must equal spec.parallelism.tensor x pipeline x data / nodes (or be 0"
FORBIDDEN: Final = "spec.engine.extraArgs holds an argument"

CONSTRAINTS: Final[tuple[Constraint, ...]] = (
    Constraint(
        {"parallelism": {"tensor": 2, "pipeline": 2, "data": 2}, "accelerator": {"count": 8}},
        {"parallelism": {"tensor": 2, "pipeline": 2, "data": 2}, "accelerator": {"count": 4}},
        COUNT,
    ),
    Constraint({"accelerator": {"count": 0}}, {"accelerator": {"count": 2}}, COUNT),
    Constraint({"accelerator": {"count": 2, "resource": "example.com/cards"}}, {"accelerator": {"count": 2}}, COUNT),
    Constraint(
        {"service": {"targetPort": 8000}},
        {"service": {"targetPort": 8480}},
        "spec.service.targetPort must differ from spec.gates.port",
    ),
    Constraint(
        {**pod(terminationGracePeriodSeconds=45)},
        {**pod(terminationGracePeriodSeconds=44)},
        "spec.pod.terminationGracePeriodSeconds must be at least the sum of",
    ),
    Constraint(
        {**pod(terminationGracePeriodSeconds=25), **engine(shutdownDelaySeconds=15, shutdownTimeoutSeconds=0)},
        {**pod(terminationGracePeriodSeconds=54), **engine(shutdownDelaySeconds=15)},
        "spec.pod.terminationGracePeriodSeconds must be at least the sum of",
    ),
    Constraint(
        {"accelerator": {"profile": "cpu", "count": 0}},
        {"accelerator": {"profile": "cpu", "count": 1}},
        "spec.accelerator.count: the profile cpu has no devices",
    ),
    Constraint(
        {"accelerator": {"profile": "amd", "resource": "amd.com/gpu"}},
        {"accelerator": {"profile": "cpu", "resource": "amd.com/gpu"}},
        "spec.accelerator.resource: the profile cpu has no devices",
    ),
    Constraint(
        {"accelerator": {"profile": "gaudi"}, "engine": {"image": "vllm-gaudi:1"}},
        {"accelerator": {"profile": "gaudi"}},
        "spec.engine.image is needed with the profile gaudi",
    ),
    Constraint(
        {"accelerator": {"profile": "neuron", "count": 1}, "parallelism": {"tensor": 8}, "engine": {"image": "a:1"}},
        {"accelerator": {"profile": "neuron"}},
        "spec.engine.image is needed with the profile neuron",
    ),
    Constraint(
        {"accelerator": {"profile": "other", "resource": "example.com/npu", "count": 3}, "engine": {"image": "a:1"}},
        {"accelerator": {"profile": "other", "resource": "example.com/npu"}},
        "spec.engine.image is needed with the profile other",
    ),
    Constraint(
        {"accelerator": {"profile": "other", "count": 0}, "engine": {"image": "a:1"}},
        {"accelerator": {"profile": "other", "count": 1}, "engine": {"image": "a:1"}},
        "spec.accelerator.resource is needed with the profile other",
    ),
    Constraint(
        claimed(),
        claimed(resource="nvidia.com/gpu"),
        "spec.accelerator.resource and spec.accelerator.resourceClaims contradict each other",
    ),
    Constraint(
        claimed(memory="80Gi"),
        claimed(count=0),
        "spec.accelerator.count and spec.accelerator.resourceClaims contradict each other",
    ),
    Constraint(
        claimed(profile="amd"),
        claimed(profile="cpu"),
        "spec.accelerator.resourceClaims: the profile cpu has no devices",
    ),
    Constraint(
        {**claimed(profile="other"), "engine": {"image": "a:1"}},
        {"accelerator": {"profile": "other"}, "engine": {"image": "a:1"}},
        "spec.accelerator.resource is needed with the profile other",
    ),
    Constraint(
        claims({"name": "a", "deviceClassName": "gpu"}, {"name": "b", "deviceClassName": "gpu"}),
        claims({"name": "a", "deviceClassName": "gpu"}, {"name": "a", "deviceClassName": "gpu"}),
        "spec.accelerator.resourceClaims[1]: Duplicate value",
    ),
    *(
        Constraint(
            claims({"name": "a", "deviceClassName": "gpu"}),
            claims({"name": "a", **wrong}),
            "spec.accelerator.resourceClaims[] takes exactly one of",
        )
        for wrong in ({}, {"deviceClassName": "gpu", "resourceClaimName": "mine"})
    ),
    Constraint(
        claims({"name": "a", "deviceClassName": "gpu", "count": 2}),
        claims({"name": "a", "resourceClaimTemplateName": "mine", "count": 2}),
        "spec.accelerator.resourceClaims[].count is for deviceClassName",
    ),
    Constraint(
        claims({"name": "a", "deviceClassName": "gpu", "selectors": ["true"]}),
        claims({"name": "a", "resourceClaimTemplateName": "mine", "selectors": ["true"]}),
        "spec.accelerator.resourceClaims[].selectors are for deviceClassName",
    ),
    Constraint(
        claims({"name": "a", "resourceClaimTemplateName": "mine", "request": "gpu/fast"}),
        claims({"name": "a", "deviceClassName": "gpu", "request": "gpu"}),
        "spec.accelerator.resourceClaims[].request is for a claim of yours",
    ),
    Constraint(
        {"parallelism": {"tensor": 2, "nodes": 2}, **claimed()},
        {"parallelism": {"tensor": 2, "nodes": 2}, **SHARED},
        "spec.accelerator.resourceClaims[].resourceClaimName cannot be set with spec.parallelism.nodes",
    ),
    Constraint(SHARED, {**SHARED, "replicas": 2}, SHARED_BY_SEVERAL),
    Constraint(
        {**SHARED, "replicas": 2, "engine": {"gpuMemoryUtilization": 0.5}},
        {**SHARED, "replicas": 3, "engine": {"gpuMemoryUtilization": 0.5}},
        SHARED_BY_SEVERAL,
    ),
    Constraint(
        {**SHARED, **scaling(maxReplicas=1)},
        {**SHARED, **scaling(maxReplicas=2)},
        SHARED_BY_SEVERAL,
    ),
    Constraint(
        {"accelerator": {"profile": "tpu", "count": 4}, "parallelism": {"tensor": 8}},
        {"accelerator": {"profile": "xpu", "count": 4}, "parallelism": {"tensor": 8}},
        COUNT,
    ),
    *(
        Constraint(
            {"service": {"type": kind, "nodePort": 30080}},
            {"service": {"nodePort": 30080}},
            "spec.service.nodePort needs spec.service.type NodePort or LoadBalancer",
        )
        for kind in ("NodePort", "LoadBalancer")
    ),
    *(
        Constraint(
            right,
            wrong,
            "spec.service.appProtocol is what a sidecar speaks with clients",
        )
        for right, wrong in (
            ({"service": {"appProtocol": "https", "targetPort": 8443}}, {"service": {"appProtocol": "https"}}),
            (
                {"service": {"appProtocol": "https"}, **engine(tls={"secretName": "a"})},
                {"service": {"appProtocol": "http"}, **engine(tls={"secretName": "a"})},
            ),
        )
    ),
    Constraint(
        model(servedNames=["tiny"]), model(servedNames=["tiny", "$(NAME)"]), "spec.model.servedNames must not refer to"
    ),
    Constraint(
        source("s3://$(BUCKET)/tiny", servedNames=["tiny"]),
        source("s3://$(BUCKET)/tiny"),
        "spec.model.source refers to a variable",
    ),
    Constraint(
        source("oci://registry.example.com/tiny:1", servedNames=["tiny"]),
        source("oci://registry.example.com/$(NAME):1", servedNames=["tiny"]),
        "spec.model.source refers to a variable",
    ),
    Constraint(
        {"model": {"source": "org/tiny", "servedNames": ["tiny"]}, **adapter("org/a", "org/tiny")},
        {"model": {"source": "org/tiny", "servedNames": ["small", "tiny"]}, **adapter("org/a", "tiny")},
        "spec.lora.adapters: a name of the model is no name of an adapter",
    ),
    *(
        Constraint(
            {"model": {"source": text}, **adapter("org/a", "tiny")},
            {"model": {"source": text}, **adapter("org/a", "org/tiny")},
            "spec.lora.adapters: a name of the model is no name of an adapter",
        )
        for text in ("org/tiny", "hf://org/tiny")
    ),
    Constraint(
        {"lora": {"adapters": [{"name": "sql", "source": "org/sql"}]}},
        {"lora": {"adapters": [{"name": "$(NAME)", "source": "org/sql"}]}},
        "the name of an adapter in spec.lora.adapters must not refer to a variable",
    ),
    *(
        Constraint(labelled(right), labelled(wrong), "a condition on labels needs values with In and NotIn")
        for right, wrong in (
            ({"operator": "In", "values": ["a"]}, {"operator": "In"}),
            ({"operator": "NotIn", "values": ["a"]}, {"operator": "NotIn", "values": []}),
            ({"operator": "Exists"}, {"operator": "Exists", "values": ["a"]}),
            ({"operator": "DoesNotExist", "values": []}, {"operator": "DoesNotExist", "values": ["a"]}),
        )
    ),
    *(
        Constraint(on_nodes(right), on_nodes(wrong), "a condition on a node needs values with In and NotIn")
        for right, wrong in (
            ({"operator": "In", "values": ["a", "b"]}, {"operator": "In"}),
            ({"operator": "Exists"}, {"operator": "Exists", "values": ["a"]}),
            ({"operator": "Gt", "values": ["4"]}, {"operator": "Gt", "values": ["4", "5"]}),
            ({"operator": "Lt", "values": ["4"]}, {"operator": "Lt"}),
        )
    ),
    Constraint(
        {"ingress": {"host": "*.example.com"}},
        {"ingress": {"host": "https://llm.example.com"}},
        "spec.ingress.host in body should match",
    ),
    Constraint(engine(blockSize=4096), engine(blockSize=0), "spec.engine.blockSize in body should be greater than or"),
    *(
        Constraint(words(*right), words(wrong), "spec.engine.extraArgs: an item holds two words")
        for right, wrong in (
            (("--max-logprobs", "7"), "--max-logprobs 7"),
            (("--override-generation-config", '{"top_p": 0.5}'), '--override-generation-config {"top_p": 0.5}'),
            (("--response-role=the assistant",), "--response-role=assistant --max-logprobs"),
            (("--max-logprobs=7",), " --max-logprobs=7"),
        )
    ),
    Constraint(
        words("--data-parallel-address", "10.0.0.1"),
        words("--headless", "--data-parallel-start-rank", "2", "--node_rank=1"),
        "spec.engine.extraArgs: these arguments are for an engine over several nodes or pods: take",
        FORBIDDEN,
    ),
    Constraint(words("--no-skip-tokenizer-init"), words("--skip-tokenizer-init"), FORBIDDEN_SKIP, FORBIDDEN),
    Constraint(
        {"resources": {"limits": {"cpu": 1}}}, {"resources": {"limits": GPU}}, "spec.resources.limits must not name"
    ),
    Constraint(
        {"resources": {"requests": GPU}, "accelerator": {"resource": "example.com/npu"}},
        {"resources": {"requests": GPU}},
        "spec.resources.requests must not name the accelerator",
    ),
    Constraint(
        {"resources": {"limits": GPU}, "accelerator": {"profile": "amd"}},
        {"resources": {"limits": {"amd.com/gpu": 1}}, "accelerator": {"profile": "amd"}},
        "spec.resources.limits must not name the accelerator",
    ),
    Constraint(
        {"resources": {"limits": {"memory": "64Gi", "cpu": 2}}},
        {"resources": {"limits": {"memory": "64GB"}}},
        "must be a quantity such as `500m`",
    ),
    Constraint(
        {"disruption": {"minAvailable": 0}},
        {"disruption": {"minAvailable": "1.5"}},
        "must be a whole number, or a share such as `50%`",
    ),
    Constraint(engine(maxModelLen=32768), engine(maxModelLen="32KB"), "must be a number of tokens such as `32768`"),
    Constraint(engine(kvCacheMemory=8), engine(kvCacheMemory="8GB"), "must be a number of bytes such as"),
    Constraint(
        engine(env=[{"name": "VLLM_API_KEYS", "value": "x"}]),
        engine(env=[{"name": "VLLM_API_KEY", "value": "x"}]),
        "spec.engine.env must not set VLLM_API_KEY: no client would learn the key",
    ),
    Constraint(
        engine(extraArgs=["--x", "$(VLLM_API)", "--root-path=$(HF_HOME)"]),
        engine(extraArgs=["--x", "a$(API_KEY_2)"]),
        "spec.engine.extraArgs must not refer to an API key",
    ),
    Constraint(
        {**adapter("org/a"), **model(runner="generate")},
        {**adapter("org/a"), **model(runner="pooling")},
        "spec.lora: adapters are for models that generate",
    ),
    Constraint(source("hf://org/a"), source("ftp://org/a"), "spec.model.source: the scheme is none of hf://"),
    Constraint(source("pvc://claim/a/b/"), source("pvc:///a"), "spec.model.source must be pvc://CLAIM"),
    Constraint(source("pvc://claim"), source("pvc://claim//a"), "spec.model.source must be pvc://CLAIM"),
    Constraint(source("s3://bucket/a"), source("://a"), "spec.model.source: the scheme is none of hf://"),
    Constraint(
        model(tokenizer="oci://a:1"), model(tokenizer="http://a"), "spec.model.tokenizer: the scheme is none of"
    ),
    Constraint(model(tokenizer="pvc://a/b"), model(tokenizer="pvc://"), "spec.model.tokenizer must be pvc://CLAIM"),
    Constraint(
        source("hf://org/a", revision="v1"), source("/models/a", revision="v1"), "spec.model.revision is for models on"
    ),
    Constraint(
        source("org/a", revision="v1"), source("oci://a/b:1", revision="v1"), "spec.model.revision is for models on"
    ),
    Constraint(
        model(runner="pooling", convert="embed"),
        model(runner="generate", convert="embed"),
        "spec.model.convert: embed and classify make a pooling model",
    ),
    Constraint(
        model(chatTemplate={"path": "/a.jinja"}),
        model(chatTemplate={"path": "/a.jinja", "inline": "a"}),
        "spec.model.chatTemplate takes exactly one of",
    ),
    Constraint(
        model(chatTemplate={"configMapKeyRef": KEY}),
        model(chatTemplate={}),
        "spec.model.chatTemplate takes exactly one of",
    ),
    Constraint(
        engine(maxNumSeqs=8, maxNumBatchedTokens=8),
        engine(maxNumSeqs=8, maxNumBatchedTokens=7),
        "spec.engine.maxNumBatchedTokens must be at least spec.engine.maxNumSeqs",
    ),
    Constraint(
        engine(enableAutoToolChoice=True, toolCallParser="hermes"),
        engine(enableAutoToolChoice=True),
        "spec.engine.enableAutoToolChoice needs spec.engine.toolCallParser",
    ),
    Constraint(
        engine(debug=True, logLevel="DEBUG"),
        engine(debug=True, logLevel="INFO"),
        "spec.engine.debug sets the log level to DEBUG",
    ),
    Constraint(draft(model="org/a"), draft(), "spec.engine.speculativeDecoding needs a method"),
    *(
        Constraint(
            engine(speculativeDecoding=right),
            engine(speculativeDecoding=wrong),
            "spec.engine.speculativeDecoding needs numSpeculativeTokens",
        )
        for right, wrong in (
            ({"method": "suffix"}, {"method": "ngram"}),
            ({"method": "mtp"}, {"method": "draft_model", "model": "org/draft"}),
            ({"model": "org/draft", "numSpeculativeTokens": 1}, {"model": "org/draft"}),
        )
    ),
    Constraint(
        draft(method="ngram", promptLookupMin=2, promptLookupMax=2),
        draft(method="ngram", promptLookupMin=3, promptLookupMax=2),
        "spec.engine.speculativeDecoding.promptLookupMin must not be more",
    ),
    Constraint(
        variable(value="x"),
        variable(value="x", valueFrom={"secretKeyRef": KEY}),
        "a variable of spec.engine.env has either value or valueFrom",
    ),
    Constraint(
        variable(), engine(env=[{"name": "VLLM_DEBUG", "value": "1"}]), "spec.engine.env must not set VLLM_DEBUG"
    ),
    Constraint(variable(valueFrom={"configMapKeyRef": KEY}), variable(valueFrom={}), "valueFrom takes exactly one of"),
    Constraint(
        variable(valueFrom={"secretKeyRef": KEY}),
        variable(valueFrom={"secretKeyRef": KEY, "configMapKeyRef": KEY}),
        "valueFrom takes exactly one of",
    ),
    Constraint(
        engine(envFrom=[{"secretRef": {"name": "a"}}, {"configMapRef": {"name": "a"}, "prefix": "A_"}]),
        engine(envFrom=[{"prefix": "A_"}]),
        "an item of spec.engine.envFrom takes exactly one of",
    ),
    Constraint(
        {"parallelism": {"tensor": 4, "nodes": 2}},
        {"parallelism": {"tensor": 3, "nodes": 2}},
        "spec.parallelism.nodes must divide spec.parallelism.tensor x pipeline",
    ),
    Constraint(
        {"parallelism": {"data": 4, "nodes": 2}},
        {"parallelism": {"data": 3, "tensor": 2, "nodes": 2}},
        "spec.parallelism.nodes must divide spec.parallelism.data",
    ),
    Constraint(
        {"parallelism": {"data": 2, "tensor": 2, "nodes": 4}},
        {"parallelism": {"data": 2, "nodes": 4}},
        "spec.parallelism.nodes must divide spec.parallelism.data",
    ),
    Constraint(
        {"parallelism": {"tensor": 2, "nodes": 2, "executorBackend": "mp"}},
        {"parallelism": {"tensor": 2, "nodes": 2, "executorBackend": "ray"}},
        "spec.parallelism.executorBackend must be mp with spec.parallelism.nodes",
    ),
    Constraint(
        {"parallelism": {"tensor": 2, "nodes": 2}, "accelerator": {"profile": "amd"}},
        {"parallelism": {"tensor": 2, "nodes": 2}, "accelerator": {"profile": "tpu"}},
        "spec.parallelism.nodes: vLLM spreads no engine over nodes by itself",
    ),
    Constraint(
        {"parallelism": {"tensor": 2, "nodes": 1}, **scaling()},
        {"parallelism": {"tensor": 2, "nodes": 2}, **scaling()},
        "spec.autoscaling and spec.parallelism.nodes contradict each other",
    ),
    Constraint(
        {"parallelism": {"tensor": 2}, **engine(apiServerCount=2)},
        {"parallelism": {"tensor": 2, "nodes": 2}, **engine(apiServerCount=2)},
        "spec.engine.apiServerCount cannot be set with spec.parallelism.nodes",
    ),
    Constraint(
        {"parallelism": {"tensor": 4, "nodes": 2}, "accelerator": {"count": 2}},
        {"parallelism": {"tensor": 4, "nodes": 2}, "accelerator": {"count": 4}},
        "spec.accelerator.count must equal spec.parallelism.tensor x pipeline x data / nodes",
    ),
    Constraint(
        {"parallelism": {"tensor": 4, "decodeContext": 2}},
        {"parallelism": {"tensor": 4, "decodeContext": 3}},
        "spec.parallelism.decodeContext must divide spec.parallelism.tensor",
    ),
    Constraint(
        updates(adapters=[{"name": "a", "source": "pvc://one/a"}], claims=["one"]),
        updates(adapters=[{"name": "a", "source": "pvc://one/a"}], claims=["on"]),
        "spec.lora.claims must name the claim of each adapter with runtimeUpdates",
    ),
    Constraint(
        {**updates(), "parallelism": {"data": 2}, "engine": {"apiServerCount": 1}},
        {**updates(), "parallelism": {"data": 2}},
        "spec.lora.runtimeUpdates needs spec.engine.apiServerCount 1",
    ),
    Constraint(
        variable(name="VLLM_ALLOW_RUNTIME_LORA_UPDATING", value="1"),
        {**variable(name="VLLM_ALLOW_RUNTIME_LORA_UPDATING", value="1"), **updates()},
        "spec.engine.env must not set VLLM_ALLOW_RUNTIME_LORA_UPDATING",
    ),
    Constraint(
        {"lora": {"maxLoras": 4, "maxCpuLoras": 4}},
        {"lora": {"maxLoras": 4, "maxCpuLoras": 3}},
        "spec.lora.maxCpuLoras must be at least spec.lora.maxLoras",
    ),
    Constraint(adapter("hf://org/a"), adapter("s3://bucket/a"), "the source of an adapter in spec.lora.adapters is an"),
    Constraint(adapter("pvc://a/b"), adapter("pvc://A/b"), "the source of an adapter in spec.lora.adapters must be"),
    Constraint(
        cache(emptyDir={}), cache(emptyDir={}, existingClaim="a"), "spec.storage.cache takes exactly one of persistent"
    ),
    Constraint(cache(hostPath={"path": "/a"}), cache(), "spec.storage.cache takes exactly one of persistent"),
    Constraint(cache(emptyDir={}), cache(emptyDir={}, prefetch={}), "spec.storage.cache.prefetch fills a claim"),
    Constraint(
        cache(persistentVolumeClaim={"size": "1Gi", "accessModes": ["ReadWriteOnce"]}, prefetch={}),
        cache(persistentVolumeClaim={"size": "1Gi", "accessModes": ["ReadWriteOncePod"]}, prefetch={}),
        "spec.storage.cache.prefetch and a claim that one pod alone can use contradict",
    ),
    Constraint(
        {**source("https://host/a"), **FILLED},
        source("https://host/a"),
        "spec.model.source: only a Job brings a model from a web server",
    ),
    Constraint(
        {**source("s3://bucket/a"), **FILLED},
        {**source("gs://bucket/a"), **FILLED},
        "spec.storage.cache.prefetch brings models from the Hugging Face hub",
    ),
    Constraint(
        source("org/$(NAME)", servedNames=["a"]),
        {**source("org/$(NAME)", servedNames=["a"]), **FILLED},
        "spec.model.source must not refer to a variable with spec.storage.cache.prefetch",
    ),
    Constraint(
        {**model(downloadDir="/a"), **cache(existingClaim="a")},
        {**model(downloadDir="/a"), **FILLED},
        "spec.model.downloadDir and spec.storage.cache.prefetch contradict",
    ),
    Constraint(
        {**variable(name="HF_ENDPOINT", value="https://mirror"), **FILLED},
        {**variable(name="HF_HOME", value="/a"), **FILLED},
        "spec.engine.env must not set HF_HOME",
    ),
    Constraint(
        pod(labels={"app.kubernetes.io/version": "1"}),
        pod(labels={"app.kubernetes.io/name": "x"}),
        "spec.pod.labels must not set app.kubernetes.io/name, instance",
    ),
    *(
        Constraint(
            pod(volumes=[{"name": "mine", "emptyDir": {}}]),
            pod(volumes=[{"name": name, "emptyDir": {}}]),
            "spec.pod.volumes: cache, config, home, manager",
        )
        for name in ("cache", "manager", "shm", "claim-0", "image-12")
    ),
    Constraint(
        pod(serviceAccountAnnotations={"a": "b"}),
        pod(serviceAccountName="a", serviceAccountAnnotations={"a": "b"}),
        "spec.pod.serviceAccountAnnotations are for the account that the operator makes",
    ),
    *(
        Constraint(
            pod(**{field: [{"name": "other", "image": "a"}]}),
            pod(**{field: [{"name": "vllm", "image": "a"}]}),
            f"spec.pod.{field}: vllm is the name of the engine's own container",
        )
        for field in ("initContainers", "sidecars")
    ),
    Constraint(
        pod(initContainers=[{"name": "a", "image": "a"}], sidecars=[{"name": "b", "image": "a"}]),
        pod(initContainers=[{"name": "a", "image": "a"}], sidecars=[{"name": "a", "image": "a"}]),
        "spec.pod.sidecars: a name is taken by one of",
    ),
    Constraint(
        pod(containerSecurityContext={"privileged": True}),
        pod(containerSecurityContext={"privileged": True, "allowPrivilegeEscalation": False}),
        "spec.pod.containerSecurityContext.allowPrivilegeEscalation cannot be false",
    ),
    Constraint(
        pod(hostNetwork=True, securityContext={"sysctls": [{"name": "kernel.shm_rmid_forced", "value": "1"}]}),
        pod(hostNetwork=True, securityContext={"sysctls": [{"name": "net.core.somaxconn", "value": "1024"}]}),
        "spec.pod.hostNetwork: the network's kernel parameters are those of the node",
    ),
    Constraint({"auth": {"keys": [KEY]}}, {"auth": {}}, "spec.auth needs generate: true, or keys"),
    Constraint({"auth": {"generate": True}}, {"auth": {"generate": False}}, "spec.auth needs generate: true, or keys"),
    Constraint(
        callers(podSelector={}, namespaceSelector={}), callers(), "an item of spec.network.allowFrom takes podSelector"
    ),
    Constraint(
        callers(ipBlock={"cidr": "10.0.0.0/8"}),
        callers(ipBlock={"cidr": "10.0.0.0/8"}, podSelector={}),
        "an item of spec.network.allowFrom takes podSelector",
    ),
    Constraint(
        {"disruption": {"minAvailable": "50%"}},
        {"disruption": {"minAvailable": 1, "maxUnavailable": 1}},
        "spec.disruption takes exactly one of minAvailable",
    ),
    Constraint({"disruption": {"maxUnavailable": 0}}, {"disruption": {}}, "spec.disruption takes exactly one of"),
    Constraint(
        gates(restartWindowSeconds=10),
        gates(restartWindowSeconds=10, stallWindowSeconds=10),
        "spec.gates.restartWindowSeconds must be longer than stallWindowSeconds",
    ),
    Constraint(
        gates(stallWindowSeconds=200, restart="Never"),
        gates(stallWindowSeconds=200),
        "spec.gates.restartWindowSeconds must be longer than stallWindowSeconds",
    ),
    Constraint(
        gates(canaryIntervalSeconds=6),
        gates(canaryIntervalSeconds=7),
        "spec.gates.canaryIntervalSeconds must not be longer than stallWindowSeconds",
    ),
    Constraint(
        gates(canary="Never"),
        gates(canary="Never", canaryIntervalSeconds=5),
        "spec.gates.canaryIntervalSeconds says nothing where spec.gates.canary is Never",
    ),
    Constraint(
        gates(restart="Never"),
        gates(restart="Never", restartWindowSeconds=60),
        "spec.gates.restartWindowSeconds says nothing where spec.gates.restart is Never",
    ),
    Constraint(
        gates(probe=["true"], stallWindowSeconds=20, longestStallWindowSeconds=20),
        gates(stallWindowSeconds=20, longestStallWindowSeconds=19),
        "spec.gates.longestStallWindowSeconds must not be shorter than stallWindowSeconds",
    ),
    Constraint(
        gates(longestStallWindowSeconds=6),
        gates(longestStallWindowSeconds=5),
        "spec.gates.longestStallWindowSeconds must not be shorter than stallWindowSeconds",
    ),
    *(
        Constraint(
            {**engine(port=8480), **gates(port=8000)}, wrong, "spec.gates.port must differ from spec.engine.port"
        )
        for wrong in (engine(port=8480), gates(port=8000), {**engine(port=9000), **gates(port=9000)})
    ),
    *(
        Constraint(words("--max-logprobs", "7"), words("--max-logprobs", word), message, FORBIDDEN)
        for word, message in (
            ("--seed", "spec.engine.extraArgs: --seed has a field of its own: set spec.engine.seed"),
            ("--seed=1", "spec.engine.extraArgs: --seed has a field of its own: set spec.engine.seed"),
            ("--max_model_len", "spec.engine.extraArgs: --max-model-len has a field of its own"),
            (
                "--no-enforce-eager",
                "spec.engine.extraArgs: --no-enforce-eager has a field of its own: leave spec.engine.enforceEager out",
            ),
            ("--no_enforce_eager", "spec.engine.extraArgs: --no-enforce-eager has a field of its own: leave"),
            ("--no-enable-lora", "spec.engine.extraArgs: --no-enable-lora is set by the operator: set spec.lora"),
            ("--ssl-keyfile", "spec.engine.extraArgs: --ssl-keyfile is set by the operator: set spec.engine.tls"),
            ("--speculative-config.method", "spec.engine.extraArgs: --speculative-config has a field of its own"),
            ("-tp", "spec.engine.extraArgs: -tp has a field of its own: set spec.parallelism.tensor"),
            ("-q=awq", "spec.engine.extraArgs: -q has a field of its own: set spec.engine.quantization"),
            ("--api-key", "spec.engine.extraArgs: --api-key is set by the operator: set spec.auth"),
            (
                "--kv-transfer-config.kv_role",
                "spec.engine.extraArgs: --kv-transfer-config has a field of its own: set spec.engine.kvTransferConfig",
            ),
            (
                "--no-enable-chunked-prefill",
                "spec.engine.extraArgs: --no-enable-chunked-prefill has a field of its own: set spec.engine.enableC",
            ),
            ("-cc.mode=3", "spec.engine.extraArgs: -cc has a field of its own: set spec.engine.compilationConfig"),
            ("-asc", "spec.engine.extraArgs: -asc has a field of its own: set spec.engine.apiServerCount"),
            ("--swap-space", "spec.engine.extraArgs: --swap-space is gone since vLLM 0.18.0"),
            ("--grpc", "spec.engine.extraArgs: --grpc cannot be used: the gate and the Service speak HTTP"),
            (
                "--disable_log_stats",
                "spec.engine.extraArgs: --disable-log-stats cannot be used: it empties the metrics",
            ),
            *(
                (flag, f"spec.engine.extraArgs: {flag} cannot be used: {reason}")
                for flag, reason in UNSUITED.items()
                if flag not in {"--grpc", "--disable-log-stats"}
            ),
            ("--task=embed", "spec.engine.extraArgs: --task is gone since vLLM 0.13.0: set spec.model.runner"),
        )
    ),
    *(
        Constraint(
            engine(extraArgs=["--swap-space=4"], **told),
            words("--swap-space=4"),
            "spec.engine.extraArgs: --swap-space is gone since vLLM 0.18.0",
            FORBIDDEN,
        )
        for told in ({"image": "vllm/vllm-openai:v0.10.2"}, {"version": "0.10.2"})
    ),
    Constraint(engine(version="v0.9.0.1"), engine(version="0.9"), "spec.engine.version"),
    Constraint(engine(version="0.8.5.post1"), engine(version="0.11.0rc1"), "spec.engine.version"),
    Constraint(
        catalog(languages=["en", "zh-TW", "zh-Hant-HK"]),
        catalog(languages=["zh_TW"]),
        "spec.catalog.languages[0] in body should match",
    ),
    Constraint(
        catalog(languages=["en", "de"]), catalog(languages=["en", "en"]), "spec.catalog.languages[1]: Duplicate value"
    ),
    Constraint(
        catalog(complexity=["simple", "complex"]),
        catalog(complexity=["hard"]),
        'spec.catalog.complexity[0]: Unsupported value: "hard"',
    ),
    Constraint(
        catalog(tasks=["extraction", "tool_use.v2"]),
        catalog(tasks=["two words"]),
        "spec.catalog.tasks[0] in body should match",
    ),
    Constraint(
        catalog(tasks=[f"task-{number}" for number in range(32)]),
        catalog(tasks=[f"task-{number}" for number in range(33)]),
        "spec.catalog.tasks: Too many: 33: must have at most 32 items",
    ),
    Constraint(
        catalog(labels={"example.com/tier": "gold"}),
        catalog(labels={f"label-{number}": "a" for number in range(17)}),
        "spec.catalog.labels: Too many: 17: must have at most 16 items",
    ),
    Constraint(
        catalog(weight=0), catalog(weight=1001), "spec.catalog.weight in body should be less than or equal to 1000"
    ),
    Constraint(
        engine(kvTransferConfig={"kv_connector": "NixlConnector", "kv_connector_extra_config": {"a": [1]}}),
        engine(kvTransferConfig={}),
        "spec.engine.kvTransferConfig in body should have at least 1 properties",
    ),
    Constraint(
        engine(disableAccessLogForEndpoints=["/v1/models"]),
        engine(disableAccessLogForEndpoints=["v1/models"]),
        "spec.engine.disableAccessLogForEndpoints[0] in body should match",
    ),
    Constraint(scaling(), {**scaling(), "replicas": 2}, "spec.replicas and spec.autoscaling contradict each other"),
    Constraint(
        scaling(minReplicas=4),
        scaling(minReplicas=5),
        "spec.autoscaling.minReplicas must not be greater than maxReplicas",
    ),
    Constraint(
        scaling(minReplicas=0, idle={"query": "queue"}),
        scaling(minReplicas=0),
        "spec.autoscaling.minReplicas 0 needs idle.query",
    ),
    Constraint(
        scaling(minReplicas=0, idle={"query": "queue"}),
        scaling(idle={"query": "queue"}),
        "spec.autoscaling.idle says when the last engine goes",
    ),
    Constraint(
        scaling(fallbackReplicas=4),
        scaling(fallbackReplicas=5),
        "spec.autoscaling.fallbackReplicas must not be greater than maxReplicas",
    ),
    Constraint(scaling(targets={"runningRequests": 8}), scaling(targets={}), "spec.autoscaling.targets needs one of"),
    Constraint({"replicas": 0}, {"replicas": -1}, "spec.replicas in body should be greater than or equal to 0"),
    Constraint(model(), {"model": {}}, "spec.model.source: Required value"),
    Constraint(model(servedNames=["a", "b"]), model(servedNames=["a", "a"]), "spec.model.servedNames[1]: Duplicate"),
    Constraint(
        engine(env=[{"name": "A"}, {"name": "B"}]),
        engine(env=[{"name": "A"}, {"name": "A"}]),
        "spec.engine.env[1]: Duplicate value",
    ),
    Constraint(
        engine(gpuMemoryUtilization=1),
        engine(gpuMemoryUtilization=0),
        "spec.engine.gpuMemoryUtilization in body should be greater than 0",
    ),
    Constraint(engine(), engine(modle=1), 'unknown field "spec.engine.modle"'),
    Constraint({"lora": {"maxRank": 320}}, {"lora": {"maxRank": 24}}, "spec.lora.maxRank: Unsupported value: 24"),
    Constraint(engine(dtype="half"), engine(dtype="fp16"), 'spec.engine.dtype: Unsupported value: "fp16"'),
    Constraint(engine(maxModelLen="32k"), engine(maxModelLen="32kb"), "spec.engine.maxModelLen in body should match"),
    Constraint(engine(kvCacheMemory="1.5g"), engine(kvCacheMemory="1.5G"), "spec.engine.kvCacheMemory in body should"),
)
"""Every rule, and examples of bounds."""


class Transition(NamedTuple):
    """A case of a rule about changes."""

    before: Spec
    accepted: Spec
    refused: Spec
    message: str


_KEEPS: Final = "spec.storage.cache.persistentVolumeClaim."
TRANSITIONS: Final = (
    Transition(claim(), claim(size="10.5Gi"), claim(size="9Gi"), f"{_KEEPS}size cannot shrink"),
    Transition(
        claim(storageClassName="a"),
        claim(storageClassName="a", keep=True),
        claim(storageClassName="b"),
        f"{_KEEPS}storageClassName cannot be changed",
    ),
    Transition(claim(), cache(emptyDir={}), claim(storageClassName="a"), f"{_KEEPS}storageClassName cannot be changed"),
    Transition(
        claim(accessModes=["ReadWriteMany"]),
        claim(accessModes=["ReadWriteMany"], size="1Ti"),
        claim(),
        f"{_KEEPS}accessModes cannot be changed",
    ),
    Transition(
        {"replicas": 3},
        {**scaling(), "replicas": 3},
        {**scaling(), "replicas": 2},
        "spec.replicas and spec.autoscaling contradict each other",
    ),
    Transition(
        scaling(minReplicas=2),
        {**scaling(minReplicas=2), "replicas": 3},
        {**scaling(minReplicas=2), "replicas": 5},
        "spec.replicas belongs to spec.autoscaling",
    ),
)


def covers(message: str) -> bool:
    """Whether a rule has a case."""
    beginnings = [case.rule or case.message for case in CONSTRAINTS] + [case.message for case in TRANSITIONS]
    return any(message.startswith(beginning) for beginning in beginnings)
