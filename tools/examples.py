"""Put the programs of examples/ into the pages that show them, so that each is written once and runs as it is shown.

A page has a program between two lines, and `make generate` writes what is between them:

    <!-- begin examples/quickstart.py -->
    <!-- end -->
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

SHOWN: Final = re.compile(
    r"^<!-- begin (?P<path>examples/\w+\.py) -->\n(?:```python\n(?P<source>.*?)```\n)?<!-- end -->$",
    re.DOTALL | re.MULTILINE,
)


def programs_of(page: str) -> dict[str, str]:
    """The programs that the text of a page shows, by their paths in the repository."""
    return {found["path"]: found["source"] or "" for found in SHOWN.finditer(page)}


def with_programs(page: str, repository: Path) -> str:
    """The text of a page with its programs as they are.

    Raises:
        FileNotFoundError: It shows one that there is not.
    """

    def shown(found: re.Match[str]) -> str:
        source = (repository / found["path"]).read_text(encoding="utf-8")
        return f"<!-- begin {found['path']} -->\n```python\n{source}```\n<!-- end -->"

    return SHOWN.sub(shown, page)


def pages_with_programs(repository: Path) -> dict[Path, str]:
    """Every page of docs/ that shows one as it has to be, by its path in the repository."""
    texts = {page: page.read_text(encoding="utf-8") for page in sorted((repository / "docs").glob("*.md"))}
    return {
        page.relative_to(repository): with_programs(text, repository)
        for page, text in texts.items()
        if SHOWN.search(text)
    }
