"""The runner of pages sees what is wrong with them."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

import pytest

from tests.support.doc_blocks import run_page

if TYPE_CHECKING:
    from pathlib import Path

PAGE = """# Title

```python
import asyncio

await asyncio.sleep(0)
number = 1
```

Words.

```python
print(number + given)
```

```text
3
```

```sh
make
```
"""


def written(folder: Path, text: str) -> Path:
    """A page."""
    page = folder / "page.md"
    page.write_text(text, encoding="utf-8")
    return page


async def test_blocks_share_their_names_and_print_what_the_page_says(tmp_path: Path) -> None:
    names = await run_page(written(tmp_path, PAGE), {"given": 2})
    assert names["number"] == 1


async def test_another_output_is_a_failure_that_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"page\.md:13 prints '11\\n'"):
        await run_page(written(tmp_path, PAGE), {"given": 10})


async def test_an_error_shows_the_line_of_the_page(tmp_path: Path) -> None:
    with pytest.raises(NameError) as caught:
        await run_page(written(tmp_path, PAGE))
    assert traceback.extract_tb(caught.value.__traceback__)[-1].lineno == 13


async def test_a_page_without_blocks_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no block of Python"):
        await run_page(written(tmp_path, "words"))
