"""Models and their engines as a view that changes in its place, for people at a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich import box
from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from vllm_operator.cli.outside import comment
from vllm_operator.cli.status import text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import RenderableType

    from vllm_operator.cli.status.view import DownloadView, EngineView, ModelView

_BAR_WIDTH: Final = 20
_STYLES: Final = {
    "Serving": "green",
    "True": "green",
    "Starting": "cyan",
    "Withdrawn": "yellow",
    "Failing": "red",
    "False (stalled)": "red",
}


def model_frame(view: ModelView, unread: str) -> RenderableType:
    """One model: its condition, a row with a bar of each engine, and what no table has room for."""
    head = Text.assemble(
        (comment(view.name), "bold"),
        "  ",
        _styled(text.ready(view), prefix="Ready "),
        f"  {comment(view.reason)}  {text.serving(view)} serve",
    )
    parts: list[RenderableType] = [head, Text(comment(view.message))]
    if view.downloads:
        parts.append(_downloads(view.downloads))
    if view.engines:
        parts.append(_engines(view.engines))
    parts += [Text(comment(remark)) for remark in text.remarks_of(view)]
    return Group(*parts, *_unread(unread))


def list_frame(views: Sequence[ModelView], unread: str, *, everywhere: bool) -> RenderableType:
    """Many models: a row with a bar of the engines that serve of each."""
    heads = (*(["NAMESPACE"] if everywhere else []), "NAME", "READY", "SERVING", "", "REASON", "LOADING", "DIAGNOSIS")
    table = _table(heads)
    for view in views:
        names = ", ".join(dict.fromkeys(known.id for known in view.diagnosis))
        place = [Text(comment(view.namespace))] if everywhere else []
        table.add_row(
            *place,
            Text(comment(view.name)),
            _styled(text.ready(view)),
            Text(text.serving(view)),
            _bar(view.serving, view.wanted),
            Text(comment(view.reason)),
            Text(comment(text.loading(view))),
            Text(names),
        )
    return Group(table, *_unread(unread))


def _downloads(downloads: Iterable[DownloadView]) -> Table:
    table = _table(("DOWNLOAD", "STATE", "", "", "BYTES", "RATE", "LEFT", "MESSAGE"))
    for one in downloads:
        what, state, share, sizes, rate, left, message = map(comment, text.download_row(one))
        told = (Text(share), Text(sizes), Text(rate), Text(left), Text(message, overflow="fold"))
        table.add_row(Text(what), _styled(state), _bar(one.done, one.total), *told)
    return table


def _engines(engines: Iterable[EngineView]) -> Table:
    table = _table(("POD", "STATE", "PHASE", "", "", "RATE", "RESTARTS", "SENTENCE"))
    for engine in engines:
        done = engine.progress
        table.add_row(
            Text(comment(engine.pod)),
            _styled(engine.state),
            Text(comment(text.phase(engine))),
            _bar(done.done, done.total) if done else Text(),
            Text(text.progress(engine)),
            Text(text.rate(engine)),
            Text(str(engine.restarts)),
            Text(comment(engine.sentence), overflow="fold"),
        )
    return table


def _table(heads: Iterable[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=False)
    for head in heads:
        table.add_column(head)
    return table


def _bar(done: float, total: float) -> RenderableType:
    """A bar; none where nothing is wanted, which would be full and empty at once."""
    return ProgressBar(total=total, completed=min(done, total), width=_BAR_WIDTH) if total else Text()


def _styled(state: str, prefix: str = "") -> Text:
    return Text(prefix + comment(state), style=_STYLES.get(state, ""))


def _unread(unread: str) -> list[RenderableType]:
    return [Text(comment(f"not read again: {unread}"), style="yellow")] if unread else []
