"""Which error of this library an error of the OpenAI client becomes."""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING, Final

import httpx2
import openai

from vllm_client import errors

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
KINDS: dict[int, tuple[type[errors.VLLMError], str]] = {
    400: (
        errors.RefusedInput,
        "Mend the request; a model without a chat template refuses all chats until it is given one",
    ),
    401: (errors.Unauthorized, "Set VLLM_API_KEY to the model's key: envFrom of Secret NAME-binding"),
    403: (errors.Unauthorized, "Set VLLM_API_KEY to a key that may use this model"),
    404: (errors.ModelNotFound, "Set VLLM_MODEL_NAME to a served name; GET /v1/models lists them"),
    413: (errors.RefusedInput, "Shorten the prompt"),
    422: (errors.RefusedInput, "Mend the request"),
    429: (errors.Overloaded, "Ask less at a time, or let more replicas serve"),
    503: (errors.NotReady, "Look at the model: kubectl get vllm"),
}
FAILED = (errors.EngineFailed, "Read the engine's log; the operator's status names known causes")
LONG = (errors.ContextLengthExceeded, "Shorten the prompt, ask for fewer tokens, or ask a model with a longer context")
FULL = (errors.Overloaded, "Ask less at a time, raise the queue's limit, or let more replicas serve")


def translate(error: Exception, config: ClientConfig, *, begun: bool = False) -> Exception:
    """The error to raise; what is no error of the OpenAI client stays as it is. `begun`: in the middle of a stream."""
    endpoint = config.base_url
    if isinstance(error, openai.APITimeoutError | httpx2.TimeoutException):
        advice = "Raise the timeout or ask for fewer tokens; if it stays, look at the engine: kubectl get vllm"
        problem = f"no answer within {config.timeout:g} s"
        if begun:
            problem = f"the stream broke off: nothing more came for {config.timeout:g} s"
        return errors.TimedOut(problem, endpoint=endpoint, advice=advice)
    if isinstance(error, openai.APIStatusError):
        text = message_of(error)
        kind, advice = KINDS.get(error.status_code, FAILED)
        if error.status_code == SERVICE_UNAVAILABLE and BUSY in text:
            kind, advice = FULL
        if error.status_code == BAD_REQUEST and TOO_LONG.search(text):
            kind, advice = LONG
        problem = f"model {config.model_name}: HTTP {error.status_code}: {text.rstrip('.')}"
        return kind(problem, endpoint=endpoint, advice=advice)
    cause = error.__cause__ or error
    if isinstance(error, openai.APIConnectionError | httpx2.TransportError) and not begun:
        problem, advice = _not_reached(cause, config)
        return errors.NotReachable(problem, endpoint=endpoint, advice=advice)
    told = isinstance(error, openai.APIError) and (begun or error.body is not None)
    if told or isinstance(error, httpx2.TransportError):
        return errors.IncompleteAnswer(f"the stream broke off: {cause}", endpoint=endpoint, advice=FAILED[1])
    if isinstance(error, openai.APIError):
        advice = "Something between here and the engine answers in its place: check VLLM_BASE_URL"
        return errors.EngineFailed(f"the answer cannot be read: {error}", endpoint=endpoint, advice=advice)
    return error


def message_of(error: openai.APIStatusError) -> str:
    """The engine's own words."""
    body = error.body
    if isinstance(body, dict):
        inner = body.get("error", body)
        text = inner.get("message") if isinstance(inner, dict) else inner
        if text:
            return str(text)
    return str(body) if body else error.message


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
    return f"cannot reach the engine: {error}", (
        "Look whether an engine serves, or all are scaled to zero: kubectl get vllm; if one does, check "
        "VLLM_BASE_URL, network policies and the proxies of the environment"
    )


def _tls_error_of(error: BaseException | None) -> ssl.SSLError | None:
    """The error of TLS that an error comes of, if it does."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error
