"""The command: read, and print once or as long as somebody looks."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.live import Live

from vllm_operator.api import meta
from vllm_operator.cli.ask import Context, Namespace  # noqa: TC001 # typer reads what they say of options
from vllm_operator.cli.kubectl import Kubectl, KubectlError
from vllm_operator.cli.output import Data, Output, as_data, clean, errors_told
from vllm_operator.cli.rollout import objects
from vllm_operator.cli.rollout.objects import RefusedError
from vllm_operator.cli.status import live, text
from vllm_operator.cli.status.sources import all_models, read
from vllm_operator.cli.status.view import may_grow, view_of, with_rates
from vllm_operator.cli.status.watching import looks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rich.console import RenderableType

    from vllm_operator.cli.status.text import Line
    from vllm_operator.cli.status.view import ModelView
    from vllm_operator.cli.status.watching import Look

    Views = list[ModelView]

SAMPLE_SECONDS: Final = 1.0
"""Between two looks at an engine that downloads, where only one is asked for: one look shows no rate."""


def status(
    name: Annotated[str, typer.Argument(help="The VLLMModel; all of the namespace where none is named.")] = "",
    *,
    namespace: Namespace = "",
    context: Context = "",
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="All VLLMModels.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on until Ctrl-C.")] = False,
    output: Output = None,
) -> None:
    """Show how models and their engines are: states, load phases, rollout, and the last diagnosis.

    Exit code 0: told, whatever there is to tell; 1: a model is not there, or not any more, or cannot be read.
    """
    if name and all_namespaces:
        raise typer.BadParameter("name a model, or ask for all namespaces")
    with errors_told(KubectlError, RefusedError):
        command = _Status(Kubectl(namespace, context), name, output, everywhere=all_namespaces)
        if not watch:
            command.once()
            return
        try:
            command.watch()
        except KeyboardInterrupt:
            return


class _Status:
    """One call of the command."""

    def __init__(self, kubectl: Kubectl, name: str, output: Data | None, *, everywhere: bool) -> None:
        self._kubectl = kubectl
        self._name = objects.model_name(name)
        self._output = output
        self._everywhere = everywhere

    def once(self) -> None:
        """Print how it is now."""
        views = self._read(None)
        if any(map(may_grow, views)):
            time.sleep(SAMPLE_SECONDS)
            views = self._read(views)
        if self._output is not None:
            typer.echo(as_data(self._document(views), self._output), nl=False)
        elif not views:
            typer.echo(f"no {meta.KIND}s found{'' if self._everywhere else ' in the namespace'}", err=True)
        for line in self._lines(views) if self._output is None else ():
            typer.echo(line.text)

    def watch(self) -> None:
        """Print how it is, again and again: in its place for people, and else what is new."""
        found = looks(self._read)
        if self._output is not None:
            self._print_documents(found, self._output)
        elif sys.stdout.isatty():
            _show(found, self._frame)
        else:
            _print_new(self._changing_lines(found))

    def _read(self, before: Views | None) -> Views:
        if not self._name:
            return [view_of(one) for one in all_models(self._kubectl, everywhere=self._everywhere)]
        return [with_rates(view_of(read(self._kubectl, self._name)), before[0] if before else None)]

    def _lines(self, views: Views) -> Iterator[Line]:
        if self._name:
            yield from (line for view in views for line in text.model_lines(view))
        elif views:
            yield from text.list_lines(views, everywhere=self._everywhere)

    def _changing_lines(self, found: Iterable[Look[Views]]) -> Iterator[list[Line]]:
        """The lines of each look, and a note of each model that is not there any more."""
        before: set[tuple[str, str]] = set()
        for look in found:
            names = {(view.namespace, view.name) for view in look.seen}
            gone = [f"note: {'/'.join(one)} is not there any more" for one in sorted(before - names)]
            yield [*self._lines(look.seen), *(text.Line(note, (note,)) for note in gone), *_unread(look)]
            before = names

    def _document(self, views: Views) -> Any:
        documents = [text.as_document(view) for view in views]
        return documents[0] if self._name else documents

    def _print_documents(self, found: Iterable[Look[Views]], output: Data) -> None:
        """Print a document of each look that shows something else than the one before."""
        before = ""
        for look in found:
            document = as_data(self._document(look.seen), output)
            if document != before:
                typer.echo(f"---\n{document}" if output is Data.YAML else document, nl=False)
            before = document
            if look.unread:
                typer.echo(f"note: not read again: {clean(look.unread)}", err=True)

    def _frame(self, look: Look[Views]) -> RenderableType:
        if self._name:
            return live.model_frame(look.seen[0], look.unread)
        return live.list_frame(look.seen, look.unread, everywhere=self._everywhere)


def _show(found: Iterable[Look[Views]], frame: Callable[[Look[Views]], RenderableType]) -> None:
    with Live(console=Console(), auto_refresh=False) as screen:
        for look in found:
            screen.update(frame(look), refresh=True)


def _print_new(found: Iterable[list[Line]]) -> None:
    """Print the lines of each look that tell something else than those of the one before."""
    before: set[tuple[str, ...]] = set()
    for lines in found:
        for line in lines:
            if line.about not in before:
                typer.echo(line.text)
        before = {line.about for line in lines}


def _unread(look: Look[Views]) -> Iterator[Line]:
    if look.unread:
        yield text.Line(f"note: not read again: {clean(look.unread)}", ("unread", look.unread))
