"""What mkdocs does not do by itself: pages that nobody listed, and links that lead out of docs/.

Pages are read in the repository too, so their links are paths of the repository. What they lead to outside of docs/ is
taken into the site below `repository/`, pages with their own links, and each link is written anew for the site. Pages
that are in no entry of the navigation (runbooks, pages of others) get one, by their folder.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

REPOSITORY: Final = Path(__file__).resolve().parent.parent
DOCS: Final = "docs"
OUTSIDE: Final = "repository"
"""Folder of the site for what lies outside of docs/."""

LINK: Final = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")
_ELSEWHERE: Final = re.compile(r"[a-z][a-z0-9+.-]*:|/")


def links(text: str) -> Iterator[str]:
    """Targets of a page's links to other files, without anchors; what stands in blocks of code is none."""
    for part in _prose(text):
        for found in LINK.finditer(part):
            if not _ELSEWHERE.match(found[2]):
                yield found[2]


def target(page: str, link: str) -> str:
    """The file of the repository to which a link of a page leads; a folder stands for its README."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page), link))
    return f"{path}/README.md" if (REPOSITORY / path).is_dir() else path


def site_path(path: str) -> str:
    """Where the site has a file of the repository."""
    inside = PurePosixPath(path)
    return str(inside.relative_to(DOCS)) if inside.parts[0] == DOCS else f"{OUTSIDE}/{path}"


def repository_path(path: str) -> str:
    """The file of the repository that the site has there."""
    inside = PurePosixPath(path)
    return str(inside.relative_to(OUTSIDE)) if inside.parts[0] == OUTSIDE else f"{DOCS}/{path}"


def rewritten(text: str, page: str) -> str:
    """A page of the repository with the links of the site."""
    here = posixpath.dirname(site_path(page))

    def link(found: re.Match[str]) -> str:
        if _ELSEWHERE.match(found[2]):
            return found[0]
        there = posixpath.relpath(site_path(target(page, found[2])), here or ".")
        return f"{found[1]}{there}{found[3] or ''}{found[4]}"

    return "".join(part if is_code else LINK.sub(link, part) for is_code, part in _parts(text))


def outside(pages: Mapping[str, str]) -> set[str]:
    """Files outside of docs/ to which pages lead, and pages among them in turn. Takes texts by their paths."""
    found: set[str] = set()
    left = [target(page, link) for page, text in pages.items() for link in links(text)]
    while left:
        path = left.pop()
        if path in found or path.startswith((f"{DOCS}/", "..")) or not (REPOSITORY / path).is_file():
            continue
        found.add(path)
        if path.endswith(".md"):
            left += [target(path, link) for link in links((REPOSITORY / path).read_text(encoding="utf-8"))]
    return found


def with_unlisted(nav: list[Any], pages: list[str]) -> list[Any]:
    """The navigation, with the pages that are in none of its entries, by their folders."""
    listed = set(_listed(nav))
    unlisted = [page for page in sorted(pages) if page not in listed]
    top = [page for page in unlisted if "/" not in page]
    folders = sorted({posixpath.dirname(page) for page in unlisted} - {""})
    sections = [
        {folder.capitalize(): [page for page in unlisted if posixpath.dirname(page) == folder]} for folder in folders
    ]
    return [*nav[:2], *top, *nav[2:-1], *sections, nav[-1]]


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Of mkdocs: complete the navigation."""
    folder = Path(config.docs_dir)
    pages = [path.relative_to(folder).as_posix() for path in folder.rglob("*.md")]
    config.nav = with_unlisted(config.nav or [], pages)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Of mkdocs: take in what pages lead to outside of docs/."""
    from mkdocs.structure.files import File  # noqa: PLC0415 # tests read this file without mkdocs

    pages = {repository_path(file.src_uri): file.content_string for file in files.documentation_pages()}
    for path in sorted(outside(pages)):
        files.append(File.generated(config, f"{OUTSIDE}/{path}", abs_src_path=str(REPOSITORY / path)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Of mkdocs: write the links for the site."""
    return rewritten(markdown, repository_path(page.file.src_uri))


def _listed(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, dict):
        for entry in nav.values():
            yield from _listed(entry)
    else:
        for entry in nav:
            yield from _listed(entry)


def _parts(text: str) -> Iterator[tuple[bool, str]]:
    """A page in parts: blocks of code and code in lines, and what stands between them."""
    for number, part in enumerate(re.split(r"(^ *```.*?^ *```$|`[^`\n]+`)", text, flags=re.DOTALL | re.MULTILINE)):
        yield number % 2 == 1, part


def _prose(text: str) -> Iterator[str]:
    return (part for is_code, part in _parts(text) if not is_code)
