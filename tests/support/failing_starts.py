"""Start the real vLLM again and again where each start has to fail, and read what it says.

    with failing_starts(folder) as starts:
        text = starts.output("org/model", "--dtype", "fp4")

A start that fails does so within a second, after eight seconds in which Python imports vLLM. So one process has
imported it, and each start is a fork of that process which runs `vllm serve` from its first line on. The process is
this same module, run by the engine's interpreter.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tests.support.vllm_parser import clean_output

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

REPOSITORY = Path(__file__).parent.parent.parent

START_SECONDS = 240
"""What a start gets before it is killed, which is a code of its own."""


@dataclass(frozen=True)
class FailingStarts:
    """The process that has vLLM imported."""

    process: subprocess.Popen[str]
    environment: Mapping[str, str]

    def output(self, *words: str, **env: str) -> str:
        """All that a start prints.

        Args:
            words: What follows `vllm serve`.
            env: Further variables of its environment, such as are read after the imports.

        Raises:
            AssertionError: the start ended as if nothing were wrong, or did not end in time.
            RuntimeError: the process has ended.
        """
        questions, answers = self.process.stdin, self.process.stdout
        if questions is None or answers is None:
            raise RuntimeError("the process that starts vLLM has no pipes")
        with tempfile.NamedTemporaryFile("r", encoding="utf-8", errors="replace") as printed:
            question = {"words": words, "env": {**self.environment, **env}, "output": printed.name}
            questions.write(json.dumps(question) + "\n")
            questions.flush()
            line = answers.readline()
            if not line:
                raise RuntimeError(f"the process that starts vLLM has ended with exit code {self.process.wait()}")
            text = printed.read()
        assert json.loads(line) not in (0, -signal.SIGALRM), text
        return text


@contextlib.contextmanager
def failing_starts(folder: Path) -> Iterator[FailingStarts]:
    """The process for the length of a block; the folder is the engines' home.

    Raises:
        RuntimeError: the real engine is not installed; the message says how to install it.
    """
    from tests.support.vllm_cpu import engine_environment, real_engine  # noqa: PLC0415 # not there in the process

    engine = real_engine().require()
    environment = {"PATH": "/usr/bin:/bin", **engine_environment(folder)}
    command = [str(engine.venv / "bin" / "python"), "-P", "-m", "tests.support.failing_starts"]
    found_by = {**environment, "PYTHONPATH": str(REPOSITORY)}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, env=found_by, text=True) as process:
        yield FailingStarts(process, environment)


# ----------------------------------------------------------------------------------------- what the process itself runs


def started(words: Sequence[str], env: Mapping[str, str], output: str) -> int:
    """The exit code of a start in a fork; negative for the signal that has ended it."""
    child = os.fork()
    if child == 0:
        _become(words, env, output)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _become(words: Sequence[str], env: Mapping[str, str], output: str) -> None:
    """Be `vllm serve`: everything that it prints goes to the file. Does not return."""
    from vllm.entrypoints.cli.main import main  # type: ignore[import-not-found] # noqa: PLC0415 # the engine's own

    os.environ.clear()
    os.environ.update(env)
    file = os.open(output, os.O_WRONLY | os.O_APPEND)
    for number, flags in ((0, os.open(os.devnull, os.O_RDONLY)), (1, file), (2, file)):
        os.dup2(flags, number)
    signal.alarm(START_SECONDS)
    sys.argv = ["vllm", "serve", *words]
    sys.exit(main())


def answer(questions: IO[str], answers: IO[str]) -> None:
    """Start what each line asks for, and answer with its exit code, until the lines end."""
    for question in questions:
        answers.write(json.dumps(started(**json.loads(question))) + "\n")
        answers.flush()


if __name__ == "__main__":
    import vllm.entrypoints.cli.serve  # type: ignore[import-not-found] # the engine's own
    import vllm.entrypoints.openai.api_server  # type: ignore[import-not-found] # noqa: F401 # what a start imports

    with clean_output() as answers:
        answer(sys.stdin, answers)
