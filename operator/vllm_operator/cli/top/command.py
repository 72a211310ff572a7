"""The command: have two samples taken in each engine's pod, and print what lies between them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from pydantic.alias_generators import to_camel

from vllm_operator.api import meta
from vllm_operator.api.names import INSTANCE, MANAGED_SELECTOR, instance_name, selector_text
from vllm_operator.cli.ask import Context, Namespace  # noqa: TC001 # typer reads what they say of options
from vllm_operator.cli.durations import seconds_of
from vllm_operator.cli.kubectl import Kubectl, KubectlError
from vllm_operator.cli.output import Output, as_data, clean, errors_told
from vllm_operator.cli.pods import each, is_running, port_of, run_in, told
from vllm_operator.cli.rollout import objects
from vllm_operator.cli.rollout.objects import RefusedError
from vllm_operator.cli.status.sources import MissingModelError, all_models, found_model, living
from vllm_operator.cli.table import aligned, cells_of
from vllm_operator.cli.top.rates import NAMES, OddMetricsError, Rates, rates, together, values
from vllm_operator.render.manager import INTERPRETER
from vllm_operator.render.service import PORT_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_LONGEST_WINDOW_SECONDS: Final = 10.0
"""An exec that brings nothing for longer is given up."""
_ENGINES: Final = f"app.kubernetes.io/name=vllm,app.kubernetes.io/component=engine,{MANAGED_SELECTOR}"
_HEADS: Final = ("POD", "PROMPT TOK/S", "GENERATED TOK/S", "RUNNING", "WAITING", "KV CACHE", "PREFIX HITS", "NOTE")
_TOTAL: Final = "(all)"


@dataclass(frozen=True, slots=True)
class Engine:
    """What one engine computes."""

    namespace: str
    model: str
    pod: str
    rates: Rates
    note: str = ""
    """Why nothing is known of it."""


def top(
    name: Annotated[str, typer.Argument(help="The VLLMModel; all of the namespace where none is named.")] = "",
    *,
    namespace: Namespace = "",
    context: Context = "",
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="All VLLMModels.")] = False,
    window: Annotated[str, typer.Option(help="Time between the two samples, up to 10s.")] = "2s",
    output: Output = None,
) -> None:
    """Show what engines compute now: tokens per second, requests, use of the KV cache, hits of the prefix cache.

    Exit code 0: told; 1: a model is not there, or its pods cannot be read.
    """
    seconds = seconds_of(window)
    if not 0 < seconds <= _LONGEST_WINDOW_SECONDS:
        raise typer.BadParameter(f"--window {window}: between two samples lie more than 0 and at most 10 seconds")
    if name and all_namespaces:
        raise typer.BadParameter("name a model, or ask for all namespaces")
    with errors_told(KubectlError, RefusedError):
        kubectl = Kubectl(namespace, context)
        pods = _pods(kubectl, objects.model_name(name), everywhere=all_namespaces)
        models = _model_names(kubectl, name, everywhere=all_namespaces)
        engines = each(lambda pod: _engine(_near(kubectl, pod, context), pod, models, seconds), pods)
    if output is not None:
        typer.echo(as_data([_document(one) for one in engines], output), nl=False)
    elif not engines:
        typer.echo(f"no engines of {name or f'{meta.KIND}s'} found", err=True)
    else:
        for line in aligned(cells_of(list(_rows(engines, everywhere=all_namespaces)))):
            typer.echo(line)


def _pods(kubectl: Kubectl, name: str, *, everywhere: bool) -> list[Mapping[str, Any]]:
    if name and not found_model(kubectl, name):
        raise MissingModelError(f"{objects.shown(name)} not found")
    selector = selector_text(instance_name(name)) if name else _ENGINES
    words = ("pods", "--selector", selector, *(["--all-namespaces"] if everywhere else []))
    found = living(kubectl.get(*words)["items"])
    return sorted(found, key=lambda pod: (pod["metadata"].get("namespace", ""), _instance(pod)))


def _model_names(kubectl: Kubectl, name: str, *, everywhere: bool) -> Mapping[str, str]:
    """The models by the names that their pods carry: those of long names carry another one."""
    if name:
        return {instance_name(objects.model_name(name)): objects.model_name(name)}
    names = (str(one.model["metadata"]["name"]) for one in all_models(kubectl, everywhere=everywhere))
    return {instance_name(one): one for one in names}


def _near(kubectl: Kubectl, pod: Mapping[str, Any], context: str) -> Kubectl:
    """A kubectl for the pod's own namespace."""
    namespace = pod["metadata"].get("namespace")
    return Kubectl(namespace, context) if namespace else kubectl


