"""The names that an engine has to serve: its model's, and those of LoRA adapters, which can be lost at run time."""

from __future__ import annotations

from .engine import EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .engine import Engine
    from .settings import Settings

ASK_SECONDS = 2.0
LOAD_SECONDS = 120.0
"""Deadline for loading an adapter again, which may have to be downloaded."""
NOT_SERVED = ("WrongModel", "LoopbackOnly")
"""Causes by which clients do not get what they ask for: it is not served, or not where they ask. Others say nothing."""


class ServedNames:
    """Asks for the names, and has an adapter that is gone loaded again where the server allows that."""

    def __init__(self, engine: Engine, settings: Settings, *, may_load: bool) -> None:
        self._engine = engine
        self._paths = {name: path for name, path in settings.adapters if path}
        self._may_load = may_load
        self.loaded = 0
        """Adapters that were loaded again by this judge."""
        self.trouble = ""
        """Why an adapter could not be loaded again; empty: it could, or none was gone."""

    def ask(self) -> str | None:
        """The sentence of the names that are missing; empty: there are none; None: the server does not say."""
        sentence = self._missing()
        if sentence and self._may_load and self._load():
            return self._missing()
        if sentence == "":
            self.trouble = ""
        return sentence

    def _missing(self) -> str | None:
        try:
            self._engine.check_names(ASK_SECONDS)
        except EngineError as error:
            return error.sentence if error.cause in NOT_SERVED else None
        return ""

    def _load(self) -> bool:
        """Load those that are gone and whose path is known; whether there was one."""
        before = self.loaded
        try:
            for name in self._engine.missing_adapters(ASK_SECONDS):
                if name in self._paths:
                    self._engine.load_adapter(name, self._paths[name], LOAD_SECONDS)
                    self.loaded += 1
            self.trouble = ""
        except EngineError as error:
            self.trouble = f"an adapter that is gone cannot be loaded again: {error.sentence}"
        return self.loaded > before
