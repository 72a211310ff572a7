"""What `helm test` runs: serve a model, have it complete a prompt, and take it away again.

It runs in a pod whose account may create VLLMModels in one namespace, and read and delete the one of this name:
`python3 -m vllm_operator.acceptance --name NAME --namespace NAMESPACE --spec JSON`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import ssl
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from vllm_operator.api import meta
from vllm_operator.api.conditions import ConditionType, by_type
from vllm_operator.cluster.client import Client
from vllm_operator.cluster.kinds import MODEL
from vllm_operator.cluster.session import open_session
from vllm_operator.errors import ApiConflict, ApiNotFound, ApiUnavailable, OperatorError, TrialFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from vllm_operator.api.live import LiveObject

_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_LOOK_SECONDS: Final = 2.0
_REQUEST_SECONDS: Final = 30.0
_COMPLETION_SECONDS: Final = 120.0
_FOLLOWED_SECONDS: Final = 300.0
"""How long an operator may take until it first says something of a model: its image may still be on its way."""
_ROUTED_SECONDS: Final = 60.0
"""How long a ready model may be out of reach: DNS, the node's kube-proxy and a mesh each learn of it on their own."""
_GATEWAY_STATUSES: Final = (502, 503, 504)
_MOST_TOKENS: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What is tried."""

    model: Mapping[str, Any]
    """The VLLMModel."""
    prompt: str
    timeout_seconds: float


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a model is."""

    words: str
    ready: bool = False
    hopeless: bool = False
    """Nothing will change until somebody acts."""
    followed: bool = True


def standing(model: LiveObject) -> Standing:
    """How far a model is, as its status says of the spec as it stands."""
    conditions = by_type(model.status)
    ready = conditions.get(ConditionType.READY)
    if ready is None or ready.get("observedGeneration") != model.generation:
        return Standing("no operator has looked at it yet", followed=False)
    words = f"{ready['reason']}: {ready['message']}"
    stalled = conditions.get(ConditionType.STALLED, {}).get("status") == "True"
    return Standing(words, ready=ready["status"] == "True", hopeless=stalled)


async def tried(client: Client, session: aiohttp.ClientSession, trial: Trial) -> str:
    """What the model makes of the prompt. It is gone afterwards, whatever comes.

    Raises:
        TrialFailed: it was not served, or completes nothing.
        ApiError: the API server does not take it.
    """
    made: LiveObject | None = None
    try:
        async with asyncio.timeout(trial.timeout_seconds):
            made = await _create(client, trial.model)
            url = await _served(client, made)
            return await completion(session, url, trial.prompt)
    except TimeoutError:
        words = standing(await client.get(MODEL, made.namespace, made.name)).words if made else "not even created"
        raise TrialFailed(f"not served within {trial.timeout_seconds:g} s: {words}") from None
    finally:
        if made is not None:
            await client.delete(made)


async def _create(client: Client, model: Mapping[str, Any]) -> LiveObject:
    """Create it; one that an earlier try has left behind goes first."""
    namespace, name = model["metadata"]["namespace"], model["metadata"]["name"]
    while True:
        try:
            return await client.create(MODEL, model)
        except ApiConflict:
            with contextlib.suppress(ApiNotFound):
                await client.delete(await client.get(MODEL, namespace, name))
            await asyncio.sleep(_LOOK_SECONDS)


async def _served(client: Client, made: LiveObject) -> str:
    """URL of a model, once it is ready; what is told of it until then is printed.

    Raises:
        TrialFailed: it will not be without somebody's doing.
    """
    began, said = asyncio.get_running_loop().time(), ""
    while True:
        found = await _looked_at(client, made)
        now = standing(found)
        if now.words != said:
            _say(said := now.words)
        if now.ready:
            return str(found.status["url"])
        if now.hopeless:
            raise TrialFailed(f"not served: {now.words}")
        if not now.followed and asyncio.get_running_loop().time() > began + _FOLLOWED_SECONDS:
            raise TrialFailed(
                f"no operator follows it after {_FOLLOWED_SECONDS:g} s: look at the operator's log; where it has a "
                "modelSelector, give the model its labels by test.labels"
            )
        await asyncio.sleep(_LOOK_SECONDS)


async def _looked_at(client: Client, made: LiveObject) -> LiveObject:
    while True:
        try:
            return await client.get(MODEL, made.namespace, made.name)
        except ApiUnavailable as error:
            _say(str(error))
            await asyncio.sleep(_LOOK_SECONDS)


