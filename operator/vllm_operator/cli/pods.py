"""What runs in the engines' pods, asked inside them by `kubectl exec`: no network to the pods is needed."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeVar

from vllm_operator.cli.kubectl import KubectlError
from vllm_operator.cli.outside import comment
from vllm_operator.render.manager import INTERPRETER, PORT_NAME, TELL
from vllm_operator.render.pod import CONTAINER_NAME
from vllm_operator.render.untyped import items, named, part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from vllm_operator.cli.kubectl import Kubectl

SIDE_BY_SIDE: Final = 8
"""Pods that are asked at the same time: each takes a kubectl of its own."""

LONGEST_SECONDS: Final = 20.0
"""How long one exec may take: the API server gives a kubelet that does not answer half a minute and more."""

_MOST_WORDS: Final = 80
"""Characters of an odd answer that are shown."""

One = TypeVar("One")
Result = TypeVar("Result")


def each(ask: Callable[[One], Result], found: Iterable[One]) -> list[Result]:
    """What asking each of them brings, in their order; some are asked side by side."""
    with ThreadPoolExecutor(SIDE_BY_SIDE) as threads:
        return list(threads.map(ask, found))


def manager_status(kubectl: Kubectl, pod: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the manager in a pod says.

    Raises:
        KubectlError: it does not answer, most often because the container does not run.
    """
    port = port_of(pod, PORT_NAME)
    if port is None:
        raise KubectlError("the pod was made by an earlier version of the operator, and has no manager")
    if not is_running(pod):
        raise KubectlError("the container does not run")
    return told(run_in(kubectl, pod, *INTERPRETER, TELL, str(port)), "the manager's answer is no status")


def run_in(kubectl: Kubectl, pod: Mapping[str, Any], *words: str) -> str:
    """What a command prints in the engine's container.

    Raises:
        KubectlError: it fails, or the user may not run it.
    """
    command = ("exec", pod["metadata"]["name"], "--container", CONTAINER_NAME, "--", *words)
    return kubectl.run(*command, timeout_seconds=LONGEST_SECONDS)


def told(text: str, fault: str) -> Mapping[str, Any]:
    """The document that a command has printed.

    Raises:
        KubectlError: it is none; `fault` says of what.
    """
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise KubectlError(f"{fault}: {comment(text)[:_MOST_WORDS]}")
    return document


def port_of(pod: Mapping[str, Any], name: str) -> int | None:
    """A port of the engine's container by its name, as this very pod has it; None where it has none."""
    port = named(items(_container(pod), "ports"), name).get("containerPort")
    return port if isinstance(port, int) else None


def is_running(pod: Mapping[str, Any]) -> bool:
    """Whether the engine's container runs."""
    return bool(part(named(items(pod, "status", "containerStatuses"), CONTAINER_NAME), "state", "running"))


def _container(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    return named(items(pod, "spec", "containers"), CONTAINER_NAME)
