"""The command: read what is asked for, and write it into one file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from vllm_operator.api.names import OPERATOR_NAMESPACE
from vllm_operator.cli.ask import Context, Namespace  # noqa: TC001 # typer reads what they say of options
from vllm_operator.cli.kubectl import Kubectl, KubectlError
from vllm_operator.cli.output import FAILED, clean, errors_told
from vllm_operator.cli.report.archive import files, write
from vllm_operator.cli.report.gather import all_models, gather, named_model
from vllm_operator.cli.rollout.objects import RefusedError, model_name, shown


def report(
    name: Annotated[str, typer.Argument(help="The VLLMModel.")] = "",
    *,
    namespace: Namespace = "",
    context: Context = "",
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="All VLLMModels.")] = False,
    operator_namespace: Annotated[str, typer.Option(help="Where the operator runs.")] = OPERATOR_NAMESPACE,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="Where to write it; else vllm-report-...tar.gz here.")
    ] = None,
) -> None:
    """Write a report for somebody who helps: models with what belongs to them, and the operator; without secrets.

    Exit code 0: written, and what could not be read is told; 1: there is no such model, or no file could be written.
    """
    if bool(name) == all_namespaces:
        raise typer.BadParameter("name a model, or ask for all namespaces")
    now = datetime.now(UTC)
    with errors_told(KubectlError, RefusedError):
        models = _models(Kubectl(namespace, context), name)
        gathered = gather(lambda of: Kubectl(of or namespace, context), models, operator_namespace)
        content = files(gathered)
    target = file or Path(_file_name(models, now, everywhere=all_namespaces))
    try:
        write(target, content, now)
    except OSError as error:
        typer.echo(f"error: {target}: {error.strerror}", err=True)
        raise typer.Exit(FAILED) from None
    for what, why in gathered.gaps.items():
        typer.echo(f"note: not read: {clean(what)}: {clean(why)}", err=True)
    typer.echo(
        f"{target}: {len(content)} files, without secrets as far as they are known: look at it before you hand it on"
    )


def _models(kubectl: Kubectl, name: str) -> list[tuple[str, str]]:
    """Namespace and name of those that are asked for: one, or all."""
    if not name:
        return all_models(kubectl)
    wanted = model_name(name)
    found = named_model(kubectl, wanted)
    if found is None:
        raise RefusedError(f"{shown(wanted)} not found")
    return [found]


def _file_name(models: list[tuple[str, str]], now: datetime, *, everywhere: bool) -> str:
    about = "all" if everywhere else "-".join(models[0])
    return f"vllm-report-{about}-{now:%Y%m%dT%H%M%SZ}.tar.gz"
