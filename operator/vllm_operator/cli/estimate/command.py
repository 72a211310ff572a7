"""The command: read the specs, describe the models, estimate, print."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from vllm_operator.api.capacity import reported_by_pod
from vllm_operator.api.resource import parse_resource
from vllm_operator.cli.documents import RefusedError, read_with_statuses
from vllm_operator.cli.estimate import text
from vllm_operator.cli.estimate.sources import described
from vllm_operator.cli.kubectl import Kubectl, KubectlError
from vllm_operator.cli.yaml_text import yaml_text
from vllm_operator.errors import InvalidSpec, NotEstimable
from vllm_operator.fit.accelerator import card_for
from vllm_operator.fit.advice import OnCard, Suggestion, on_cards, suggestions
from vllm_operator.fit.cards import CARDS, card_named
from vllm_operator.fit.config import read_model
from vllm_operator.fit.description import data_of
from vllm_operator.fit.estimate import Estimate, Verdict, estimate
from vllm_operator.fit.settings import settings_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.api.capacity import ReportedCapacity
    from vllm_operator.api.resource import VLLMModel
    from vllm_operator.fit.cards import Card

_DOES_NOT_FIT: Final = 1
_REFUSED: Final = 2
_DEFAULT_NAMESPACE: Final = "default"


class Output(StrEnum):
    """How it is printed."""

    TEXT = "text"
    JSON = "json"
    YAML = "yaml"
    CONFIG_MAP = "configmap"
    """What spec.estimate names, for `kubectl apply -f -`."""


Names = Annotated[
    list[str] | None, typer.Argument(metavar="NAME...", help="VLLMModels of the cluster, instead of files.")
]
Filenames = Annotated[
    list[str] | None, typer.Option("--filename", "-f", help="YAML file with VLLMModels; - is the standard input.")
]
Config = Annotated[
    str,
    typer.Option(
        help="The model's config.json, the folder with it, or configmap/NAME; by default the ConfigMap that "
        "spec.estimate names, or else where spec.model.source says."
    ),
]
CardName = Annotated[
    str,
    typer.Option(
        help="The GPU, such as L4, A100-80GB or H100; by default spec.accelerator.memory says it, or the product in "
        "spec.scheduling.nodeSelector."
    ),
]
Namespace = Annotated[
    str, typer.Option("--namespace", "-n", help="Of models by their names, and for files that name none.")
]
Context = Annotated[str, typer.Option(help="Context of the kubeconfig, where the cluster is asked.")]
Printed = Annotated[
    Output, typer.Option("--output", "-o", help="Tables, everything as data, or the ConfigMap for spec.estimate.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that is said of one model."""

    name: str
    namespace: str
    profile: str
    """`spec.accelerator.profile`."""
    source: str
    architecture: str
    weights_from: str
    """Where the size of the weights is from, for people."""
    estimate: Estimate
    suggestions: list[Suggestion]
    cards: list[OnCard]
    reported: Mapping[str, ReportedCapacity]
    """What engines have reported at their start, by their pods' names, where the resource came out of a cluster."""


def estimates(
    names: Names = None,
    filenames: Filenames = None,
    *,
    config: Config = "",
    card: CardName = "",
    namespace: Namespace = "",
    context: Context = "",
    output: Printed = Output.TEXT,
) -> None:
    """Tell whether models fit into the GPUs that their specs ask for, and what would fit.

    Exit codes: 0, 1 if one of them does not fit, 2 if it cannot be told.
    """
    try:
        models = _models(names or [], filenames or [], namespace, context)
        _check_alone(config, len(models))
        if output is Output.CONFIG_MAP:
            typer.echo(yaml_text([_config_map(model, config, context) for model, _ in models]), nl=False)
            return
        reports = [_report(model, status, config, card, context) for model, status in models]
    except (RefusedError, NotEstimable, InvalidSpec, KubectlError) as error:
        for line in error.args:
            typer.echo(f"error: {line}", err=True)
        raise typer.Exit(_REFUSED) from None
    typer.echo(_printed(reports, output), nl=False)
    if any(one.estimate.verdict is Verdict.DOES_NOT_FIT for one in reports):
        raise typer.Exit(_DOES_NOT_FIT)


def _models(
    names: list[str], filenames: list[str], namespace: str, context: str
) -> list[tuple[VLLMModel, Mapping[str, Any]]]:
    """The models that are meant, each with its status."""
    if bool(names) is bool(filenames):
        raise NotEstimable("name VLLMModels of the cluster, or files with -f")
    if filenames:
        place = namespace or _DEFAULT_NAMESPACE
        return read_with_statuses(filenames, place, sys.stdin, lambda line: typer.echo(f"note: {line}", err=True))
    kubectl = Kubectl(namespace, context)
    found = [kubectl.get("vllmmodel", name) for name in names]
    return [(parse_resource(raw), raw.get("status") or {}) for raw in found]


def _check_alone(config: str, models: int) -> None:
    if config and models > 1:
        raise NotEstimable(f"--config describes one model, and {models} are given: name one at a time")


def _config_map(model: VLLMModel, config: str, context: str) -> dict[str, Any]:
    """What the operator reads to tell whether the model fits: of the name that its spec has for it.

    Raises:
        NotEstimable: the model cannot be described, or not be estimated.
    """
    found = described(model, config, Kubectl(model.namespace, context))
    read_model(found.config)
    named = model.spec.estimate.config_map_ref.name if model.spec.estimate else f"{model.name}-estimate"
    metadata = {"name": named, "namespace": model.namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data_of(found)}


def _report(model: VLLMModel, status: Mapping[str, Any], config: str, card: str, context: str) -> Report:
    """What is said of one model, described as the user says, or as its spec does.

    Raises:
        NotEstimable: as `report`.
    """
    named = f"configmap/{model.spec.estimate.config_map_ref.name}" if model.spec.estimate else ""
    kubectl = Kubectl(model.namespace, context)
    return report(model, config or named, _card(card, model), kubectl, reported_by_pod(status))


def report(
    resource: VLLMModel,
    config: str,
    card: Card | None,
    kubectl: Kubectl,
    reported: Mapping[str, ReportedCapacity],
) -> Report:
    """What is said of one model.

    Raises:
        NotEstimable: its config.json cannot be read, or does not tell.
    """
    found = described(resource, config, kubectl)
    model, settings = read_model(found.config), settings_of(resource.spec)
    checkpoint = found.checkpoint
    return Report(
        name=resource.name,
        namespace=resource.namespace,
        profile=resource.spec.accelerator.profile,
        source=found.source,
        architecture=model.architecture,
        weights_from=checkpoint.source if checkpoint else "parameters counted from config.json",
        estimate=estimate(model, settings, card, checkpoint),
        suggestions=suggestions(model, settings, card, checkpoint) if card else [],
        cards=on_cards(model, settings, resource.spec.accelerator.profile, checkpoint),
        reported=reported,
    )


def _card(name: str, model: VLLMModel) -> Card | None:
    """The card that was named, or the one that the spec asks for."""
    if not name:
        return card_for(model.spec)
    found = card_named(name)
    if found is None:
        known = ", ".join(one.name for one in CARDS)
        raise NotEstimable(f"--card {name} is none of {known}: set spec.accelerator.memory for any other one")
    return found


def _printed(reports: list[Report], output: Output) -> str:
    if output is Output.JSON:
        return json.dumps([text.data(one) for one in reports], indent=2) + "\n"
    if output is Output.YAML:
        return yaml_text([text.data(one) for one in reports])
    return "\n\n".join("\n".join(text.lines(one)) for one in reports) + "\n"
