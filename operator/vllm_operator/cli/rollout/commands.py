"""`kubectl vllm rollout status | history | undo | restart | pause | resume`: as `kubectl rollout`, for VLLMModels.

All of it is read and written by the user's own kubectl. What is written is the resource alone: a rollout is the
operator's work, and goes on after the command has ended.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer

from vllm_operator.api.revisions import RESTARTED_AT, restored, same_pods
from vllm_operator.cli.ask import Context, Name, Namespace  # noqa: TC001 # typer reads what they say of options
from vllm_operator.cli.durations import seconds_of
from vllm_operator.cli.kubectl import Kubectl, KubectlError
from vllm_operator.cli.output import FAILED, Data, Output, as_data, errors_told
from vllm_operator.cli.rollout import objects
from vllm_operator.cli.rollout.history import (
    RFC_3339,
    Entry,
    UnknownRevisionError,
    current,
    entries,
    is_automatic,
    numbered,
    request,
    request_time,
    rollback_target,
)
from vllm_operator.cli.rollout.objects import DryRun, RefusedError
from vllm_operator.cli.rollout.progress import is_paused, restarted_at
from vllm_operator.cli.rollout.waiting import UNHAPPY, Watch, last_told
from vllm_operator.cli.table import aligned, cells_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_KINDS: Final = (KubectlError, RefusedError, UnknownRevisionError)
"""Errors that say what is wrong with what was asked."""
_ATTEMPTS: Final = 5
"""How often an undo reads the model again because somebody else, such as an autoscaler, has changed it meanwhile."""

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Manage the rollouts of VLLMModels.")

Printed = Annotated[
    str, typer.Option("--output", "-o", help="Print the model as kubectl does: name, json, yaml, jsonpath=..., ...")
]
Names = Annotated[list[str] | None, typer.Argument(metavar="NAME...", help="The VLLMModels.")]
Selector = Annotated[str, typer.Option("--selector", "-l", help="All VLLMModels with these labels.")]


@app.command()
def status(
    name: Name,
    *,
    namespace: Namespace = "",
    context: Context = "",
    watch: Annotated[bool, typer.Option("--watch/--no-watch", "-w", help="Wait until it is done.")] = True,
    timeout: Annotated[str, typer.Option(help="Wait so long at most, such as 90s or 1h30m; 0 is for ever.")] = "0",
    revision: Annotated[int, typer.Option(min=0, help="Fail if another revision rolls out; 0 is any.")] = 0,
    output: Output = None,
) -> None:
    """Show how far the rollout of a model is, and wait for its end.

    Exit code 0: done, or --no-watch and it goes on; 1: it is stalled, or the time is over.
    """
    seconds = seconds_of(timeout)
    with errors_told(*_KINDS):
        looked = Watch(Kubectl(namespace, context), objects.model_name(name), revision, seconds)
        seen = last_told(looked.looks() if watch else [looked.once()], silent=output is not None)
    if output is not None:
        typer.echo(as_data(seen.data(), output), nl=False)
    if seen.state in UNHAPPY:
        raise typer.Exit(FAILED)


@app.command()
def history(
    name: Name,
    *,
    namespace: Namespace = "",
    context: Context = "",
    revision: Annotated[int, typer.Option(min=0, help="Show all of this revision; 0 lists them.")] = 0,
    output: Output = None,
) -> None:
    """List the revisions of a model that are kept, and what each changed."""
    with errors_told(*_KINDS):
        kubectl, name = Kubectl(namespace, context), objects.model_name(name)
        objects.model(kubectl, name)
        found = entries(objects.revisions(kubectl, name))
        if not revision:
            typer.echo(_listed(found, output), nl=False)
            return
        one = numbered([entry.revision for entry in found], revision)
        entry = next(entry for entry in found if entry.revision is one)
        typer.echo(as_data({**_entry(entry), "template": one.template}, output or Data.YAML), nl=False)


@app.command()
def undo(
    name: Name,
    *,
    namespace: Namespace = "",
    context: Context = "",
    to_revision: Annotated[int, typer.Option(min=0, help="Go back to this revision; 0 is the one before.")] = 0,
    dry_run: Annotated[DryRun, typer.Option(help="Change nothing; with `server`, ask the API server.")] = DryRun.NONE,
    output: Printed = "",
) -> None:
    """Go back to an earlier revision: the pods are as they were in it; replicas and the like stay as they are."""
    with errors_told(*_KINDS):
        kubectl, name = Kubectl(namespace, context), objects.model_name(name)
        for attempts_left in reversed(range(_ATTEMPTS)):
            model = objects.model(kubectl, name)
            try:
                _undo(kubectl, model, to_revision, dry_run, output)
                break
            except KubectlError:
                if not attempts_left or not objects.is_changed(kubectl, model):
                    raise


def _undo(kubectl: Kubectl, model: Mapping[str, Any], to_revision: int, dry_run: DryRun, output: str) -> None:
    name = model["metadata"]["name"]
    if is_paused(model):
        command = f"kubectl vllm rollout resume {name}"
        raise RefusedError(f"you cannot roll back a paused model; resume it first with `{command}` and try again")
    known = objects.revisions(kubectl, name)
    target = numbered(known, to_revision) if to_revision else rollback_target(known, model)
    if target is current(known, model):
        typer.echo(f"skipped rollback (the current spec already matches revision {target.number})")
        return
    if is_automatic(model) and same_pods(target.spec, model["spec"]):
        raise RefusedError(
            f"revision {target.number} differs in the operator's pod template alone, and spec.rollout.templateUpdates "
            "is Automatic: set it to OnRestart first"
        )
    spec = restored(model["spec"], target.spec)
    wanted = request(known, model, target, datetime.now(UTC)).annotations
    printed = objects.replace_spec(kubectl, model, spec, wanted, dry_run=dry_run, output=output)
    _say(name, f"rolled back to revision {target.number}{dry_run.mark}", printed, output)


class Change(NamedTuple):
    """What is made of a model."""

    done: str
    """What is said then."""
    patch: Callable[[Mapping[str, Any]], dict[str, Any]]
    """The change of a model as it is. It raises RefusedError where the change makes no sense."""


@app.command()
def restart(
    names: Names = None,
    *,
    selector: Selector = "",
    namespace: Namespace = "",
    context: Context = "",
    output: Printed = "",
) -> None:
    """Replace all engines of models, which also takes a newer pod template of the operator where one waits."""
    now = datetime.now(UTC)

    def change(model: Mapping[str, Any]) -> dict[str, Any]:
        if is_paused(model):
            raise RefusedError("cannot restart a paused model (run `kubectl vllm rollout resume` first)")
        if restarted_at(model) == now.strftime(RFC_3339):
            raise RefusedError("a restart was asked for within this very second; wait before asking for another")
        return {"metadata": {"annotations": {RESTARTED_AT: request_time(model, now)}}}

    _each(Kubectl(namespace, context), names, selector, Change("restarted", change), output)


@app.command()
def pause(
    names: Names = None,
    *,
    selector: Selector = "",
    namespace: Namespace = "",
    context: Context = "",
    output: Printed = "",
) -> None:
    """Hold the rollouts of models: changes of their pods wait, while replicas still follow the spec."""

    def change(model: Mapping[str, Any]) -> dict[str, Any]:
        if is_paused(model):
            raise RefusedError("is already paused")
        return {"spec": {"rollout": {"paused": True}}}

    _each(Kubectl(namespace, context), names, selector, Change("paused", change), output)


@app.command()
def resume(
    names: Names = None,
    *,
    selector: Selector = "",
    namespace: Namespace = "",
    context: Context = "",
    output: Printed = "",
) -> None:
    """Let the rollouts of paused models go on."""

    def change(model: Mapping[str, Any]) -> dict[str, Any]:
        if not is_paused(model):
            raise RefusedError("is not paused")
        return {"spec": {"rollout": {"paused": False}}}

    _each(Kubectl(namespace, context), names, selector, Change("resumed", change), output)


def _each(kubectl: Kubectl, names: list[str] | None, selector: str, change: Change, output: str) -> None:
    """Change models one after the other; what stops one of them does not stop the others, but the exit code is 1."""
    failed = False
    with errors_told(*_KINDS):
        for name in objects.chosen(kubectl, names or [], selector):
            try:
                printed = objects.merge(kubectl, name, change.patch(objects.model(kubectl, name)), output=output)
                _say(name, change.done, printed, output)
            except (KubectlError, RefusedError) as error:
                typer.echo(f"error: {objects.shown(name)}: {error}", err=True)
                failed = True
    if failed:
        raise typer.Exit(FAILED)


def _say(name: str, what: str, printed: str, output: str) -> None:
    if output:
        typer.echo(printed, nl=False)
    else:
        typer.echo(f"{objects.shown(name)} {what}")


def _listed(found: list[Entry], output: Data | None) -> str:
    if output is not None:
        return as_data([_entry(entry) for entry in found], output)
    heads = ("REVISION", "CURRENT", "CREATED", "CHANGE-CAUSE", "CHANGES")
    rows = [
        (
            str(entry.revision.number),
            "*" if entry.is_current else "",
            entry.revision.created_at,
            entry.revision.cause,
            ", ".join(entry.changes),
        )
        for entry in found
    ]
    return "".join(f"{line}\n" for line in aligned(cells_of([heads, *rows])))


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "revision": entry.revision.number,
        "name": entry.revision.name,
        "current": entry.is_current,
        "createdAt": entry.revision.created_at,
        "changeCause": entry.revision.cause,
        "changes": list(entry.changes),
        "spec": entry.revision.spec,
    }
