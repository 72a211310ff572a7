"""Test that a model does all that echo-roots needs of it.

python examples/test_vllm_integration.py

The environment is that of quickstart.py. Exit codes: 0 all tests passed, 1 some, 2 none.
"""

import asyncio
import sys
import time
from typing import Literal

from pydantic import BaseModel, Field

from vllm_client import LLMClientFactory, VLLMError, create_llm_client, get_available_providers

PROMPTS = (
    "What is 2+2? Answer with the number.",
    "What is the colour of the sky? Answer in one word.",
    "What is the capital of Japan? Answer in one word.",
)


class Product(BaseModel):
    """What is extracted."""

    brand: Literal["Apple", "Google", "Samsung"]
    model: str = Field(pattern="^[A-Za-z0-9 ]{1,30}$")


async def test_provider_is_available() -> None:
    """The environment names a model, and the model answers."""
    available, status = get_available_providers()["vllm"]
    assert available, status


async def test_client_answers() -> None:
    """The model is well, answers a prompt, and says what it is."""
    async with LLMClientFactory.create_client("vllm") as client:
        assert await client.health_check(), "the line before this one says why"
        assert await client.complete("What is the capital of France?", max_tokens=10, temperature=0.1)
        assert "error" not in await client.get_model_info()


async def test_extraction_fits_its_schema() -> None:
    """The answer is JSON that can be used as it is."""
    async with create_llm_client("vllm") as client:
        prompt = "Extract brand and model as JSON: Apple iPhone 15 Pro Max 256GB"
        answer = await client.complete(prompt, schema=Product, max_tokens=200, temperature=0.1)
    assert Product.model_validate_json(answer).model


async def test_batch_keeps_its_order() -> None:
    """There is an answer to each prompt."""
    async with create_llm_client("vllm") as client:
        answers = await client.generate_batch(PROMPTS, max_tokens=20, temperature=0.1)
    assert len(answers) == len(PROMPTS)
    assert all(answers)


TESTS = (
    test_provider_is_available,
    test_client_answers,
    test_extraction_fits_its_schema,
    test_batch_keeps_its_order,
)


def main() -> int:
    """Run all tests, print what came of each, and return the exit code."""
    passed = 0
    for test in TESTS:
        began = time.monotonic()
        try:
            asyncio.run(test())
        except (AssertionError, VLLMError) as error:
            print(f"FAIL  {test.__name__}: {error}")
        else:
            passed += 1
            print(f"PASS  {test.__name__} ({time.monotonic() - began:.1f} s)")
    print(f"{passed} of {len(TESTS)} tests passed")
    return 0 if passed == len(TESTS) else 1 if passed else 2


if __name__ == "__main__":
    sys.exit(main())
