"""`kubectl vllm render`: what becomes of VLLMModels, printed without a cluster."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from vllm_operator.cli.compose.file import compose_file
from vllm_operator.cli.compose.slots import UnsupportedError
from vllm_operator.cli.documents import RefusedError, read
from vllm_operator.cli.engine import engine_of
from vllm_operator.cli.shell import script
from vllm_operator.cli.yaml_text import yaml_text
from vllm_operator.render import prefetch
from vllm_operator.render.children import children
from vllm_operator.render.manager import program

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vllm_operator.api.resource import VLLMModel

_REFUSED = 2


class Form(StrEnum):
    """What a model is rendered to."""

    MANIFESTS = "manifests"
    COMMAND = "command"
    COMPOSE = "compose"


def render(
    filenames: Annotated[
        list[str], typer.Option("--filename", "-f", help="YAML file with VLLMModels; - is the standard input.")
    ],
    to: Annotated[
        Form,
        typer.Option(
            help="The objects that the operator would make, the vllm serve command line, or a Docker Compose file."
        ),
    ] = Form.MANIFESTS,
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="For models that name none.")] = "default",
) -> None:
    """Print what becomes of VLLMModels, without a cluster.

    What the API server or the operator would refuse is refused here too, but for rules about edits.
    """
    try:
        text = rendered_text(read(filenames, namespace, sys.stdin, _note), to)
    except (RefusedError, UnsupportedError) as error:
        for line in error.args:
            typer.echo(f"error: {line}", err=True)
        raise typer.Exit(_REFUSED) from None
    typer.echo(text, nl=False)


def _note(line: str) -> None:
    typer.echo(f"note: {line}", err=True)


def rendered_text(models: Sequence[VLLMModel], form: Form) -> str:
    """The models in one of the forms.

    Raises:
        UnsupportedError: it cannot serve one of them.
    """
    if form is not Form.MANIFESTS and (wide := [one.name for one in models if one.spec.parallelism.group_size > 1]):
        raise UnsupportedError(f"{wide[0]}: spec.parallelism.nodes: `--to {form}` starts an engine on one machine")
    if form is Form.COMMAND:
        return script(map(engine_of, models))
    if form is Form.COMPOSE:
        return compose_file([engine_of(model) for model in models])
    namespaces = dict.fromkeys(model.namespace for model in models)
    filled = dict.fromkeys(model.namespace for model in models if prefetch.jobs(model))
    # models with the same claim and source have one in common
    jobs = {
        (job["metadata"]["namespace"], job["metadata"]["name"]): job for model in models for job in prefetch.jobs(model)
    }
    made = (child for model in models for child in children(model))
    return yaml_text([*map(program, namespaces), *map(prefetch.program, filled), *made, *jobs.values()])
