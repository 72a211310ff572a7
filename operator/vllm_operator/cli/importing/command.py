"""The command: read the input, write the resources, say what was not carried over."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from vllm_operator.cli.documents import STANDARD_INPUT
from vllm_operator.cli.importing.draft import NotImportableError
from vllm_operator.cli.importing.kinds import Import, Kind, Request, read
from vllm_operator.cli.importing.text import finished, is_whole, report, yaml_of

INCOMPLETE: Final = 1
REFUSED: Final = 2

_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")


def imports(
    source: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE | - | -- COMMAND...",
            help="A file, - for the standard input, or a command line in its words behind --.",
        ),
    ],
    *,
    form: Annotated[Kind, typer.Option("--from", help="What the input is; by default its content tells.")] = Kind.AUTO,
    name: Annotated[str, typer.Option(help="Name of the VLLMModel; by default that of what is imported.")] = "",
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Namespace that is written into it.")] = "",
    values: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Fill in a variable of the input.")
    ] = None,
) -> None:
    """Write VLLMModels for what serves models today: a command, docker run, Compose, manifests, Helm values, KubeAI.

    The resources go to the standard output. To the standard error goes what is done otherwise (note), what a person has
    to look at (check), what is not carried over (lost), and which commands to run (next). Nothing of the input is run.

    Exit codes: 0 if everything is carried over, 1 if a check or a lost line stands there, 2 if there is no model.
    """
    try:
        result = imported(source, form, name, namespace, values or [])
    except NotImportableError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(REFUSED) from None
    documents = finished(result)
    typer.echo(yaml_of(result, documents), nl=False)
    for line in report(result):
        typer.echo(line, err=True)
    if not is_whole(result):
        raise typer.Exit(INCOMPLETE)


def imported(source: list[str], form: Kind, name: str, namespace: str, values: list[str]) -> Import:
    """What the input holds.

    Raises:
        NotImportableError: it cannot be read, or holds no model.
    """
    if name and not _NAME.fullmatch(name):
        raise NotImportableError(f"--name {name}: must be in small letters, digits, `-` and `.`")
    pairs = [value.partition("=") for value in values]
    if not all(equals for _, equals, _ in pairs):
        raise NotImportableError("--set takes NAME=VALUE")
    request = Request(kind=form, name=name, namespace=namespace, values={key: value for key, _, value in pairs})
    if len(source) == 1 and (source[0] == STANDARD_INPUT or not re.search(r"\s", source[0])):
        request.text = _text(source[0])
    else:
        request.words = source
    return read(request)


def _text(name: str) -> str:
    try:
        return sys.stdin.read() if name == STANDARD_INPUT else Path(name).read_text(encoding="utf-8")
    except OSError as error:
        raise NotImportableError(f"{name} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise NotImportableError(f"{name} is no text in UTF-8") from None
