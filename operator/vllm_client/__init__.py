"""Client library for models that the vLLM operator serves.

    async with create_llm_client("vllm") as llm:      # reads VLLM_BASE_URL, VLLM_MODEL_NAME, VLLM_API_KEY
        print(await llm.complete("What is an ontology?"))

The environment comes from a model's client binding (`envFrom` of its ConfigMap and Secret). `python -m vllm_client
"prompt"` prints an answer.
"""

from vllm_client.batch import BatchError, BatchItem, BatchResult, run_batch
from vllm_client.cache import AnswerStore, CachedClient, CacheStatistics, MemoryStore, SQLiteStore
from vllm_client.client import VLLMClient
from vllm_client.config import ClientConfig
from vllm_client.errors import (
    BatchFileError,
    ConfigurationError,
    EmptyAnswer,
    EngineFailed,
    MissingExtra,
    ModelNotFound,
    NotReachable,
    NotReady,
    Overloaded,
    RefusedInput,
    StoreFailed,
    TimedOut,
    Unauthorized,
    VLLMError,
)
from vllm_client.factory import create_llm_client
from vllm_client.protocol import LLMClient

__all__ = [
    "AnswerStore",
    "BatchError",
    "BatchFileError",
    "BatchItem",
    "BatchResult",
    "CacheStatistics",
    "CachedClient",
    "ClientConfig",
    "ConfigurationError",
    "EmptyAnswer",
    "EngineFailed",
    "LLMClient",
    "MemoryStore",
    "MissingExtra",
    "ModelNotFound",
    "NotReachable",
    "NotReady",
    "Overloaded",
    "RefusedInput",
    "SQLiteStore",
    "StoreFailed",
    "TimedOut",
    "Unauthorized",
    "VLLMClient",
    "VLLMError",
    "create_llm_client",
    "run_batch",
]
