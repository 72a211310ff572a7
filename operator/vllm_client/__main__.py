"""`python -m vllm_client "prompt"`: print the answer; exit code 1 and one line on stderr if there is none."""

from __future__ import annotations

import argparse
import asyncio
import sys

from vllm_client.errors import VLLMError
from vllm_client.factory import create_llm_client

MAX_TOKENS = 256


async def answer(prompt: str, max_tokens: int) -> str:
    """The answer of the model that the environment names."""
    async with create_llm_client() as client:
        return await client.complete(prompt, max_tokens=max_tokens)


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m vllm_client", description="Ask the model a question.")
    parser.add_argument("prompt")
    parser.add_argument("--max-tokens", type=int, default=MAX_TOKENS, help="the answer's length at most (%(default)s)")
    arguments = parser.parse_args(argv)
    try:
        print(asyncio.run(answer(arguments.prompt, arguments.max_tokens)))
    except VLLMError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
