"""`spec.engine`: the vLLM server, its image, its arguments and its environment."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from vllm_operator.api.base import Model, Rule, cel
from vllm_operator.api.spec.arguments import removal_rule
from vllm_operator.api.spec.core import EnvFromSource, EnvVar
from vllm_operator.api.spec.flag import Flag
from vllm_operator.api.spec.scalars import (
    ATOMIC,
    MAP_BY_NAME,
    SET,
    ByteCount,
    JsonObject,
    ObjectName,
    Path,
    Source,
    TokenCount,
    Word,
)
from vllm_operator.api.vllm_releases import VERSION_PATTERN

DEFAULT_PORT: Final = 8000
DEFAULT_SHUTDOWN_SECONDS: Final = 30
DEFAULT_SHUTDOWN_DELAY_SECONDS: Final = 5
"""The manager has it as well: a test holds them together."""
EXIT_MARGIN_SECONDS: Final = 10
"""What an engine gets to exit, once it has finished its requests."""

SECRET_VARIABLES: Final = ("$(VLLM_API_KEY)", "$(API_KEY_", "$(HF_TOKEN)", "$(HUGGING_FACE_HUB_TOKEN)")
"""References to what the operator puts into the environment out of Secrets."""

Argument = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
Image = Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=r"^\S+$")]
Modality = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class KVOffloading(Model):
    """Part of the KV cache that is kept in the host's memory."""

    size_gib: Annotated[float, Field(gt=0, le=65536), Flag("--kv-offloading-size", "none", "0.11.1")] = Field(
        description="GiB of the host's memory, for all GPUs of the engine together."
    )
    backend: Annotated[Literal["native", "lmcache"] | None, Flag("--kv-offloading-backend", "native", "0.11.1")] = (
        Field(default=None, description="What moves the blocks.")
    )


