"""Client library for models that the vLLM operator serves.

    async with create_llm_client("vllm") as llm:      # reads VLLM_BASE_URL, VLLM_MODEL_NAME, VLLM_API_KEY
        print(await llm.complete("What is an ontology?"))

The environment comes from a model's client binding (`envFrom` of its ConfigMap and Secret). `python -m vllm_client
"prompt"` prints an answer.
"""

from vllm_client.availability import check_vllm_availability
from vllm_client.balance.policy import BalancePolicy
from vllm_client.client import VLLMClient, VLLMCloudClient, VLLMLocalClient
from vllm_client.config import ClientConfig
from vllm_client.discovery import Discovery, DiscoveryFailed, DnsDiscovery, FixedEngines, Found
from vllm_client.errors import (
    ConfigurationError,
    EmptyAnswer,
    EngineFailed,
    InvalidAnswer,
    ModelNotFound,
    NotReachable,
    NotReady,
    Overloaded,
    RefusedInput,
    TimedOut,
    Unauthorized,
    VLLMError,
)
from vllm_client.factory import LLMClientFactory, create_llm_client, create_vllm_from_config
from vllm_client.protocol import LLMClient
from vllm_client.sync import SyncVLLMClient

__all__ = [
    "BalancePolicy",
    "ClientConfig",
    "ConfigurationError",
    "Discovery",
    "DiscoveryFailed",
    "DnsDiscovery",
    "EmptyAnswer",
    "EngineFailed",
    "FixedEngines",
    "Found",
    "InvalidAnswer",
    "LLMClient",
    "LLMClientFactory",
    "ModelNotFound",
    "NotReachable",
    "NotReady",
    "Overloaded",
    "RefusedInput",
    "SyncVLLMClient",
    "TimedOut",
    "Unauthorized",
    "VLLMClient",
    "VLLMCloudClient",
    "VLLMError",
    "VLLMLocalClient",
    "check_vllm_availability",
    "create_llm_client",
    "create_vllm_from_config",
]
