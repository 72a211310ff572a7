"""Run the Python of a page, as a reader would who pastes block after block into one session.

await run_page(REPOSITORY / "docs/client.md")

`await` may stand outside functions. Where a `text` block follows, it is what the block prints.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

FENCES = re.compile(
    r"^```python\n(?P<source>.*?)^```\n(?:\n*```text\n(?P<printed>.*?)^```$)?", re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True)
class Block:
    """A block of Python.

    Attributes:
        line: Where its first line stands in the page, from 1.
        source: Its text.
        printed: What it prints; None where the page does not say.
    """

    line: int
    source: str
    printed: str | None


def python_blocks(page: Path) -> list[Block]:
    """The blocks of a page."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(text.count("\n", 0, found.start("source")) + 1, found["source"], found["printed"])
        for found in FENCES.finditer(text)
    ]


async def run_page(page: Path, names: dict[str, Any] | None = None) -> dict[str, Any]:
    """Run a page's blocks in one namespace; what it holds afterwards.

    Args:
        page: The page; a traceback shows its lines.
        names: What the blocks find there already.

    Raises:
        ValueError: The page has no block.
        AssertionError: A block prints something else.
        Exception: What a block raises.
    """
    namespace: dict[str, Any] = {"__name__": "__page__", **(names or {})}
    blocks = python_blocks(page)
    if not blocks:
        raise ValueError(f"{page} has no block of Python")
    for block in blocks:
        printed = await run_block(block, page, namespace)
        assert block.printed in (None, printed), f"{page.name}:{block.line} prints {printed!r}"
    return namespace


async def run_block(block: Block, page: Path, namespace: dict[str, Any]) -> str:
    """Run one block; what it prints."""
    source = "\n" * (block.line - 1) + block.source
    code = compile(source, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        result = eval(code, namespace)  # noqa: S307 - the repository's own pages
        if inspect.iscoroutine(result):
            await result
    return output.getvalue()
