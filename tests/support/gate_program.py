"""The gate program as a pod has it: flat files in one folder, run by the rendered command lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm_operator.render import gates

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def write_program(folder: Path) -> Path:
    """A new folder with the files as the ConfigMap puts them into the pod."""
    folder.mkdir()
    for name, text in gates.program("team")["data"].items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def placed(words: Sequence[str], program: Path, state: Path) -> list[str]:
    """A rendered command line, with these folders in place of those in the pod."""
    return [word.replace(gates.PROGRAM_FOLDER, str(program)).replace(gates.STATE_FOLDER, str(state)) for word in words]
