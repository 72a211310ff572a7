"""The command: read the specs, describe the models, estimate, print."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

import typer

from vllm_operator.cli.documents import RefusedError, read
from vllm_operator.cli.estimate import text
from vllm_operator.cli.estimate.sources import described
from vllm_operator.cli.kubectl import Kubectl
from vllm_operator.cli.yaml_text import yaml_text
from vllm_operator.errors import NotEstimable
from vllm_operator.fit.advice import OnCard, Suggestion, on_cards, suggestions
from vllm_operator.fit.cards import CARDS, card_named, card_of
from vllm_operator.fit.config import read_model
from vllm_operator.fit.estimate import Estimate, Verdict, estimate
from vllm_operator.fit.settings import memory_of, settings_of

if TYPE_CHECKING:
    from vllm_operator.api.resource import VLLMModel
    from vllm_operator.fit.cards import Card

_DOES_NOT_FIT: Final = 1
_REFUSED: Final = 2


class Output(StrEnum):
    """How it is printed."""

    TEXT = "text"
    JSON = "json"
    YAML = "yaml"


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


def estimates(
    filenames: Annotated[
        list[str], typer.Option("--filename", "-f", help="YAML file with VLLMModels; - is the standard input.")
    ],
    *,
    config: Annotated[
        str,
        typer.Option(
            help="The model's config.json, the folder with it, or configmap/NAME; by default it is read where "
            "spec.model.source says."
        ),
    ] = "",
    card: Annotated[
        str, typer.Option(help="The GPU, such as L4, A100-80GB or H100; by default spec.accelerator.memory says it.")
    ] = "",
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="For models that name none.")] = "default",
    context: Annotated[str, typer.Option(help="Context of the kubeconfig, for a ConfigMap.")] = "",
    output: Annotated[Output, typer.Option("--output", "-o", help="Tables, or everything as data.")] = Output.TEXT,
) -> None:
    """Tell whether models fit into the GPUs that their specs ask for, and what would fit.

    Exit codes: 0, 1 if one of them does not fit, 2 if it cannot be told.
    """
    try:
        models = _models(filenames, namespace, config)
        reports = [report(model, config, _card(card, model), Kubectl(model.namespace, context)) for model in models]
    except (RefusedError, NotEstimable) as error:
        for line in error.args:
            typer.echo(f"error: {line}", err=True)
        raise typer.Exit(_REFUSED) from None
    typer.echo(_printed(reports, output), nl=False)
    if any(one.estimate.verdict is Verdict.DOES_NOT_FIT for one in reports):
        raise typer.Exit(_DOES_NOT_FIT)


def _models(filenames: list[str], namespace: str, config: str) -> list[VLLMModel]:
    models = read(filenames, namespace, sys.stdin, lambda line: typer.echo(f"note: {line}", err=True))
    if config and len(models) > 1:
        raise NotEstimable(f"--config describes one model, and the files hold {len(models)}: name one file at a time")
    return models


def report(resource: VLLMModel, config: str, card: Card | None, kubectl: Kubectl) -> Report:
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
    )


def _card(name: str, model: VLLMModel) -> Card | None:
    """The card that was named, or the one of the size that the spec names."""
    if not name:
        memory = memory_of(model.spec)
        return card_of(memory) if memory else None
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
