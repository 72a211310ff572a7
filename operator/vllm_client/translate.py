"""Which error of this library an error of the OpenAI client becomes."""

from __future__ import annotations

import json
import re
import ssl
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import httpx2
import openai

from vllm_client import errors
from vllm_client.values import is_loopback

if TYPE_CHECKING:
    from vllm_client.config import ClientConfig

BUSY = "currently busy"
"""vLLM's words for a full queue, which it answers with 503 like everything else that may pass."""
BAD_REQUEST = 400
SERVICE_UNAVAILABLE = 503
TOO_LONG: Final = re.compile(
    r"maximum\s+context length|maximum model length|max_model_len|max_tokens must be at least 1"
)
"""Words of vLLM's refusals that a model with a longer context would not give: of a prompt that is longer than the
context, of one that leaves no room for an answer, and of a max_tokens beyond the context."""
SERVICE: Final = re.compile(r"(?P<name>[a-z0-9-]+)\.(?P<namespace>[a-z0-9-]+)\.svc(\..+)?")
"""The host in a client binding: the name of the model's Service is that of the model."""
NONE_SERVES: Final = "Look whether an engine serves, or all are scaled to zero: {look}"
KINDS: dict[int, tuple[type[errors.VLLMError], str]] = {
    400: (
        errors.RefusedInput,
        "Mend the request; a model without a chat template refuses all chats until it is given one",
    ),
    401: (errors.Unauthorized, "Set VLLM_API_KEY to the model's key: secretKeyRef of Secret NAME-binding"),
    403: (errors.Unauthorized, "Set VLLM_API_KEY to a key that may use this model"),
    404: (errors.ModelNotFound, "Set VLLM_MODEL_NAME to a served name; GET /v1/models lists them"),
    413: (errors.RefusedInput, "Shorten the prompt"),
    422: (errors.RefusedInput, "Mend the request"),
    429: (errors.Overloaded, "Ask less at a time, or let more replicas serve"),
    503: (errors.NotReady, NONE_SERVES),
}
FAILED = (errors.EngineFailed, "Read the engine's log; the operator's status names known causes")
UNREADABLE: Final = (json.JSONDecodeError, UnicodeDecodeError, RecursionError, httpx2.DecodingError)
"""What reading an answer raises that is no JSON, nests too deeply, or is not compressed as it says."""
CHANGED_BY_REDIRECTS: Final = frozenset({401, 403, 404, 405})
"""What answers a request that has lost its key on the way to another host, or its body, as 301 and 302 have it."""
REDIRECTED: Final = "Set VLLM_BASE_URL to where it leads: a redirected request loses its key or its body"
LONG = (errors.ContextLengthExceeded, "Shorten the prompt, ask for fewer tokens, or ask a model with a longer context")
FULL = (errors.Overloaded, "Ask less at a time, raise the queue's limit, or let more replicas serve")


def translate(
    error: Exception, config: ClientConfig, seconds: float | None = None, *, begun: bool = False
) -> Exception:
    """The error to raise; what is no error of the OpenAI client stays as it is.

    Args:
        error: What was raised.
        config: Who was asked.
        seconds: How long the request could wait; None where that had no bound.
        begun: Whether a stream had begun: who is lost then was there.
    """
    endpoint = config.base_url
    cause = error.__cause__ or error
    unconnected = isinstance(cause, httpx2.ConnectTimeout)
    if isinstance(error, openai.APITimeoutError | httpx2.TimeoutException) and not unconnected:
        advice = f"Raise the timeout or ask for fewer tokens; if it stays, look at the engine: {look(endpoint)}"
        problem = "no answer in time" if seconds is None else f"no answer within {seconds:g} s"
        if begun:
            waited = "in time" if seconds is None else f"for {seconds:g} s"
            problem = f"the stream broke off: nothing more came {waited}"
        return errors.TimedOut(problem, endpoint=endpoint, advice=advice)
    if isinstance(error, openai.APIStatusError):
        text = message_of(error)
        kind, advice = KINDS.get(error.status_code, FAILED)
        if error.status_code == SERVICE_UNAVAILABLE and BUSY in text:
            kind, advice = FULL
        if error.status_code == BAD_REQUEST and TOO_LONG.search(text):
            kind, advice = LONG
        problem = f"model {config.model_name}: HTTP {error.status_code}: {text.rstrip('.')}"
        if error.response.history and error.status_code in CHANGED_BY_REDIRECTS:
            place = error.response.url.copy_with(raw_path=b"/")
            problem, advice = f"{problem}, having been redirected to {place}", REDIRECTED
        return kind(problem, endpoint=endpoint, advice=advice.format(look=look(endpoint)))
    if isinstance(cause, UNREADABLE):
        return _unreadable(cause, endpoint)
    if isinstance(error, openai.APIConnectionError | httpx2.TransportError) and not begun:
        problem, advice = _not_reached(cause, config)
        return errors.NotReachable(problem, endpoint=endpoint, advice=advice)
    told = isinstance(error, openai.APIError) and (begun or error.body is not None)
    if told or isinstance(error, httpx2.TransportError):
        return errors.IncompleteAnswer(f"the stream broke off: {cause}", endpoint=endpoint, advice=FAILED[1])
    return _unreadable(error, endpoint) if isinstance(error, openai.APIError) else error


def unreachable(endpoint: str) -> str:
    """What to look at where nobody answers: whether there is an engine, and then what may be in the way."""
    others = "network policies and the proxies of the environment"
    if is_loopback(endpoint):
        others = "whether kubectl port-forward still leads to a pod that is there"
    return f"{NONE_SERVES.format(look=look(endpoint))}; if one does, check VLLM_BASE_URL, and {others}"


def look(endpoint: str) -> str:
    """The command that shows the model, by its name where the endpoint is its Service."""
    service = SERVICE.fullmatch(urlsplit(endpoint).hostname or "")
    return f"kubectl get vllm {service['name']} -n {service['namespace']}" if service else "kubectl get vllm"


def message_of(error: openai.APIStatusError) -> str:
    """The engine's own words."""
    body = error.body
    if isinstance(body, dict):
        inner = body.get("error", body)
        text = inner.get("message") if isinstance(inner, dict) else inner
        if text:
            return str(text)
    return str(body) if body else error.message


def _unreadable(error: BaseException, endpoint: str) -> errors.EngineFailed:
    advice = "Something between here and the engine answers in its place: check VLLM_BASE_URL"
    return errors.EngineFailed(f"the answer cannot be read: {error}", endpoint=endpoint, advice=advice)


def _not_reached(error: BaseException, config: ClientConfig) -> tuple[str, str]:
    """Why nobody was reached, and what to do about it."""
    tls = _tls_error_of(error)
    if isinstance(tls, ssl.SSLCertVerificationError):
        return f"the engine's certificate is not believed: {tls.verify_message}", (
            "Set VLLM_CA_FILE to the certificate of the authority that signed it; it has to name the host of the URL"
        )
    if tls is not None:
        source = f", and whether {config.discovery} is the port that does" if config.discovery else ""
        return f"no TLS with the engine: {tls}", f"Look whether the engine speaks https{source}"
    why = "nobody takes the connection" if isinstance(error, httpx2.ConnectTimeout) else error
    return f"cannot reach the engine: {why}", unreachable(config.base_url)


def _tls_error_of(error: BaseException | None) -> ssl.SSLError | None:
    """The error of TLS that an error comes of, if it does."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error
