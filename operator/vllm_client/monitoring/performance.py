"""A decorator that logs how long a function takes."""

from __future__ import annotations

import functools
import inspect
import logging
import time
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger("vllm_client")


def monitor_performance(function: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """Log how long each call of an asynchronous function takes and how it ends, to the logger `vllm_client`.

    Where no logging is configured at all, it is printed.

    INFO for calls that return, WARNING with the error's kind for those that raise; the error goes on to the caller.
    Arguments and results, which hold prompts and answers, are not logged, nor is the error's text.

    Raises:
        TypeError: The function is not asynchronous: its time would be that of making a coroutine.
    """
    if not inspect.iscoroutinefunction(function):
        raise TypeError(f"{function!r} is not an async function")
    name = function.__qualname__

    @functools.wraps(function)
    async def monitored(*args: P.args, **kwargs: P.kwargs) -> T:
        started_seconds = time.monotonic()
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            seconds = time.monotonic() - started_seconds
            _tell(logging.WARNING, f"{name} failed after {seconds:.3f} s: {type(error).__name__}")
            raise
        _tell(logging.INFO, f"{name} took {time.monotonic() - started_seconds:.3f} s")
        return result

    return monitored


def _tell(level: int, text: str) -> None:
    if logger.hasHandlers():
        logger.log(level, "%s", text)
    else:
        print(text)
