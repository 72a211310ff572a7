"""Looking at a rollout until it ends, whatever happens to single looks."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import typer

from vllm_operator.cli.kubectl import KubectlError
from vllm_operator.cli.rollout import objects
from vllm_operator.cli.rollout.progress import Progress, State, progress
from vllm_operator.render.untyped import part

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from vllm_operator.cli.kubectl import Kubectl

UNHAPPY: Final = (State.FAILED, State.TIMED_OUT)
"""Ends that are told as errors."""
LOOK_SECONDS: Final = 1.0
REQUEST_SECONDS: Final = 30
"""How long the API server may take for one answer."""
UNREAD_SECONDS: Final = 60.0
"""How long it may give no answer at all: it is restarted, or the network is away for a moment."""
CONFIRMED: Final = 2
"""How often in a row a failure is seen before it is believed: a moment after a change the status may still be of
what was there before it."""


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a rollout."""

    model: Mapping[str, Any]
    progress: Progress

    @property
    def state(self) -> State:
        """What is to be expected of it."""
        return self.progress.state

    def data(self) -> dict[str, Any]:
        """All of it, for programs."""
        told = part(self.model, "status")
        return {
            "name": self.model["metadata"]["name"],
            "state": self.state.value,
            "message": self.progress.message,
            "note": self.progress.note,
            **{name: told.get(name, 0) for name in ("replicas", "updatedReplicas", "readyReplicas")},
            "rollout": told.get("rollout"),
        }


class Watch:
    """A rollout that is looked at.

    Args:
        kubectl: Reads.
        name: The model.
        revision: Its newest revision has to have this number; 0 is any.
        timeout_seconds: How long to wait for the end; 0 is for ever.
    """

    def __init__(self, kubectl: Kubectl, name: str, revision: int, timeout_seconds: float) -> None:
        self._kubectl = kubectl
        self._name = name
        self._revision = revision
        self._timeout_seconds = timeout_seconds
        self._end = time.monotonic() + (timeout_seconds or math.inf)

    def once(self) -> Look:
        """How it is now.

        Raises:
            KubectlError: kubectl cannot read it.
            RefusedError: the model is not there.
        """
        model, deployment = objects.model_and_deployment(self._kubectl, self._name, self._request_seconds)
        if not model:
            raise objects.RefusedError(f"{objects.shown(self._name)} not found")
        return Look(model, self._of_another_revision() or progress(model, deployment))

    def looks(self) -> Iterator[Look]:
        """How it is from now on; the last one is complete, failed, or as it was when the time was over.

        A first look that fails is a wrong name, or no rights. Later ones are made again.

        Raises:
            KubectlError: kubectl cannot read it.
            RefusedError: the model is not there, or not any more.
        """
        failures, look = 0, self.once()
        while True:
            failures = failures + 1 if look.state is State.FAILED else 0
            if look.state is State.COMPLETE or failures == CONFIRMED:
                yield look
                return
            if not self._left():
                yield Look(look.model, self._timed_out(look.progress))
                return
            if not failures:
                yield look
            time.sleep(min(LOOK_SECONDS, self._left()))
            look = self._again(look)

    def _again(self, before: Look) -> Look:
        """The next look that succeeds; the one before where the time is over first."""
        began = time.monotonic()
        while True:
            try:
                return self.once()
            except KubectlError:
                if not self._left():
                    return before
                if time.monotonic() - began > UNREAD_SECONDS:
                    raise
            time.sleep(min(LOOK_SECONDS, self._left()))

    @property
    def _request_seconds(self) -> int:
        """How long the API server may take for the next answer."""
        return math.ceil(max(1.0, min(REQUEST_SECONDS, self._left())))

    def _left(self) -> float:
        return max(0.0, self._end - time.monotonic())

    def _timed_out(self, seen: Progress) -> Progress:
        return Progress(State.TIMED_OUT, f"timed out after {self._timeout_seconds:g} s: {seen.message}", seen.note)

    def _of_another_revision(self) -> Progress | None:
        if not self._revision:
            return None
        newest = max((one.number for one in objects.revisions(self._kubectl, self._name)), default=0)
        text = f"desired revision ({self._revision}) is different from the running revision ({newest})"
        return None if newest == self._revision else Progress(State.FAILED, text)


def last_told(looks: Iterable[Look], *, silent: bool) -> Look:
    """The last look; each that says something else than the one before it is printed."""
    said, seen = "", None
    for seen in looks:
        unhappy = seen.state in UNHAPPY
        text = f"error: {seen.progress.message}" if unhappy else seen.progress.message
        if not silent and text != said:
            typer.echo(text, err=unhappy)
        said = text
    if seen is None:
        raise RuntimeError("there is always a first look")
    if seen.progress.note and not silent:
        typer.echo(f"note: {seen.progress.note}", err=True)
    return seen