def _engine(kubectl: Kubectl, pod: Mapping[str, Any], models: Mapping[str, str], seconds: float) -> Engine:
    metadata, found, note = pod["metadata"], Rates(), ""
    try:
        found = _sampled(kubectl, pod, seconds)
    except KubectlError as error:
        note = clean(error)
    except OddMetricsError as error:
        note = clean(f"what the engine tells is no metrics: {error}")
    model = models.get(_instance(pod), _instance(pod))
    return Engine(str(metadata.get("namespace") or ""), model, str(metadata["name"]), found, note)


def _sampled(kubectl: Kubectl, pod: Mapping[str, Any], seconds: float) -> Rates:
    """What two samples of one engine show.

    Raises:
        KubectlError: they cannot be taken.
        OddMetricsError: they are no metrics.
    """
    if not is_running(pod):
        raise KubectlError("the container does not run")
    port = port_of(pod, PORT_NAME)
    if port is None:
        raise KubectlError(f"the engine's container has no port {PORT_NAME}")
    source = files(__package__).joinpath("sample.py").read_text(encoding="utf-8")
    text = run_in(kubectl, pod, *INTERPRETER, "-c", source, str(port), str(seconds), *NAMES)
    samples = told(text, "what the pod prints is no sample")
    passed = samples.get("seconds")
    if not isinstance(passed, int | float) or passed <= 0:
        raise KubectlError("what the pod prints is no sample: it names no time")
    return rates(values(str(samples.get("before"))), values(str(samples.get("after"))), passed)


def _rows(engines: Sequence[Engine], *, everywhere: bool) -> Iterator[tuple[str, ...]]:
    """A row of each engine, and one more of a model that has several."""
    yield (*(["NAMESPACE"] if everywhere else []), "MODEL", *_HEADS)
    for key in dict.fromkeys((one.namespace, one.model) for one in engines):
        own = [one for one in engines if (one.namespace, one.model) == key]
        place = key if everywhere else key[1:]
        yield from ((*place, one.pod, *_cells(one.rates), one.note) for one in own)
        if len(own) > 1:
            yield (*place, _TOTAL, *_cells(together(one.rates for one in own)), "")


def _cells(found: Rates) -> tuple[str, ...]:
    hits, ever = found.prefix_cache_hits, found.prefix_cache_hits_since_start
    since_start = "" if ever is None else f"({ever:.0%} since its start)"
    return (
        _number(found.prompt_tokens_per_second, 1),
        _number(found.generated_tokens_per_second, 1),
        _number(found.running),
        _number(found.waiting),
        "" if found.kv_cache_usage is None else f"{found.kv_cache_usage:.1%}",
        " ".join(filter(None, ("" if hits is None else f"{hits:.0%}", since_start))),
    )


def _number(value: float | None, places: int = 0) -> str:
    return "" if value is None else f"{value:.{places}f}"


def _document(one: Engine) -> dict[str, Any]:
    found = {to_camel(name): value for name, value in asdict(one.rates).items()}
    return {"namespace": one.namespace, "model": one.model, "pod": one.pod, **found, "note": one.note or None}


def _instance(pod: Mapping[str, Any]) -> str:
    return str((pod["metadata"].get("labels") or {}).get(INSTANCE, ""))