async def completion(session: aiohttp.ClientSession, url: str, prompt: str) -> str:
    """What the model behind a base URL makes of a prompt.

    Raises:
        TrialFailed: it cannot be reached, does not answer as vLLM does, or with nothing.
    """
    try:
        served = await _models(session, url)
        body = {"model": served["data"][0]["id"], "prompt": prompt, "max_tokens": _MOST_TOKENS}
        answer = await _answer(session, "POST", f"{url}/completions", body)
        text = str(answer["choices"][0]["text"])
    except (aiohttp.ClientError, ValueError, LookupError, TypeError) as error:
        raise TrialFailed(f"ready, but {url} does not answer as vLLM does: {error!r}") from error
    if not text.strip():
        raise TrialFailed(f"ready, but {url} completes {prompt!r} with nothing")
    return text


async def _models(session: aiohttp.ClientSession, url: str) -> Any:
    """What it serves; asked until it can be reached.

    Raises:
        TrialFailed: it cannot.
        aiohttp.ClientError: it answers with an error.
    """
    began = asyncio.get_running_loop().time()
    while True:
        try:
            return await _answer(session, "GET", f"{url}/models")
        except aiohttp.ClientError as error:
            if not _is_on_the_way(error):
                raise
            if asyncio.get_running_loop().time() > began + _ROUTED_SECONDS:
                raise TrialFailed(
                    f"ready, but nobody in this pod reaches {url} within {_ROUTED_SECONDS:g} s: {error}; look at the "
                    "cluster's DNS and kube-proxy, at NetworkPolicies, and at the mesh where there is one"
                ) from error
            await asyncio.sleep(_LOOK_SECONDS)


def _is_on_the_way(error: aiohttp.ClientError) -> bool:
    """Whether it comes from what leads to the engines: no connection, or a mesh's proxy that knows of none yet."""
    if isinstance(error, aiohttp.ClientResponseError):
        return error.status in _GATEWAY_STATUSES
    return isinstance(error, aiohttp.ClientConnectionError) and not isinstance(error, aiohttp.ClientSSLError)


async def _answer(session: aiohttp.ClientSession, method: str, url: str, body: object = None) -> Any:
    timeout = aiohttp.ClientTimeout(total=_COMPLETION_SECONDS)
    async with session.request(method, url, json=body, timeout=timeout, raise_for_status=True) as response:
        return await response.json()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _read(words: Sequence[str]) -> Trial:
    parser = argparse.ArgumentParser(prog="python3 -m vllm_operator.acceptance", description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--labels", type=json.loads, default={})
    parser.add_argument("--spec", type=json.loads, required=True)
    parser.add_argument("--prompt", default="The sky is")
    parser.add_argument("--timeout-seconds", type=float, default=1800.0)
    parser.add_argument("--pod", nargs=2, metavar=("NAME", "UID"), help="the pod that the model goes with")
    given = parser.parse_args(words)
    metadata = {"name": given.name, "namespace": given.namespace, "labels": given.labels}
    if given.pod:
        name, uid = given.pod
        metadata["ownerReferences"] = [{"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}]
    model = {"apiVersion": meta.API_VERSION, "kind": meta.KIND, "metadata": metadata, "spec": given.spec}
    return Trial(model=model, prompt=given.prompt, timeout_seconds=given.timeout_seconds)


@contextlib.asynccontextmanager
async def _in_a_pod() -> AsyncIterator[tuple[Client, aiohttp.ClientSession]]:
    """A client of the API server with the pod's own account, and a session for the model."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    tls = ssl.create_default_context(cafile=_ACCOUNT / "ca.crt")
    async with open_session(tls, {}, _ACCOUNT / "token") as api, aiohttp.ClientSession() as models:
        yield Client(api, server, timeout_seconds=_REQUEST_SECONDS), models


async def _run(trial: Trial) -> None:
    task = asyncio.current_task()
    if task is not None:  # the model goes with a test that is given up
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with _in_a_pod() as (client, session):
        text = await tried(client, session, trial)
    _say(f"{trial.prompt!r} is completed with {text!r}")


def main(words: Sequence[str] = sys.argv[1:]) -> None:
    """Run as a command."""
    try:
        asyncio.run(_run(_read(words)))
    except OperatorError as error:
        sys.stderr.write(f"vllm-operator test: {error}\n")
        sys.exit(1)
    except asyncio.CancelledError:
        sys.stderr.write("vllm-operator test: given up, the model is deleted\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
