"""Many prompts: bounded concurrency and memory, answers in the order of the prompts, resumable.

async for result in run_batch(llm, prompts, path="answers.jsonl"):
    print(result.id, result.text or result.error)
"""

from vllm_client.batch.items import BatchError, BatchItem, BatchResult
from vllm_client.batch.run import run_batch

__all__ = ["BatchError", "BatchItem", "BatchResult", "run_batch"]
