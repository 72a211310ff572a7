"""What commands share of their output: data for programs, and errors for people."""

from __future__ import annotations

import contextlib
import json
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from vllm_operator.cli.outside import comment
from vllm_operator.cli.yaml_text import yaml_text
from vllm_operator.manager.redaction import without_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator

FAILED: Final = 1
"""Exit code of what did not succeed."""


class Data(StrEnum):
    """Forms of data for programs."""

    JSON = "json"
    YAML = "yaml"


Output = Annotated[Data | None, typer.Option("--output", "-o", help="Everything as data.")]


def as_data(data: Any, output: Data) -> str:
    """The data in one of the forms, as one document."""
    return yaml_text([data], allow_unicode=True) if output is Data.YAML else f"{json.dumps(data)}\n"


def clean(text: object) -> str:
    """A text of somebody else's as it may be shown: one line of what can be printed, without keys and passwords."""
    return without_secrets(comment(str(text)))


@contextlib.contextmanager
def errors_told(*kinds: type[Exception]) -> Iterator[None]:
    """End the command with exit code 1 and the error's words where one of these kinds is raised.

    Raises:
        typer.Exit: one was.
    """
    try:
        yield
    except kinds as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(FAILED) from None
