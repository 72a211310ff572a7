"""Ask the argument parser of any release of vLLM, made of its own code alone: no engine, no torch.

    with release_parser("0.10.2") as parser:
        assert parser.parse(["org/model", "--max-model-len", "32k"])["max_model_len"] == 32000

It is what `tools.vllm_flags` reads the table from; tests/contract/test_release_parsers.py holds it to the parser of the
real engine. The process is this same file.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.vllm_parser import RealParser, clean_output, running, serve
from tools.vllm_flags.parser_program import build

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parent.parent.parent


@contextlib.contextmanager
def release_parser(release: str) -> Iterator[RealParser]:
    """A parser for the length of a block.

    Raises:
        FetchError: The sources of the release are not there; the message says how to get them.
    """
    from tools.vllm_flags import fetch  # noqa: PLC0415 # not needed in the process

    program = [sys.executable, "-P", "-m", "tests.support.release_parser", str(fetch.require(release))]
    with running(program, {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)}) as parser:
        yield parser


if __name__ == "__main__":
    with clean_output() as answers:
        serve(sys.stdin, answers, *build(Path(sys.argv[1])))
