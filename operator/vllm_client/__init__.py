"""Client library for models that the vLLM operator serves.

    async with create_llm_client("vllm") as llm:      # reads VLLM_BASE_URL, VLLM_MODEL_NAME, VLLM_API_KEY
        print(await llm.complete("What is an ontology?"))

The environment comes from a model's client binding (`envFrom` of its ConfigMap and Secret). `python -m vllm_client
"prompt"` prints an answer.
"""

from vllm_client.availability import check_vllm_availability
from vllm_client.balance.policy import BalancePolicy
from vllm_client.batch import BatchError, BatchItem, BatchResult, run_batch
from vllm_client.cache import AnswerStore, CachedClient, CacheStatistics, MemoryStore, SQLiteStore
from vllm_client.catalog import Catalog, CatalogEntry
from vllm_client.client import VLLMClient, VLLMCloudClient, VLLMLocalClient
from vllm_client.completion import Choice, Completion, TextStream, TokenLogprob
from vllm_client.config import ClientConfig
from vllm_client.discovery import Discovery, DiscoveryFailed, DnsDiscovery, FixedEngines, Found
from vllm_client.errors import (
    BatchFileError,
    ClientClosed,
    ConfigurationError,
    ContextLengthExceeded,
    EmptyAnswer,
    EngineFailed,
    IncompleteAnswer,
    InvalidAnswer,
    MissingExtra,
    ModelNotFound,
    NoModel,
    NotReachable,
    NotReady,
    Overloaded,
    RefusedInput,
    StoreFailed,
    TimedOut,
    Unauthorized,
    VLLMError,
    WrongEventLoop,
)
from vllm_client.factory import create_llm_client, create_vllm_from_config
from vllm_client.monitoring import (
    EndpointStatistics,
    ErrorEvent,
    LogHook,
    MonitoredClient,
    MonitoringHook,
    OpenTelemetryHook,
    RequestEvent,
    RequestStatistics,
    ResponseEvent,
    monitor_performance,
)
from vllm_client.protocol import LLMClient
from vllm_client.providers import LLMClientFactory, get_available_providers
from vllm_client.router import BestModel, ModelRouter, RoutedClient, get_best_model
from vllm_client.sources import CatalogSource, FileSource, KubernetesSource
from vllm_client.sync import SyncVLLMClient
from vllm_client.usage import TokenUsage

__all__ = [
    "AnswerStore",
    "BalancePolicy",
    "BatchError",
    "BatchFileError",
    "BatchItem",
    "BatchResult",
    "BestModel",
    "CacheStatistics",
    "CachedClient",
    "Catalog",
    "CatalogEntry",
    "CatalogSource",
    "Choice",
    "ClientClosed",
    "ClientConfig",
    "Completion",
    "ConfigurationError",
    "ContextLengthExceeded",
    "Discovery",
    "DiscoveryFailed",
    "DnsDiscovery",
    "EmptyAnswer",
    "EndpointStatistics",
    "EngineFailed",
    "ErrorEvent",
    "FileSource",
    "FixedEngines",
    "Found",
    "IncompleteAnswer",
    "InvalidAnswer",
    "KubernetesSource",
    "LLMClient",
    "LLMClientFactory",
    "LogHook",
    "MemoryStore",
    "MissingExtra",
    "ModelNotFound",
    "ModelRouter",
    "MonitoredClient",
    "MonitoringHook",
    "NoModel",
    "NotReachable",
    "NotReady",
    "OpenTelemetryHook",
    "Overloaded",
    "RefusedInput",
    "RequestEvent",
    "RequestStatistics",
    "ResponseEvent",
    "RoutedClient",
    "SQLiteStore",
    "StoreFailed",
    "SyncVLLMClient",
    "TextStream",
    "TimedOut",
    "TokenLogprob",
    "TokenUsage",
    "Unauthorized",
    "VLLMClient",
    "VLLMCloudClient",
    "VLLMError",
    "VLLMLocalClient",
    "WrongEventLoop",
    "check_vllm_availability",
    "create_llm_client",
    "create_vllm_from_config",
    "get_available_providers",
    "get_best_model",
    "monitor_performance",
    "run_batch",
]
