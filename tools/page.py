"""What generated pages share: templates, links to headings, cells of tables."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import jinja2

TEMPLATES: Final = Path(__file__).parent / "templates"


def page(template: str, **values: Any) -> str:
    """A Markdown page out of a template of this folder."""
    environment = jinja2.Environment(  # noqa: S701 # Markdown, not HTML
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["cell"] = cell
    return environment.get_template(template).render(**values)


def anchor(heading: str) -> str:
    """The fragment by which a link reaches a heading: small letters without punctuation, as code hosts make it."""
    return re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-")


def link(heading: str) -> str:
    """A link to a heading of the same page, as code."""
    return f"[`{heading}`](#{anchor(heading)})"


def cell(text: str) -> str:
    """Text that keeps within its cell of a table."""
    return text.replace("|", "\\|").replace("\n", " ")
