"""`kubectl-vllm`: kubectl finds it as `kubectl vllm`."""

from __future__ import annotations

import pkgutil
from collections import UserDict
from typing import Any, Final

import typer
from typer.core import TyperGroup

_COMMANDS: Final = {
    "estimate": "vllm_operator.cli.estimate.command:estimates",
    "status": "vllm_operator.cli.status.command:status",
    "diagnose": "vllm_operator.cli.diagnose.command:diagnose",
    "wait": "vllm_operator.cli.wait.command:wait",
    "top": "vllm_operator.cli.top.command:top",
    "gates": "vllm_operator.cli.gates:gates",
    "report": "vllm_operator.cli.report.command:report",
    "chat": "vllm_operator.cli.ask:chat",
    "check": "vllm_operator.cli.ask:check",
    "import": "vllm_operator.cli.importing.command:imports",
    "render": "vllm_operator.cli.render:render",
    "rollout": "vllm_operator.cli.rollout.commands:app",
}


class Commands(UserDict[str, Any]):
    """Commands by name, each imported when it is asked for: all take half as long again to start as one does."""

    def __getitem__(self, name: str) -> Any:
        """The command that is found where the table says."""
        found = pkgutil.resolve_name(self.data[name])
        if isinstance(found, typer.Typer):
            command = typer.main.get_command(found)
            command.name = name
            return command
        alone = typer.Typer(add_completion=False, rich_markup_mode=None)
        alone.command(name)(found)
        return typer.main.get_command(alone)


class LazyGroup(TyperGroup):
    """A group that knows the names of its commands without them."""

    def __init__(self, **settings: Any) -> None:
        """Take the table instead of commands."""
        super().__init__(**settings)
        self.commands = Commands(_COMMANDS)

    def list_commands(self, _ctx: object) -> list[str]:
        """Their names, in the order of the help."""
        return list(_COMMANDS)


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # a message in a box is broken at the terminal's width: no script could find its words
    help="Work with VLLMModels.",
)


@app.callback()
def callback() -> None:
    """Work with VLLMModels."""
