"""`kubectl-vllm` as people run it: on this machine, with the kubectl and the kubeconfig of a test's cluster."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.namespace import Namespace

PROGRAM = Path(sys.executable).with_name("kubectl-vllm")
LONGEST_SECONDS = 300.0


def run(namespace: Namespace, *words: str) -> subprocess.CompletedProcess[str]:
    """The plug-in in a namespace, until it ends; it is not in the cluster's network."""
    return subprocess.run(
        [str(PROGRAM), *words, "--namespace", namespace.name],
        env=namespace.cluster.env,
        capture_output=True,
        text=True,
        check=False,
        timeout=LONGEST_SECONDS,
    )


def said(namespace: Namespace, *words: str) -> str:
    """What it prints where it succeeds.

    Raises:
        AssertionError: it does not; with all that it said.
    """
    done = run(namespace, *words)
    assert done.returncode == 0, f"{words}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
