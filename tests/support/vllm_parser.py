"""Ask vLLM's own argument parser what it makes of a command line, without starting an engine.

    with real_parser() as parser:
        assert parser.parse(["org/model", "--max-model-len", "32k"])["max_model_len"] == 32000

Importing vLLM takes seconds and parsing milliseconds, so one process answers all questions. That process is this same
file, run by the engine's interpreter: outside `real_parser` nothing of the tests is imported at run time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Mapping, Sequence

JSON_TYPES = (str, int, float, bool, type(None))


class ParserRefusalError(Exception):
    """vLLM does not take the command line; the message is its own."""


@dataclasses.dataclass(frozen=True)
class RealParser:
    """The running process."""

    process: subprocess.Popen[str]

    def parse(self, words: Sequence[str]) -> dict[str, Any]:
        """What vLLM understands: every option by its `dest`; nested configurations are objects, sets are sorted lists.

        Args:
            words: What follows `vllm serve`, the model first.

        Raises:
            ParserRefusalError: The parser, or vLLM's check of its result before any loading, refuses them.
            RuntimeError: The process has ended.
        """
        questions, answers = self.process.stdin, self.process.stdout
        if questions is None or answers is None:
            raise RuntimeError("the parser's process has no pipes")
        line = ""
        with contextlib.suppress(BrokenPipeError):
            questions.write(json.dumps(list(words)) + "\n")
            questions.flush()
            line = answers.readline()
        if not line:
            raise RuntimeError(f"vLLM's parser has ended with exit code {self.process.wait()}")
        answer = json.loads(line)
        if "refused" in answer:
            raise ParserRefusalError(answer["refused"])
        parsed: dict[str, Any] = answer["parsed"]
        return parsed


@contextlib.contextmanager
def real_parser() -> Iterator[RealParser]:
    """A parser for the length of a block.

    Raises:
        RuntimeError: The real engine is not installed; the message says how to install it.
    """
    from tests.support.vllm_cpu import engine_environment, real_engine  # noqa: PLC0415 # not there in the process

    engine = real_engine().require()
    environment = {"PATH": os.environ["PATH"], **engine_environment(Path("/nonexistent"))}
    with running([str(engine.venv / "bin" / "python"), "-P", __file__], environment) as parser:
        yield parser


@contextlib.contextmanager
def running(program: Sequence[str], environment: Mapping[str, str]) -> Iterator[RealParser]:
    """A program that answers questions, for the length of a block."""
    process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True)
    with process:
        try:
            yield RealParser(process)
        finally:
            process.kill()
            with contextlib.suppress(BrokenPipeError):  # a question that nobody took is still in the buffer
                process.communicate()


# ----------------------------------------------------------------------------------------- what the process itself runs


def build_parser() -> tuple[argparse.ArgumentParser, Callable[[argparse.Namespace], None]]:
    """The parser of `vllm serve` as vLLM's command line builds it, and vLLM's check of what it has parsed."""
    from vllm.entrypoints.launchers.cli_args import (  # type: ignore[import-not-found] # noqa: PLC0415 # see above
        make_arg_parser,
        validate_parsed_serve_args,
    )
    from vllm.utils.argparse_utils import (  # type: ignore[import-not-found] # noqa: PLC0415
        FlexibleArgumentParser,
    )

    parser = FlexibleArgumentParser(prog="vllm")
    make_arg_parser(parser.add_subparsers(required=False, dest="subparser").add_parser("serve"))
    return parser, validate_parsed_serve_args


def answer_of(
    parser: argparse.ArgumentParser, check: Callable[[argparse.Namespace], None], words: list[str]
) -> dict[str, Any]:
    """The parsed options, or the refusal."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            parsed = parser.parse_args(["serve", *words])
        check(parsed)
    except SystemExit:
        return {"refused": printed.getvalue().rpartition("error: ")[2].strip() or "it only prints its help"}
    except Exception as error:  # noqa: BLE001 # vLLM refuses by exceptions of many kinds
        return {"refused": f"{type(error).__name__}: {error}"}
    return {"parsed": {name: plain(value) for name, value in vars(parsed).items()}}


def plain(value: Any) -> Any:
    """The value as JSON can hold it."""
    if isinstance(value, enum.Enum):
        return value.name
    if dataclasses.is_dataclass(value):
        value = {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(plain(item) for item in value)
    return value if isinstance(value, JSON_TYPES) else repr(value)


def serve(
    questions: IO[str],
    answers: IO[str],
    parser: argparse.ArgumentParser,
    check: Callable[[argparse.Namespace], None],
) -> None:
    """Answer each line of words with a line of JSON until the questions end."""
    for question in questions:
        answers.write(json.dumps(answer_of(parser, check, json.loads(question))) + "\n")
        answers.flush()


@contextlib.contextmanager
def clean_output() -> Iterator[IO[str]]:
    """Standard output for answers alone: vLLM logs to it, which goes to standard error from then on."""
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        yield answers


if __name__ == "__main__":
    with clean_output() as answers:
        serve(sys.stdin, answers, *build_parser())
