"""Ask a model, and print its answer.

python examples/quickstart.py "What is an ontology?"

VLLM_BASE_URL and VLLM_MODEL_NAME name the model, VLLM_API_KEY its key where it asks for one.
"""

import asyncio
import sys

from vllm_client import check_vllm_availability, create_llm_client


async def answer(prompt: str) -> str:
    """The model's answer to the prompt."""
    async with create_llm_client("vllm") as client:
        return await client.complete(
            prompt=prompt,
            temperature=0.1,
            max_tokens=200,
            top_p=0.9,
            top_k=50,  # of vLLM alone; so are min_p and repetition_penalty
            frequency_penalty=0.0,
            presence_penalty=0.0,
        )


def main() -> None:
    """Say why the model cannot be asked, or ask it."""
    available, status = check_vllm_availability()
    if not available:
        sys.exit(status)
    print(asyncio.run(answer(" ".join(sys.argv[1:]) or "What is an ontology?")))


if __name__ == "__main__":
    main()
