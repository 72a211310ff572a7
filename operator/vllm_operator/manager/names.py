"""The names that an engine has to serve: its model's, and those of LoRA adapters, which may change while it runs."""

from __future__ import annotations

import contextlib
import time

from . import adapters
from .adapters import AdapterList, Failure, Wanted
from .engine import EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .adapters import Step
    from .engine import Engine
    from .settings import Settings

ASK_SECONDS = 2.0
LOAD_SECONDS = 120.0
"""Deadline for loading an adapter, which may have to be downloaded."""
UNLOAD_SECONDS = 10.0
NOT_SERVED = ("WrongModel", "LoopbackOnly")
"""Causes by which clients do not get what they ask for: it is not served, or not where they ask. Others say nothing."""
MOST_TOLD_LENGTH = 300


class ServedNames:
    """Asks for the names, and has adapters loaded and unloaded where the server allows that. One thread asks it.

    Args:
        engine: The server.
        settings: Of the operator.
        may_load: Whether the server loads adapters at run time.
        ours: Names that an earlier judge had seen served from the list.
    """

    def __init__(self, engine: Engine, settings: Settings, *, may_load: bool, ours: tuple[str, ...] = ()) -> None:
        self._engine = engine
        self._file = settings.adapters_file
        self._list = AdapterList(tuple(Wanted(name, path) for name, path in settings.adapters))
        self._paths = {name: path for name, path in settings.adapters if path}
        self._may_load = may_load
        self._failures: dict[str, Failure] = {}
        self._served: dict[str, str] = {}
        self._ours = set(ours)
        self._told: dict[str, object] = {}
        self.loading = False
        """Whether the server is being asked to load an adapter: it makes no step meanwhile."""
        self.loaded = 0
        """Adapters that were loaded by this judge."""
        self.trouble = ""
        """Why an adapter could not be loaded again, or the list could not be read; empty: neither is so."""

    @property
    def told(self) -> Mapping[str, object]:
        """Which list is followed, the paths of its adapters that are served, and why others are not; empty without."""
        return self._told

    @property
    def ours(self) -> tuple[str, ...]:
        """Names that were served from the list, for the next judge."""
        return tuple(sorted(self._ours))

    def ask(self, *, admitted: bool = False) -> str | None:
        """The sentence of the names that are missing; empty: there are none; None: the server does not say.

        Args:
            admitted: Whether the engine has completed a prompt.
        """
        if self._file:
            return self._follow(admitted=admitted)
        sentence = self._missing(None)
        if sentence and self._may_load and self._load():
            return self._missing(None)
        if sentence == "":
            self.trouble = ""
        return sentence

    def _missing(self, names: list[str] | None) -> str | None:
        try:
            self._engine.check_names(ASK_SECONDS, names)
        except EngineError as error:
            return error.sentence if error.cause in NOT_SERVED else None
        return ""

    def _load(self) -> bool:
        """Load those that are gone and whose path is known; whether there was one."""
        before = self.loaded
        try:
            for name in self._engine.missing_adapters(ASK_SECONDS):
                if name in self._paths:
                    self.loading = True
                    self._engine.load_adapter(name, self._paths[name], LOAD_SECONDS)
                    self.loaded += 1
            self.trouble = ""
        except EngineError as error:
            self.trouble = f"an adapter that is gone cannot be loaded again: {error.sentence}"
        finally:
            self.loading = False
        return self.loaded > before

    # ---------------------------------------------------------------------------------------------- a list that changes

    def _follow(self, *, admitted: bool) -> str | None:
        """Bring the server to what the list says, and see what is missing then."""
        if not self._read() and not self._list.version:
            return None if admitted else self.trouble
        try:
            self._served = self._engine.served_adapters(ASK_SECONDS)
            self._take_steps()
        except EngineError:
            return None
        self._note()
        names = adapters.missing(self._list, self._served, self._ours, self._failures, admitted=admitted)
        sentence = self._missing(names)
        why = next((self._failures[name].sentence for name in names if name in self._failures), "")
        return f"{sentence} ({why})" if sentence and why else sentence

    def _read(self) -> bool:
        """Read the list; one that cannot be read leaves the one before, and is told."""
        try:
            self._list = adapters.read_list(self._file)
        except (OSError, ValueError) as error:
            self.trouble = f"the list of adapters cannot be read: {error}"
            return False
        self.trouble = ""
        return True

    def _take_steps(self) -> None:
        """Have done what is due, one after the other.

        Raises:
            EngineError: the server does not say what it has afterwards.
        """
        due = adapters.steps(self._list, self._served, self._ours, self._failures, time.monotonic())
        for step in due:
            if not self._take(step):
                break  # a server that does not answer is not asked for the next one
        if due:
            self._served = self._engine.served_adapters(ASK_SECONDS)

    def _take(self, step: Step) -> bool:
        """Have one step done; whether the server has answered."""
        self.loading = step.kind != adapters.UNLOAD
        try:
            self._request(step)
        except EngineError as error:
            before = self._failures.get(step.name)
            failure = adapters.failed(step, before, error.cause, error.sentence, time.monotonic())
            self._failures[step.name] = failure
            return failure.refused
        finally:
            self.loading = False
        self._failures.pop(step.name, None)
        self.loaded += step.kind != adapters.UNLOAD
        return True

    def _request(self, step: Step) -> None:
        if step.kind == adapters.UNLOAD:
            self._engine.unload_adapter(step.name, UNLOAD_SECONDS)
        elif step.kind == adapters.LOAD:
            self._engine.load_adapter(step.name, step.path, LOAD_SECONDS)
        else:
            self._replace(step)

    def _replace(self, step: Step) -> None:
        """Load it in the place of the one that has its name, which is missing for a moment.

        It is tried under another name before: what cannot be loaded leaves the earlier one as it is, and what could is
        loaded again quickly. vLLM's own `load_inplace` is no way: what was loaded by it is read anew at each step that
        uses it, and requests on their way change over in their midst (0.32, lora/worker_manager.py).
        """
        trial = f"{step.name}{adapters.TRIAL}"
        try:
            self._engine.load_adapter(trial, step.path, LOAD_SECONDS)
            self._engine.unload_adapter(step.name, UNLOAD_SECONDS)
            self._ours.discard(step.name)  # it has not lost what it was told to give up
            self._engine.load_adapter(step.name, step.path, LOAD_SECONDS)
        finally:
            with contextlib.suppress(EngineError):  # the next look finds it
                self._engine.unload_adapter(trial, UNLOAD_SECONDS)

    def _note(self) -> None:
        """Remember what was found, and make of it what is told."""
        names = {one.name for one in self._list.adapters}
        self._failures = adapters.kept(self._failures, self._list, self._served)
        self._ours = {name for name in self._ours if name in names or name in self._served}
        self._ours |= names & set(self._served)
        through = all(name in self._served or name in self._failures for name in names)
        self._told = {
            "version": self._list.version if through else self._told.get("version", ""),
            "served": {name: path for name, path in sorted(self._served.items()) if name in names | self._ours},
            "failed": {name: one.sentence[:MOST_TOLD_LENGTH] for name, one in sorted(self._failures.items())},
        }
