"""Pages in Traditional Chinese show the same commands, manifests and programs as those in English."""

from __future__ import annotations

import re

import pytest

from tests.support.pages import REPOSITORY, blocks
from tools.docs_site import links, target

TRANSLATIONS = {
    "README.zh-TW.md": "README.md",
    **{f"docs/zh-TW/{page.name}": f"docs/{page.name}" for page in sorted((REPOSITORY / "docs" / "zh-TW").glob("*.md"))},
}
CASES = pytest.mark.parametrize(("translation", "original"), TRANSLATIONS.items())


def headings(page: str) -> list[str]:
    """Levels of the headings of a page, outside of its blocks."""
    text = re.sub(r"^```.*?^```$", "", (REPOSITORY / page).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"^(#+) ", text, re.MULTILINE)


def test_readme_quickstart_and_guide_are_translated() -> None:
    assert {"README.zh-TW.md", "docs/zh-TW/quickstart.md", "docs/zh-TW/guide.md"} <= set(TRANSLATIONS)


@CASES
def test_blocks_are_the_same_in_the_same_order(translation: str, original: str) -> None:
    shown = [[(block.language, block.text) for block in blocks(REPOSITORY / page)] for page in (translation, original)]
    assert shown[0] == shown[1]
    assert shown[0]


@CASES
def test_headings_and_rows_of_tables_are_as_many(translation: str, original: str) -> None:
    assert headings(translation) == headings(original)
    rows = [
        len(re.findall(r"^\|", (REPOSITORY / page).read_text(encoding="utf-8"), re.MULTILINE))
        for page in (translation, original)
    ]
    assert rows[0] == rows[1]


@CASES
def test_code_in_tables_is_the_same(translation: str, original: str) -> None:
    """First cells hold fields, reasons and commands: what people copy."""
    found = []
    for page in (translation, original):
        text = (REPOSITORY / page).read_text(encoding="utf-8")
        found.append([re.findall(r"`[^`]+`", row) for row in re.findall(r"^\| (?:[^|]|\\\|)*`.*$", text, re.MULTILINE)])
    assert [row[:1] for row in found[0]] == [row[:1] for row in found[1]]


@CASES
def test_a_translation_leads_to_its_original_and_back_or_to_pages_that_there_are(
    translation: str, original: str
) -> None:
    text = (REPOSITORY / translation).read_text(encoding="utf-8")
    assert all((REPOSITORY / target(translation, link)).exists() for link in links(text)), original
