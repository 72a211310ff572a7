"""Everything that can go wrong, as one tree. Each error names the endpoint and what to do next.

    VLLMError
    ├── ConfigurationError   a setting is missing or wrong; names the variable (also a ValueError)
    ├── NotReachable         nobody answers at the endpoint (also a ConnectionError)
    ├── TimedOut             the answer took longer than the timeout (also a TimeoutError)
    ├── Unauthorized         401, 403: the API key is missing or wrong
    ├── ModelNotFound        404: the model is not served under that name
    ├── RefusedInput         400, 413, 422: the engine does not accept the request
    │   └── ContextLengthExceeded  the prompt, or what it asks for, is longer than the model's context
    ├── InvalidAnswer        the answer does not fit the schema that was asked for
    ├── Overloaded           429, or 503 of an engine whose queue is full
    ├── NotReady             503: no engine can answer now
    ├── EngineFailed         any other error status, and a 200 with something else than an answer
    │   └── IncompleteAnswer the engine gave its answer up, or was lost in the middle of it
    ├── EmptyAnswer          the answer has no text
    ├── ClientClosed         the client was closed, before the call or while it waited (also a RuntimeError)
    ├── WrongEventLoop       the client is used in another event loop than its own (also a RuntimeError)
    ├── StoreFailed          a store of answers cannot be read or written
    ├── BatchFileError       the file of a batch cannot be used: another run's, damaged, in use, not writable
    ├── MissingExtra         a library is not installed that only this part needs (also an ImportError)
    └── NoModel              no model of the catalogue suits

NotReachable, TimedOut, Overloaded, NotReady and EngineFailed may pass by themselves: trying again later is sensible,
and has been done `max_retries` times before they are raised. The others stay until something is changed.
"""

# ruff: noqa: N818 - the names say what happened: `except NotReady`

from __future__ import annotations


class VLLMError(Exception):
    """The root of the tree.

    Attributes:
        endpoint: The base URL that was asked; empty where none is known.
        advice: What to do next.
    """

    def __init__(self, problem: str, *, endpoint: str = "", advice: str = "") -> None:
        place = f" ({endpoint})" if endpoint else ""
        super().__init__(f"{problem}{place}. {advice}" if advice else f"{problem}{place}")
        self.endpoint = endpoint
        self.advice = advice


class ConfigurationError(VLLMError, ValueError):
    """A setting is missing or wrong.

    Attributes:
        variable: The environment variable or configuration key to set.
    """

    def __init__(self, problem: str, *, variable: str, advice: str) -> None:
        super().__init__(problem, advice=advice)
        self.variable = variable


class NotReachable(VLLMError, ConnectionError):
    """Nobody answers at the endpoint."""


class TimedOut(VLLMError, TimeoutError):
    """The answer took longer than the timeout."""


class Unauthorized(VLLMError):
    """The API key is missing or wrong."""


class ModelNotFound(VLLMError):
    """The model is not served under that name."""


class RefusedInput(VLLMError):
    """The engine does not accept the request: too long, a bad parameter, no chat template."""


class ContextLengthExceeded(RefusedInput):
    """The prompt, or what it asks for, is longer than the model's context; a model with a longer one may take it."""


class InvalidAnswer(VLLMError):
    """The answer does not fit the schema that was asked for.

    Attributes:
        answers: What the model answered, the last one at the end; two where it was asked once more.
        finish_reason: How the last one ended; `length` where it was cut off.
    """

    def __init__(
        self,
        problem: str,
        *,
        endpoint: str = "",
        advice: str = "",
        answers: tuple[str, ...] = (),
        finish_reason: str = "",
    ) -> None:
        super().__init__(problem, endpoint=endpoint, advice=advice)
        self.answers = answers
        self.finish_reason = finish_reason


class Overloaded(VLLMError):
    """The engine's queue is full."""


class NotReady(VLLMError):
    """No engine can answer now."""


class EngineFailed(VLLMError):
    """The engine answered with an error, or something else answered in its place."""


class IncompleteAnswer(EngineFailed):
    """The engine gave its answer up, or was lost in the middle of it: what has come so far is not the answer."""


class EmptyAnswer(VLLMError):
    """The answer has no text.

    Attributes:
        instead: What it has: reasoning, or a call of a tool; empty where it has nothing.
    """

    def __init__(self, problem: str, *, endpoint: str = "", advice: str = "", instead: str = "") -> None:
        super().__init__(problem, endpoint=endpoint, advice=advice)
        self.instead = instead


class ClientClosed(VLLMError, RuntimeError):
    """The client was closed, before the call or while it waited."""


class WrongEventLoop(VLLMError, RuntimeError):
    """The client is used in another event loop than its own, which is not closed."""


class StoreFailed(VLLMError):
    """A store of answers cannot be read or written."""


class BatchFileError(VLLMError):
    """The file of a batch cannot be used: it is another run's, damaged, in use, or not writable."""


class MissingExtra(VLLMError, ImportError):
    """A library is not installed that only this part needs."""


class NoModel(VLLMError):
    """No model of the catalogue suits what was asked for."""
