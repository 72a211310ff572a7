"""Every option of the operator, read from the environment once at the start."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, get_type_hints

from vllm_operator.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "VLLM_OPERATOR_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Options of the operator. Each is set by the environment variable VLLM_OPERATOR_ plus its name in capitals."""

    workers: int = 16
    """Models that are reconciled at the same time. More does not help: the API server is what takes the time."""

    request_timeout_seconds: float = 30.0
    """Deadline of one request to the API server."""

    resync_seconds: float = 600.0
    """How often the names of all objects are listed, to find deletions that a broken watch has lost."""

    listen_host: str = "0.0.0.0"  # noqa: S104 # kubelet and Prometheus come from outside the pod
    """Address of /healthz, /readyz and /metrics."""

    listen_port: int = 8080
    """Port of /healthz, /readyz and /metrics."""

    log_level: str = "INFO"
    """DEBUG, INFO, WARNING or ERROR."""


def from_environment(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the options that are set.

    Raises:
        SettingsError: a value is not of its option's type.
    """
    types = get_type_hints(Settings)
    given = {}
    for option in fields(Settings):
        variable = PREFIX + option.name.upper()
        if variable not in environment:
            continue
        kind = types[option.name]
        try:
            given[option.name] = kind(environment[variable])
        except ValueError:
            value = environment[variable]
            raise SettingsError(f"{variable}={value!r} is not of type {kind.__name__}: correct or unset it") from None
    return Settings(**given)
