"""Pages in Traditional Chinese show the same commands, manifests and programs as those in English."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from tests.support.pages import REPOSITORY, blocks
from tools.docs_site import links, target

TRANSLATIONS = {
    "README.zh-TW.md": "README.md",
    **{f"docs/zh-TW/{page.name}": f"docs/{page.name}" for page in sorted((REPOSITORY / "docs" / "zh-TW").glob("*.md"))},
}
CASES = pytest.mark.parametrize(("translation", "original"), TRANSLATIONS.items())


OF_A_LANGUAGE = {"`--lang zh-TW`"}
"""What only those who read the translation are told."""


def prose(page: str) -> str:
    """A page without its blocks."""
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def headings(page: str) -> list[str]:
    """Levels of the headings of a page."""
    return re.findall(r"^(#+) ", prose(page), re.MULTILINE)


def code(page: str) -> Counter[str]:
    """What stands as code in sentences: fields, commands, reasons."""
    return Counter(one for one in re.findall(r"`[^`]+`", prose(page)) if one not in OF_A_LANGUAGE)


def figures(page: str) -> Counter[str]:
    """The numbers in sentences."""
    return Counter(re.findall(r"\d[\d.,]*\d|\d", re.sub(r"`[^`]+`|\]\([^)]*\)", "", prose(page))))


def leads_to(page: str) -> list[str]:
    """The pages to which a page leads, those in English; without anchors, whose words are of a language."""
    found = (target(page, link).split("#")[0] for link in links((REPOSITORY / page).read_text(encoding="utf-8")))
    of_both = [TRANSLATIONS.get(path, path) for path in found if path]
    return sorted({*of_both} - {TRANSLATIONS.get(page, page)})


def test_readme_quickstart_and_guide_are_translated() -> None:
    assert {"README.zh-TW.md", "docs/zh-TW/quickstart.md", "docs/zh-TW/guide.md"} <= set(TRANSLATIONS)


@CASES
def test_blocks_are_the_same_in_the_same_order(translation: str, original: str) -> None:
    shown = [[(block.language, block.text) for block in blocks(REPOSITORY / page)] for page in (translation, original)]
    assert shown[0] == shown[1]
    assert shown[0]


@CASES
def test_sentences_hold_the_same_figures_and_code(translation: str, original: str) -> None:
    assert figures(translation) == figures(original)
    assert code(translation) == code(original)


@CASES
def test_a_translation_leads_to_what_its_original_leads_to(translation: str, original: str) -> None:
    assert leads_to(translation) == leads_to(original)


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
