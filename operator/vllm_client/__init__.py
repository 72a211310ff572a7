"""Client library for models that the vLLM operator serves.

    async with create_llm_client("vllm") as llm:      # reads VLLM_BASE_URL, VLLM_MODEL_NAME, VLLM_API_KEY
        print(await llm.complete("What is an ontology?"))

The environment comes from a model's client binding (`envFrom` of its ConfigMap and Secret). `python -m vllm_client
"prompt"` prints an answer.
"""

from vllm_client.catalog import Catalog, CatalogEntry
from vllm_client.client import VLLMClient
from vllm_client.config import ClientConfig
from vllm_client.errors import (
    ConfigurationError,
    EmptyAnswer,
    EngineFailed,
    ModelNotFound,
    NoModel,
    NotReachable,
    NotReady,
    Overloaded,
    RefusedInput,
    TimedOut,
    Unauthorized,
    VLLMError,
)
from vllm_client.factory import create_llm_client
from vllm_client.protocol import LLMClient
from vllm_client.router import ModelRouter, RoutedClient, get_best_model
from vllm_client.sources import CatalogSource, FileSource, KubernetesSource

__all__ = [
    "Catalog",
    "CatalogEntry",
    "CatalogSource",
    "ClientConfig",
    "ConfigurationError",
    "EmptyAnswer",
    "EngineFailed",
    "FileSource",
    "KubernetesSource",
    "LLMClient",
    "ModelNotFound",
    "ModelRouter",
    "NoModel",
    "NotReachable",
    "NotReady",
    "Overloaded",
    "RefusedInput",
    "RoutedClient",
    "TimedOut",
    "Unauthorized",
    "VLLMClient",
    "VLLMError",
    "create_llm_client",
    "get_best_model",
]
