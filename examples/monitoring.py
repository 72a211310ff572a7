"""See whether a model is well, how long functions take, and what became of all requests.

python examples/monitoring.py

The environment is that of quickstart.py.
"""

import asyncio

from vllm_client import MonitoredClient, RequestStatistics, create_llm_client, monitor_performance

TEXTS = ("An ontology is a formal description of what there is.", "A taxonomy is a hierarchy of classes.")

statistics = RequestStatistics()


@monitor_performance
async def extract(text: str) -> str:
    """The terms of a text, as the model names them."""
    async with MonitoredClient(create_llm_client("vllm"), statistics) as client:
        return await client.complete(f"Extract the terms of: {text}", max_tokens=50)


async def main() -> None:
    """Ask how the model is, use it, and say what came of that."""
    async with create_llm_client("vllm") as client:
        print("healthy:", await client.health_check())  # False: the log says why
        print("model:", (await client.get_model_info())["id"])
    for text in TEXTS:
        await extract(text)
    for seen in statistics.snapshot():
        print(f"{seen.model}: {seen.answered} answers, errors {seen.errors}, {seen.completion_tokens} tokens written")


if __name__ == "__main__":
    asyncio.run(main())