class SpeculativeDecoding(Model):
    """A cheap guess of the next tokens, which the model then checks all at once."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        json_schema_extra=cel(
            Rule(
                "has(self.method) || has(self.model)",
                "spec.engine.speculativeDecoding needs a method, such as ngram, or a model",
            ),
            Rule(
                "has(self.numSpeculativeTokens) || (has(self.method) && !(self.method in ['ngram', 'draft_model']))",
                "spec.engine.speculativeDecoding needs numSpeculativeTokens: neither ngram nor a plain model that "
                "guesses says how many",
                field_path=".numSpeculativeTokens",
            ),
            Rule(
                "!has(self.promptLookupMin) || !has(self.promptLookupMax)"
                " || self.promptLookupMin <= self.promptLookupMax",
                "spec.engine.speculativeDecoding.promptLookupMin must not be more than promptLookupMax",
                field_path=".promptLookupMin",
            ),
        ),
    )

    num_speculative_tokens: Annotated[int, Field(ge=1, le=64)] | None = Field(
        default=None,
        description="Tokens that are guessed at a time. Default: as the method or its model says, where one does, such "
        "as `mtp` and `suffix`.",
    )
    method: Word | None = Field(
        default=None, description="How they are guessed, such as `ngram`, `eagle3` or `draft_model`."
    )
    model: Source | None = Field(default=None, description="Model that guesses: an id on the hub or a path.")
    revision: Word | None = Field(default=None, description="Branch, tag or commit of that model.")
    quantization: Word | None = Field(default=None, description="Quantization of that model.")
    draft_tensor_parallel_size: Annotated[int, Field(ge=1, le=64)] | None = Field(
        default=None, description="GPUs that share that model."
    )
    max_model_len: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Longest context of that model, in tokens."
    )
    prompt_lookup_max: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        default=None, description="Longest sequence that `ngram` looks up in the prompt, in tokens."
    )
    prompt_lookup_min: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        default=None, description="Shortest sequence that `ngram` looks up in the prompt, in tokens."
    )
    extra_config: JsonObject | None = Field(
        default=None,
        description="What else vLLM's SpeculativeConfig takes, with its own names, such as "
        "`{draft_sample_method: probabilistic}`. What has a field of its own is refused here.",
    )


class ServerTls(Model):
    """The certificate with which the server speaks https."""

    secret_name: ObjectName = Field(
        description="Secret of this namespace with `tls.crt` and `tls.key`, as those of type kubernetes.io/tls and of "
        "cert-manager. It has to be there: kubelet starts no engine without it. The certificate has to name "
        "NAME.NAMESPACE.svc, the host of the model's Service. A renewed one is used within two minutes, without a "
        "restart."
    )


class Engine(Model):
    """The vLLM server: its image and arguments. What is not set is left to vLLM's own default."""

    image: Image | None = Field(
        default=None,
        description="Container image of vLLM, with `vllm` and `python3` on its path. Default: that of the "
        "accelerator's profile.",
    )
    version: Annotated[str, StringConstraints(max_length=32, pattern=rf"^{VERSION_PATTERN}$")] | None = Field(
        default=None,
        description="Version of vLLM in the image, such as `0.10.2`, where its tag does not tell: the arguments are "
        "made for it. Where neither tells, they are those of the newest, and status.vllmVersion is Unknown.",
    )
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = Field(
        default=None,
        description="When the node fetches the image. Default: Always for `:latest`, `:nightly` and an image without a "
        "tag, IfNotPresent for any other.",
    )
    port: Annotated[int, Field(ge=1, le=65535), Flag("--port", "8000", "0.0.1")] = Field(
        default=DEFAULT_PORT,
        description="Port on which the server listens in its pod. The Service has a port of its own.",
    )
    host: Annotated[Literal["0.0.0.0", "::", "127.0.0.1"] | None, Flag("--host", "all addresses", "0.0.1")] = Field(  # noqa: S104 # names a choice
        default=None,
        description="Address on which it listens. With 127.0.0.1 only a sidecar reaches it: without one, it gets no "
        "traffic.",
    )
    tls: ServerTls | None = Field(
        default=None,
        description="Have the server speak https, and nothing else, on its port: clients, the gate and Prometheus "
        "follow. It needs vLLM 0.8.0.",
    )
    dtype: Annotated[
        Literal["auto", "bfloat16", "float16", "half", "float", "float32"] | None, Flag("--dtype", "auto", "0.0.1")
    ] = Field(default=None, description="Type of the weights and activations.")
    quantization: Annotated[Word | None, Flag("--quantization", "as the model says", "0.2.0", short=("-q",))] = Field(
        default=None, description="Method by which the weights are quantized, such as `awq`, `gptq` or `fp8`."
    )
    max_model_len: Annotated[TokenCount | None, Flag("--max-model-len", "as the model says", "0.2.0")] = Field(
        default=None,
        description="Longest context, prompt and answer together, in tokens: a number, `32k` (32,000), `32K` (32,768), "
        "or `auto` for what fits into the memory.",
    )
    max_num_seqs: Annotated[
        Annotated[int, Field(ge=1, le=65536)] | None, Flag("--max-num-seqs", "by device: 128 to 1024", "0.0.1")
    ] = Field(default=None, description="Most requests that one step of the engine processes.")
    max_num_batched_tokens: Annotated[
        Annotated[int, Field(ge=1, le=16777216)] | None,
        Flag("--max-num-batched-tokens", "by device: 2048 to 16384", "0.0.1"),
    ] = Field(default=None, description="Most tokens that one step of the engine processes; at least maxNumSeqs.")
    enable_chunked_prefill: Annotated[
        bool | None,
        Flag("--enable-chunked-prefill", "true if the model can", "0.4.1", off="--no-enable-chunked-prefill"),
    ] = Field(
        default=None,
        description="Compute a long prompt in parts, beside other requests. Without it, maxNumBatchedTokens has to "
        "hold the longest prompt.",
    )
    async_scheduling: Annotated[
        bool | None, Flag("--async-scheduling", "true where it can be", "0.10.0", off="--no-async-scheduling")
    ] = Field(default=None, description="Plan a step while the one before it is computed.")
    gpu_memory_utilization: Annotated[
        Annotated[float, Field(gt=0, le=1)] | None,
        Flag("--gpu-memory-utilization", "0.92", "0.0.1", short=("--device-memory-utilization",)),
    ] = Field(default=None, description="Share of each GPU's memory that the engine may use, up to 1.")
    kv_cache_memory: Annotated[ByteCount | None, Flag("--kv-cache-memory-bytes", "what is left", "0.10.2")] = Field(
        default=None,
        description="Memory of the KV cache on each GPU, in bytes: a number, `8g` (8 thousand million) or `8G` "
        "(8 GiB). It overrides gpuMemoryUtilization.",
    )
    kv_cache_dtype: Annotated[Word | None, Flag("--kv-cache-dtype", "auto", "0.3.0")] = Field(
        default=None, description="Type of the KV cache, such as `fp8`: half the memory of the model's own."
    )
    block_size: Annotated[Annotated[int, Field(ge=1)] | None, Flag("--block-size", "by device: 16", "0.0.1")] = Field(
        default=None, description="Tokens in one block of the KV cache."
    )
    disable_hybrid_kv_cache_manager: Annotated[
        bool | None,
        Flag(
            "--disable-hybrid-kv-cache-manager",
            "by model and kvTransferConfig",
            "0.9.1",
            off="--no-disable-hybrid-kv-cache-manager",
        ),
    ] = Field(
        default=None,
        description="Give all layers a KV cache of one size, also where some look back only so far. `false` asks for "
        "the hybrid manager where vLLM would do without, as with some connectors of kvTransferConfig.",
    )
    cpu_offload_gb: Annotated[
        Annotated[float, Field(ge=0, le=65536)] | None, Flag("--cpu-offload-gb", "0", "0.5.3")
    ] = Field(
        default=None,
        alias="cpuOffloadGB",
        description="GiB of weights per GPU that are kept in the host's memory instead.",
    )
    kv_offloading: KVOffloading | None = Field(
        default=None, description="Part of the KV cache that is kept in the host's memory."
    )
    kv_transfer_config: Annotated[JsonObject | None, Flag("--kv-transfer-config", "none", "0.6.5")] = Field(
        default=None,
        description="How engines hand KV caches on to each other or to a store: vLLM's KVTransferConfig with its own "
        "names, such as `{kv_connector: NixlConnector, kv_role: kv_both}`. An engine that completes no prompt by "
        "itself needs a gates.probe.",
    )
    kv_events_config: Annotated[JsonObject | None, Flag("--kv-events-config", "none", "0.9.0")] = Field(
        default=None,
        description="Whom the engine tells which blocks it holds, for routers: vLLM's KVEventsConfig with its own "
        'names, such as `{enable_kv_cache_events: true, publisher: zmq, endpoint: "tcp://*:5557"}`.',
    )
    enforce_eager: Annotated[bool | None, Flag("--enforce-eager", "false", "0.2.6")] = Field(
        default=None, description="Do without CUDA graphs: less memory and a quicker start, but slower answers."
    )
    compilation_config: Annotated[
        JsonObject | None, Flag("--compilation-config", "by the optimization level", "0.6.5", short=("-cc",))
    ] = Field(
        default=None,
        description="How the model is compiled and which CUDA graphs are made: vLLM's CompilationConfig with its own "
        "names, such as `{cudagraph_mode: PIECEWISE}`.",
    )
    optimization_level: Annotated[
        Annotated[int, Field(ge=0, le=3)] | None, Flag("--optimization-level", "2", "0.12.0")
    ] = Field(
        default=None,
        description="How much start-up time is spent for speed, from 0 (no compilation, no CUDA graphs) to 3: what "
        "`-O3` says. Before vLLM 0.12.0 that is `level` in compilationConfig, and `mode` in 0.11.1 and 0.11.2.",
    )
    attention_backend: Annotated[Word | None, Flag("--attention-backend", "by device and model", "0.13.0")] = Field(
        default=None,
        description="Kernels that compute the attention, such as `FLASH_ATTN`, `FLASHINFER` or `TRITON_ATTN`.",
    )
    enable_sleep_mode: Annotated[bool | None, Flag("--enable-sleep-mode", "false", "0.7.0")] = Field(
        default=None,
        description="Let the engine give its GPUs' memory away while it sleeps. `/sleep` and `/wake_up` need "
        "VLLM_SERVER_DEV_MODE=1 in env too, and then everybody who may call may do it.",
    )
    enable_prefix_caching: Annotated[
        bool | None,
        Flag("--enable-prefix-caching", "true if the model can", "0.4.1", off="--no-enable-prefix-caching"),
    ] = Field(default=None, description="Keep the KV cache of a prompt's beginning for the next request with the same.")
    speculative_decoding: Annotated[
        SpeculativeDecoding | None, Flag("--speculative-config", "none", "0.8.2", short=("-sc",), composed=True)
    ] = Field(default=None, description="A cheap guess of the next tokens, which the model then checks all at once.")
    tool_call_parser: Annotated[Word | None, Flag("--tool-call-parser", "none", "0.6.0")] = Field(
        default=None, description="Parser that reads the model's tool calls, such as `hermes` or `llama3_json`."
    )
    enable_auto_tool_choice: Annotated[bool | None, Flag("--enable-auto-tool-choice", "false", "0.6.0")] = Field(
        default=None, description="Let the model choose when to call a tool; needs toolCallParser."
    )
    reasoning_parser: Annotated[Word | None, Flag("--reasoning-parser", "none", "0.7.1")] = Field(
        default=None, description="Parser that tells the model's reasoning from its answer, such as `deepseek_r1`."
    )
    multimodal_limits: Annotated[
        Annotated[dict[Modality, Annotated[int, Field(ge=0, le=65536)]], Field(min_length=1, max_length=16)] | None,
        Flag("--limit-mm-per-prompt", "999 of each", "0.5.5"),
    ] = Field(default=None, description="Most inputs of each kind in one prompt, such as `{image: 4, video: 0}`.")
    max_num_queued_reqs: Annotated[
        Annotated[int, Field(ge=1, le=16777216)] | None, Flag("--max-num-queued-reqs", "no limit", "0.29.0")
    ] = Field(
        default=None,
        description="Most requests that run and wait together; what comes beyond is answered with 503 at once.",
    )
    seed: Annotated[Annotated[int, Field(ge=0, le=4294967295)] | None, Flag("--seed", "0", "0.0.1")] = Field(
        default=None, description="Seed of the random numbers."
    )
    api_server_count: Annotated[
        Annotated[int, Field(ge=1, le=1024)] | None,
        Flag("--api-server-count", "as parallelism.data", "0.9.1", short=("-asc",)),
    ] = Field(default=None, description="Processes of the HTTP server, for more requests than one can take in.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] | None = Field(
        default=None, description="How much the engine logs: VLLM_LOGGING_LEVEL. Default: INFO."
    )
    uvicorn_log_level: Annotated[
        Literal["critical", "error", "warning", "info", "debug", "trace"] | None,
        Flag("--uvicorn-log-level", "info", "0.4.1"),
    ] = Field(default=None, description="How much the HTTP server logs; with `warning` and above, no access log.")
    disable_uvicorn_access_log: Annotated[bool | None, Flag("--disable-uvicorn-access-log", "false", "0.8.2")] = Field(
        default=None, description="Write no line for each HTTP request."
    )
    disable_access_log_for_endpoints: Annotated[
        Annotated[list[Path], Field(min_length=1, max_length=32)] | None,
        Flag("--disable-access-log-for-endpoints", "none", "0.16.0", composed=True),
    ] = Field(
        default=None,
        description="Paths whose requests write no line, such as `/v1/models`, beside those that the gate asks: "
        "/health, /is_paused and /metrics.",
        json_schema_extra=SET,
    )
    enable_log_requests: Annotated[bool | None, Flag("--enable-log-requests", "false", "0.10.1", composed=True)] = (
        Field(
            default=None,
            description="Write a line for each request: its id, or at the level DEBUG its prompt too. Default: as "
            "debug.",
        )
    )
    debug: bool | None = Field(
        default=None,
        description="Log in detail: VLLM_LOGGING_LEVEL=DEBUG, and a line for each request. It shows prompts.",
    )
    shutdown_timeout_seconds: Annotated[int, Field(ge=0, le=3600), Flag("--shutdown-timeout", "0", "0.18.0")] = Field(
        default=DEFAULT_SHUTDOWN_SECONDS,
        description="How long an engine that is told to end finishes the requests in flight. 0 aborts them at once and "
        "leaves the argument out, and with it --disable-access-log-for-endpoints for what the gate asks. vLLM before "
        "0.18.0 has no such argument: it gets none where its version is known.",
    )
    shutdown_delay_seconds: Annotated[int, Field(ge=0, le=600)] | None = Field(
        default=None,
        description="How long an engine that is told to end goes on taking requests, while its pod leaves "
        "the endpoints everywhere: what a preStop hook with a sleep does elsewhere. With 0, requests that are "
        "still on their way are refused. "
        f"Default: {DEFAULT_SHUTDOWN_DELAY_SECONDS}.",
    )
    extra_args: Annotated[list[Argument], Field(max_length=128)] | None = Field(
        default=None,
        description="Further arguments of `vllm serve`, one list item for each word, after all others. `$(NAME)` "
        "stands for a variable of env. What has a field of its own is refused here.",
        json_schema_extra=ATOMIC,
    )
    env: Annotated[list[EnvVar], Field(max_length=128)] | None = Field(
        default=None, description="Further environment variables of the engine.", json_schema_extra=MAP_BY_NAME
    )
    env_from: Annotated[list[EnvFromSource], Field(max_length=32)] | None = Field(
        default=None,
        description="Secrets and ConfigMaps whose keys all become variables of the engine.",
        json_schema_extra=ATOMIC,
    )

    model_config = ConfigDict(
        alias_generator=to_camel,
        json_schema_extra=cel(
            Rule(
                "!has(self.maxNumBatchedTokens) || !has(self.maxNumSeqs)"
                " || self.maxNumBatchedTokens >= self.maxNumSeqs",
                "spec.engine.maxNumBatchedTokens must be at least spec.engine.maxNumSeqs: each request of a step "
                "needs a token",
                field_path=".maxNumBatchedTokens",
            ),
            Rule(
                "!has(self.enableAutoToolChoice) || !self.enableAutoToolChoice || has(self.toolCallParser)",
                "spec.engine.enableAutoToolChoice needs spec.engine.toolCallParser",
                field_path=".enableAutoToolChoice",
            ),
            Rule(
                "!has(self.debug) || !self.debug || !has(self.logLevel) || self.logLevel == 'DEBUG'",
                "spec.engine.debug sets the log level to DEBUG: leave spec.engine.logLevel out",
                field_path=".logLevel",
            ),
            removal_rule(),
            Rule(
                f"!has(self.extraArgs) || !self.extraArgs.exists(word, {list(SECRET_VARIABLES)}.exists(name,"
                " word.contains(name)))",
                "spec.engine.extraArgs must not refer to an API key or a token of the hub: whoever sees the node's "
                "processes would read it. The engine finds both in its environment",
                field_path=".extraArgs",
            ),
        ),
    )
