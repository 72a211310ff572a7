"""The command line: `vllm-check`, or `python -m vllm_client.check`.

Exit codes: 0 all checks passed, 1 one failed, 2 the settings are not complete or not understood.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

from vllm_client.check.report import as_json, as_table
from vllm_client.check.steps import CONCURRENCY, REQUESTS, CheckResult, run_checks
from vllm_client.errors import ConfigurationError
from vllm_client.factory import create_llm_client

FAILED, MISCONFIGURED = 1, 2
MOST = 10_000


def main(argv: list[str] | None = None) -> int:
    """Check, print, and return the exit code."""
    options = parser().parse_args(argv)
    try:
        results = asyncio.run(checked(options))
    except ConfigurationError as error:
        print(f"error: {error}", file=sys.stderr)
        return MISCONFIGURED
    print(as_json(results) if options.output == "json" else as_table(results))
    return 0 if all(result.passed for result in results) else FAILED


async def checked(options: argparse.Namespace) -> list[CheckResult]:
    """The results for the model that configuration and environment name.

    Raises:
        ConfigurationError: They name none.
    """
    async with create_llm_client("vllm", options.config) as client:
        return await run_checks(client, requests=options.requests, concurrency=options.concurrency)


def parser() -> argparse.ArgumentParser:
    """The options."""
    found = argparse.ArgumentParser(
        prog="vllm-check",
        description="Check that a model answers: its name, a completion, a stream, and a batch with its latencies. "
        "The model is the one that VLLM_BASE_URL and VLLM_MODEL_NAME name, or a configuration file.",
        epilog="Exit codes: 0 all checks passed, 1 one failed, 2 the settings are not complete or not understood.",
    )
    found.add_argument("--config", help="a YAML file with the settings")
    found.add_argument("--requests", type=count, default=REQUESTS, help="answers in the batch (%(default)s)")
    found.add_argument("--concurrency", type=count, default=CONCURRENCY, help="of them at a time (%(default)s)")
    found.add_argument("--output", "-o", choices=("table", "json"), default="table")
    return found


def count(text: str) -> int:
    """A number of requests.

    Raises:
        argparse.ArgumentTypeError: It is none, or too many for a check.
    """
    if not text.isdecimal() or not 1 <= int(text) <= MOST:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1 to {MOST}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
