"""`kubectl-vllm`: kubectl finds it as `kubectl vllm`."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 # typer reads the annotations at run time
from typing import Annotated

import pydantic
import typer
import yaml

from vllm_operator.api.meta import API_VERSION, KIND
from vllm_operator.api.resource import explain, parse_resource
from vllm_operator.render.children import children
from vllm_operator.render.gates import program

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # a message in a box is broken at the terminal's width: no script could find its words
    help="Work with VLLMModels.",
)


@app.callback()
def callback() -> None:
    """Work with VLLMModels."""


@app.command()
def render(
    filename: Annotated[Path, typer.Option("--filename", "-f", help="YAML file with VLLMModels.", exists=True)],
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="For models that name none.")] = "default",
) -> None:
    """Print the objects that the operator would make, without a cluster."""
    documents = [document for document in yaml.safe_load_all(filename.read_text(encoding="utf-8")) if document]
    rendered: list[dict[str, object]] = []
    for document in documents:
        if (document.get("apiVersion"), document.get("kind")) != (API_VERSION, KIND):
            raise typer.BadParameter(f"{filename}: a {document.get('kind')} is not a {KIND} of {API_VERSION}")
        document["metadata"].setdefault("namespace", namespace)
        try:
            model = parse_resource(document)
        except pydantic.ValidationError as error:
            raise typer.BadParameter(f"{filename}: {document['metadata']['name']}: {explain(error)}") from None
        rendered += [program(model.namespace), *children(model)]
    typer.echo(yaml.dump_all(rendered, Dumper=Readable, sort_keys=False), nl=False)


class Readable(yaml.SafeDumper):
    """Writes text of several lines as it is."""


def _text(dumper: Readable, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


Readable.add_representer(str, _text)
