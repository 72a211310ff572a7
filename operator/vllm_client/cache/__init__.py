"""Answers that are remembered: each distinct request is asked once.

async with CachedClient(create_llm_client("vllm")) as llm:
    await llm.complete("What is an ontology?", temperature=0)     # asked
    await llm.complete("What is an ontology?", temperature=0)     # remembered
"""

from vllm_client.cache.client import CachedClient, CacheStatistics
from vllm_client.cache.sqlite import SQLiteStore
from vllm_client.cache.store import AnswerStore, MemoryStore

__all__ = ["AnswerStore", "CacheStatistics", "CachedClient", "MemoryStore", "SQLiteStore"]
