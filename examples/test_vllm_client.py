"""The same as a test of pytest, to copy into your own; it needs pytest and pytest-asyncio.

pytest examples/test_vllm_client.py

The environment is that of quickstart.py; without it the test fails, and says which variable is missing.
"""

import subprocess
import sys

import pytest

from vllm_client import create_llm_client


@pytest.mark.asyncio
async def test_vllm_client() -> None:
    """The model is well, and answers a prompt."""
    async with create_llm_client("vllm") as client:
        assert await client.health_check()
        response = await client.complete("Hello", max_tokens=10)
    assert len(response) > 0


if __name__ == "__main__":
    sys.exit(subprocess.run([sys.executable, "-m", "pytest", __file__], check=False).returncode)
