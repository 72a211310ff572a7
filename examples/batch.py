"""Ask a list of prompts at once, and then a batch whose answers are kept in a file.

python examples/batch.py answers.jsonl

Run it again, or after it was killed: what the file has is not asked again. The environment is that of quickstart.py.
"""

import asyncio
import sys

from vllm_client import BatchItem, CachedClient, create_llm_client, run_batch

PRODUCTS = {
    "p-1": "Red cotton shirt, size M",
    "p-2": "Steel water bottle, 750 ml",
    "p-3": "Red cotton shirt, size M",
}


def question(product: str) -> str:
    """What is asked of a product."""
    return f"Name the material in one word: {product}"


async def list_of_prompts() -> None:
    """A few prompts: one list of answers, or the first error."""
    async with create_llm_client("vllm") as client:
        prompts = [question(product) for product in PRODUCTS.values()]
        for response in await client.generate_batch(prompts, temperature=0.1, max_tokens=50):
            print(response)


async def batch_in_a_file(path: str) -> None:
    """Any number of prompts: errors are results, equal prompts are asked once, answers outlive the process."""
    items = [BatchItem(name, question(product)) for name, product in PRODUCTS.items()]
    async with CachedClient(create_llm_client("vllm"), only_deterministic=False) as client:
        async for result in run_batch(client, items, path=path, concurrency=32, temperature=0.1, max_tokens=50):
            print(result.id, "kept" if result.resumed else "new", result.text or result.error, sep=": ")
        print("asked:", client.statistics.misses)


async def main() -> None:
    """Both, one after the other."""
    await list_of_prompts()
    await batch_in_a_file(sys.argv[1] if len(sys.argv) > 1 else "answers.jsonl")


if __name__ == "__main__":
    asyncio.run(main())
