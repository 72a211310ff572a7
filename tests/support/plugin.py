"""`kubectl-vllm` as people run it: on this machine, with the kubectl and the kubeconfig of a test's cluster."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.namespace import Namespace

PROGRAM = Path(sys.executable).with_name("kubectl-vllm")
LONGEST_SECONDS = 300.0


def run(namespace: Namespace, *words: str) -> subprocess.CompletedProcess[str]:
    """The plug-in in a namespace, until it ends; it is not in the cluster's network."""
    with running(namespace, *words) as process:
        out, errors = process.communicate(timeout=LONGEST_SECONDS)
        return subprocess.CompletedProcess(process.args, process.returncode, out, errors)


def said(namespace: Namespace, *words: str) -> str:
    """What it prints where it succeeds.

    Raises:
        AssertionError: it does not; with all that it said.
    """
    done = run(namespace, *words)
    assert done.returncode == 0, f"{words}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@contextlib.contextmanager
def running(namespace: Namespace, *words: str) -> Iterator[subprocess.Popen[str]]:
    """The plug-in beside the block, at the end of which it is ended if it still runs."""
    command = [str(PROGRAM), *words, "--namespace", namespace.name]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=namespace.cluster.env, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()
