"""`kubectl vllm chat` and `kubectl vllm check`: ask a model from where the cluster's network does not reach.

kubectl forwards a port of this machine to the model's Service, and the client library asks there, in a process of its
own with the environment that the model's client binding would give it.
"""

from __future__ import annotations

import base64
import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import urlsplit

import typer

from vllm_operator.api import meta
from vllm_operator.api.names import binding_name, client_name, instance_name
from vllm_operator.cli import relay
from vllm_operator.cli.gates import Output
from vllm_operator.cli.kubectl import Kubectl, KubectlError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_FAILED: Final = 1
_KEY: Final = "VLLM_API_KEY"
_CA_FILE: Final = "VLLM_CA_FILE"
"""Where the client library, too, looks for the certificates of authorities of one's own."""

Name = Annotated[str, typer.Argument(help="The VLLMModel.")]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Its namespace; kubectl's own by default.")]
Context = Annotated[str, typer.Option(help="Context of the kubeconfig; kubectl's own by default.")]


def chat(
    name: Name,
    prompt: Annotated[str, typer.Argument(help="What to say.")],
    *,
    namespace: Namespace = "",
    context: Context = "",
    max_tokens: Annotated[int, typer.Option(min=1, help="The answer's length at most.")] = 256,
) -> None:
    """Say something to a model, and print its answer."""
    _ask(Kubectl(namespace, context), name, "vllm_client", prompt, "--max-tokens", str(max_tokens))


def check(
    name: Name,
    *,
    namespace: Namespace = "",
    context: Context = "",
    requests: Annotated[int, typer.Option(min=1, help="Answers in the batch.")] = 16,
    concurrency: Annotated[int, typer.Option(min=1, help="Of them at a time.")] = 4,
    output: Annotated[Output, typer.Option("--output", "-o", help="A table, or everything as data.")] = Output.TABLE,
) -> None:
    """Check that a model answers: its name, a completion, a stream, and a batch with its latencies.

    Exit code 0: all passed; 1: one failed, or the model cannot be reached.
    """
    options = ["--requests", str(requests), "--concurrency", str(concurrency), "--output", output]
    _ask(Kubectl(namespace, context), name, "vllm_client.check", *options)


def _ask(kubectl: Kubectl, name: str, module: str, *words: str) -> None:
    """Run a program of the client library against a model, and end with its exit code."""
    try:
        settings = binding(kubectl, name)
        with forwarded(kubectl, instance_name(name), settings["VLLM_BASE_URL"]) as url:
            environment = {**os.environ, **settings, "VLLM_BASE_URL": url, "VLLM_DISCOVERY": ""}
            code = subprocess.run([sys.executable, "-m", module, *words], env=environment, check=False).returncode
    except KubectlError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(_FAILED) from None
    raise typer.Exit(code)


def binding(kubectl: Kubectl, name: str) -> dict[str, str]:
    """What a model's client binding says, its key included where it has one.

    Raises:
        KubectlError: there is no such model, or kubectl may not read its binding.
    """
    kubectl.run("get", f"{meta.PLURAL}.{meta.GROUP}", name)
    found: dict[str, str] = dict(kubectl.get("configmap", client_name(instance_name(name)))["data"])
    secret: Mapping[str, str] = kubectl.get("secret", binding_name(instance_name(name)))["data"]
    if _KEY in secret:
        found[_KEY] = base64.b64decode(secret[_KEY]).decode()
    return found


@contextlib.contextmanager
def forwarded(kubectl: Kubectl, service: str, url: str) -> Iterator[str]:
    """The URL on this machine from which a Service is reached within the block; kubectl takes a port that is free.

    Where the Service speaks https, the URL is still one of http, and what is wrong with the certificate is told.

    Raises:
        KubectlError: kubectl forwards nothing: no engine is ready, or it may not.
    """
    parts = urlsplit(url)
    with kubectl.running("port-forward", f"service/{service}", f":{parts.port}") as process:
        line = process.stdout.readline() if process.stdout else ""
        local = line.rpartition(" -> ")[0].rpartition(":")[2]
        if not local.isdecimal():
            raise KubectlError(f"no engine of {service} can be reached: {kubectl.words_of(process) or line}")
        if parts.scheme != "https":
            yield f"http://127.0.0.1:{local}/v1"
            return
        fault = relay.certificate_fault(int(local), parts.hostname or "", os.environ.get(_CA_FILE, ""))
        if fault:
            typer.echo(
                f"note: clients that do not know better refuse the certificate of {parts.hostname}: {fault}", err=True
            )
        with relay.plain(int(local)) as port:
            yield f"http://127.0.0.1:{port}/v1"
