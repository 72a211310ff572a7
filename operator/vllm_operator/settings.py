"""Every option of the operator, read from the environment once at the start."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final, get_type_hints

from vllm_operator.api.names import MAX_RELEASE_LENGTH, OPERATOR_NAMESPACE
from vllm_operator.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "VLLM_OPERATOR_"
_TRIES: Final = 2
"""Renewals that there has to be time for, one of which may fail."""
LOG_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")
LOG_FORMATS: Final = ("TEXT", "JSON")


def _within(default: float, least: float, most: float) -> Any:
    """A number and its bounds."""
    return field(default=default, metadata={"bounds": (least, most)})


_LABEL: Final = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_LABEL_KEY: Final = r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_LABEL_VALUE: Final = r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?"
_REQUIREMENT: Final = (
    rf"\s*(!?\s*{_LABEL_KEY}|{_LABEL_KEY}\s*(=|==|!=)\s*{_LABEL_VALUE}"
    rf"|{_LABEL_KEY}\s+(in|notin)\s*\(\s*{_LABEL_VALUE}\s*(,\s*{_LABEL_VALUE}\s*)*\))\s*"
)
"""One requirement of a label selector (apimachinery, pkg/labels/selector.go), without its numeric comparisons."""


def _like(pattern: str, words: str) -> Any:
    """A text of this form, or none."""
    return field(default="", metadata={"pattern": re.compile(rf"({pattern})?"), "words": words})


def _one_of(default: str, choices: tuple[str, ...]) -> Any:
    """A word and what it may be."""
    return field(default=default, metadata={"choices": choices})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Options of the operator. Each is set by the environment variable VLLM_OPERATOR_ plus its name in capitals."""

    workers: int = _within(16, 1, 1024)
    """Models that are reconciled at the same time. More does not help: the API server is what takes the time."""

    request_timeout_seconds: float = _within(30.0, 0.1, 3600)
    """Deadline of one request to the API server."""

    start_timeout_seconds: float = _within(120.0, 0, 86400)
    """How long the operator waits at its start for the API server, its own rights and the CustomResourceDefinition,
    which may be applied a moment later, before it ends with a message. It is not ready while it waits."""

    resync_seconds: float = _within(600.0, 1, 86400)
    """How often the names and versions of all objects are listed, to find what a broken watch has lost, and what is not
    watched: PodMonitors and ScaledObjects, since their kinds may come and go, HorizontalPodAutoscalers, and the
    PodDisruptionBudgets of others."""

    listen_host: str = "0.0.0.0"  # noqa: S104 # kubelet and Prometheus come from outside the pod
    """Address of /healthz, /readyz and /metrics."""

    listen_port: int = _within(8080, 1, 65535)
    """Port of /healthz, /readyz and /metrics."""

    namespace: str = OPERATOR_NAMESPACE
    """Namespace in which the operator runs, which manifests and chart set. A NetworkPolicy of a model lets the operator
    in from there, to ask the engines' managers what is wrong."""

    namespaces: str = _like(rf"\s*{_LABEL}\s*(,\s*{_LABEL}\s*)*", "names of namespaces with commas between them")
    """The namespaces to follow, with commas between them; empty: all. In each of them the operator needs its rights,
    and nowhere else. One that does not exist yet is followed as soon as it does."""

    name: str = _like(rf"[a-z]([-a-z0-9]{{0,{MAX_RELEASE_LENGTH - 2}}}[a-z0-9])?", "a name as Services have it")
    """Name of this release of the operator, where there are several; empty: the default one. It stands before the names
    of what the release shares in a namespace, and in the label vllm.echo-roots.io/operator of all that it makes."""

    model_selector: str = _like(rf"{_REQUIREMENT}(,{_REQUIREMENT})*", "a label selector as `kubectl get -l` takes it")
    """Label selector of the VLLMModels to follow; empty: all that no label vllm.echo-roots.io/operator gives to another
    release. A named release without it and without `namespaces` follows those whose label names it."""

    prometheus_address: str = _like(r"https?://[^\s/]+(/\S*)?", "a URL such as http://prometheus.monitoring:9090")
    """URL of the Prometheus that KEDA asks about models with `spec.autoscaling`, where their specs name none."""

    pod: str = ""
    """Name of the pod in which the operator runs, which manifests and chart set; empty outside of one. A process that
    comes back in the pod of one that crashed goes on with its Lease at once. No two that run may have the same."""

    lease_name: str = "vllm-operator"
    """Name of the Lease, in the namespace of the operator, that says which replica writes; a named release has its
    name before it, since releases beside each other all write."""

    lease_duration_seconds: int = _within(15, 2, 3600)
    """How long a replica that waits leaves a Lease to its holder that is no longer renewed: a leader that is cut off is
    replaced after this time. Times of client-go."""

    renew_deadline_seconds: float = _within(10.0, 0.5, 3600)
    """How long a leader goes on to write after it last renewed the Lease. It has to be less than the lease's duration:
    half of what lies between is for writes that are under way, and half for clocks that do not run equally fast."""

    retry_period_seconds: float = _within(2.0, 0.1, 3600)
    """How often the leader renews the Lease; those who wait look at it twice as often."""

    log_level: str = _one_of("INFO", LOG_LEVELS)
    """DEBUG, INFO, WARNING or ERROR."""

    log_format: str = _one_of("TEXT", LOG_FORMATS)
    """TEXT, or JSON: one document a line, with the object, the model and the reason of each write in fields."""


def from_environment(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the options that are set.

    Raises:
        SettingsError: a value is not of its option's type, or is one that the option cannot have.
    """
    types = get_type_hints(Settings)
    given = {}
    for option in fields(Settings):
        variable = PREFIX + option.name.upper()
        if variable not in environment:
            continue
        kind, value = types[option.name], environment[variable]
        try:
            given[option.name] = kind(value)
        except ValueError:
            raise SettingsError(f"{variable}={value!r} is not of type {kind.__name__}: correct or unset it") from None
        if not _allowed(option.metadata, given[option.name]):
            raise SettingsError(f"{variable}={value!r} has to be {_wanted(option.metadata)}: correct or unset it")
    return _consistent(Settings(**given))


def _consistent(settings: Settings) -> Settings:
    """The settings, if those of the Lease fit to each other.

    Raises:
        SettingsError: they do not.
    """
    most = settings.renew_deadline_seconds
    if settings.lease_duration_seconds <= most:
        variable, wanted = "LEASE_DURATION_SECONDS", f"more than the renew deadline of {most:g} s"
    elif settings.retry_period_seconds * _TRIES > most:
        variable, wanted = "RETRY_PERIOD_SECONDS", f"at most half of the renew deadline of {most:g} s"
    else:
        return settings
    value = getattr(settings, variable.lower())
    raise SettingsError(f"{PREFIX}{variable}={value:g} has to be {wanted}: correct or unset it")


def _allowed(limits: Mapping[str, Any], value: Any) -> bool:
    if "bounds" in limits:
        least, most = limits["bounds"]
        return bool(least <= value <= most)  # false for `nan` too
    if "pattern" in limits:
        return limits["pattern"].fullmatch(value) is not None
    return value in limits.get("choices", [value])


def _wanted(limits: Mapping[str, Any]) -> str:
    if "bounds" in limits:
        return "from {} to {}".format(*limits["bounds"])
    if "pattern" in limits:
        return str(limits["words"])
    return "one of " + ", ".join(limits["choices"])
