"""The user's own kubectl, so that contexts, credentials and rights are those of every other command."""

from __future__ import annotations

import contextlib
import os
import subprocess
from typing import TYPE_CHECKING, Any

from vllm_operator.api import json_text

if TYPE_CHECKING:
    from collections.abc import Iterator

END_SECONDS = 5.0


class KubectlError(Exception):
    """What kubectl said when it did not do what was asked."""


class Kubectl:
    """The user's kubectl, with the options that every call shares."""

    def __init__(self, namespace: str, context: str) -> None:
        self._words = [os.environ.get("KUBECTL", "kubectl")]
        self._words += ["--namespace", namespace] if namespace else []
        self._words += ["--context", context] if context else []

    def run(self, *words: str, timeout_seconds: float | None = None) -> str:
        """Its output.

        Raises:
            KubectlError: it is not there, it failed, with its own words, or it took longer than it may.
        """
        command = [*self._words, *words]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            raise KubectlError(f"kubectl {words[0]} has brought nothing within {timeout_seconds:g} s") from None
        except OSError as error:
            raise self._missing(error) from error
        if done.returncode:
            raise KubectlError(" ".join(done.stderr.split()) or f"kubectl ended with exit code {done.returncode}")
        return done.stdout

    def get(self, *words: str) -> Any:
        """Objects as data.

        Raises:
            KubectlError: as `run`.
        """
        return json_text.loads(self.run("get", *words, "--output", "json"))

    @contextlib.contextmanager
    def running(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """A call that goes on until the end of the block; its output and errors can be read.

        Raises:
            KubectlError: it is not there.
        """
        try:
            process = subprocess.Popen(
                [*self._words, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        except OSError as error:
            raise self._missing(error) from error
        with process:
            try:
                yield process
            finally:
                process.terminate()

    @staticmethod
    def words_of(process: subprocess.Popen[str]) -> str:
        """What a call that ends by itself said of its failure; empty where it goes on."""
        try:
            _, errors = process.communicate(timeout=END_SECONDS)
        except subprocess.TimeoutExpired:
            return ""
        return " ".join(errors.split())

    def _missing(self, error: OSError) -> KubectlError:
        return KubectlError(f"{self._words[0]}: {error.strerror}: install kubectl, or name it in KUBECTL")
