"""Pages show programs as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tools.examples import pages_with_programs, programs_of, with_programs

if TYPE_CHECKING:
    from pathlib import Path

EMPTY = "Before.\n\n<!-- begin examples/a.py -->\n<!-- end -->\n\nAfter.\n"
FILLED = 'Before.\n\n<!-- begin examples/a.py -->\n```python\n"""What it does: `x`."""\n```\n<!-- end -->\n\nAfter.\n'


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """One program, and a page that shows it beside one that shows none."""
    for path, text in {
        "examples/a.py": '"""What it does: `x`."""\n',
        "docs/a.md": EMPTY,
        "docs/b.md": "Words.",
    }.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    return tmp_path


def test_a_program_is_put_between_its_lines_and_follows_its_file(repository: Path) -> None:
    ((page, text),) = pages_with_programs(repository).items()
    assert (str(page), text) == ("docs/a.md", FILLED)
    assert with_programs(text, repository) == text
    assert programs_of(text) == {"examples/a.py": '"""What it does: `x`."""\n'}
    (repository / "examples" / "a.py").write_text("pass\n", encoding="utf-8")
    assert programs_of(with_programs(text, repository)) == {"examples/a.py": "pass\n"}


def test_a_program_that_there_is_not_is_a_mistake(repository: Path) -> None:
    (repository / "examples" / "a.py").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.py"):
        pages_with_programs(repository)
