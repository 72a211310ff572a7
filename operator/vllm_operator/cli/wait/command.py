"""The command: look until the goal is reached, the time is over, or no waiting helps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from vllm_operator.cli.ask import Context, Name, Namespace  # noqa: TC001 # typer reads what they say of options
from vllm_operator.cli.durations import seconds_of
from vllm_operator.cli.kubectl import Kubectl, KubectlError
from vllm_operator.cli.output import FAILED, Output, as_data
from vllm_operator.cli.rollout import objects
from vllm_operator.cli.rollout.objects import RefusedError
from vllm_operator.cli.rollout.progress import Progress, State
from vllm_operator.cli.rollout.waiting import Look, Watch, last_told
from vllm_operator.cli.status.sources import MissingModelError, found_model
from vllm_operator.cli.wait.goal import Goal, toward
from vllm_operator.render.untyped import part

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMED_OUT: Final = 3
STALLED: Final = 4
MISSING: Final = 5
_CODES: Final = {State.COMPLETE: 0, State.TIMED_OUT: TIMED_OUT, State.FAILED: STALLED}


def wait(
    name: Name,
    *,
    namespace: Namespace = "",
    context: Context = "",
    goal: Annotated[Goal, typer.Option("--for", help="What to wait for.")] = Goal.READY,
    timeout: Annotated[
        str, typer.Option(help="Wait so long at most, such as 90s or 1h30m; 0 looks once, and does not wait.")
    ] = "1h",
    output: Output = None,
) -> None:
    """Wait until a model is ready, and end at once where no waiting helps.

    Exit code 0: it is; 1: it cannot be read; 2: the command line is wrong; 3: the time is over; 4: it is stalled, so
    somebody has to act; 5: there is no such model, or not any more.
    """
    seconds = seconds_of(timeout)
    try:
        waiting = _Waiting(Kubectl(namespace, context), objects.model_name(name), goal, seconds)
        seen = last_told(waiting.looks() if seconds else [waiting.at_once()], silent=output is not None)
    except (KubectlError, RefusedError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(MISSING if isinstance(error, MissingModelError) else FAILED) from None
    if output is not None:
        typer.echo(as_data(_document(seen, goal), output), nl=False)
    raise typer.Exit(_CODES[seen.state])


class _Waiting(Watch):
    """A model that is looked at until it is as wanted."""

    def __init__(self, kubectl: Kubectl, name: str, goal: Goal, timeout_seconds: float) -> None:
        super().__init__(kubectl, name, 0, timeout_seconds)
        self._goal = goal
        self._seen: Mapping[str, Any] = {"metadata": {"name": name}}

    def once(self) -> Look:
        """How it is now.

        Raises:
            KubectlError: kubectl cannot read it.
            MissingModelError: there is none, or not for long, and it is not its end that is waited for.
        """
        model = found_model(self._kubectl, self._name, self._request_seconds)
        if self._goal is Goal.DELETED:
            uid = part(self._seen, "metadata").get("uid")
            model = model if uid in (None, part(model, "metadata").get("uid")) else {}  # one that was made anew
        elif not model:
            raise MissingModelError(f"{objects.shown(self._name)} not found")
        elif "deletionTimestamp" in model["metadata"]:
            raise MissingModelError(f"{objects.shown(self._name)} is being deleted")
        self._seen = model or self._seen
        return Look(self._seen, toward(self._goal, self._name, model))

    def at_once(self) -> Look:
        """The same, where nobody wants to wait.

        Raises:
            KubectlError: kubectl cannot read it.
            MissingModelError: there is none, and it is not its end that is waited for.
        """
        look = self.once()
        if look.state is not State.PROGRESSING:
            return look
        return Look(look.model, Progress(State.TIMED_OUT, look.progress.message))


def _document(seen: Look, goal: Goal) -> dict[str, Any]:
    return {**seen.data(), "for": goal.value}
