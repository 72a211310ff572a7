"""The pages of the repository, and what stands in their blocks: manifests and commands."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from vllm_operator.api.meta import API_VERSION, KIND
from vllm_operator.api.spec import VLLMModelSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY: Final = Path(__file__).resolve().parent.parent.parent
NAMED: Final = (
    "README*.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "charts/vllm-operator/README.md",
    "examples/README.md",
    "manifests/samples/README.md",
)
GENERATED: Final = "docs/reference/api.md"
"""Its blocks are examples of one field each, which `tests/contract/test_samples.py` has a real API server take."""

_BLOCK: Final = re.compile(
    r"(?P<mark><!-- [^\n]* -->\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)
_SHELLS: Final = frozenset({"sh", "console"})
_FIELDS: Final = frozenset(field.alias or name for name, field in VLLMModelSpec.model_fields.items())
_JOINS: Final = frozenset({"&&", "||", "|", ";", "&", "do", "done"})
_ASSIGNMENT: Final = re.compile(r"[A-Z_]+=")


@dataclass(frozen=True)
class Block:
    """A block of code of a page."""

    page: str
    """Path of the page in the repository."""
    line: int
    language: str
    text: str
    mark: str
    """The comment right before it, which says what it is where it is not what it seems; empty without one."""

    def __str__(self) -> str:
        """Where it stands."""
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """All pages that people read."""
    named = (path for pattern in NAMED for path in REPOSITORY.glob(pattern))
    return sorted({*(REPOSITORY / "docs").rglob("*.md"), *named})


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page."""
    text = page.read_text(encoding="utf-8")
    for found in _BLOCK.finditer(text):
        line = text.count("\n", 0, found.start("language")) + 1
        mark = (found["mark"] or "").strip()
        yield Block(str(page.relative_to(REPOSITORY)), line, found["language"], found["text"], mark)


def all_blocks(*languages: str) -> list[Block]:
    """The blocks of all pages in these languages."""
    return [block for page in pages() for block in blocks(page) if block.language in languages]


def manifests(block: Block) -> list[dict[str, Any]]:
    """The whole objects that a block of YAML stands for; none where its mark says that it is a part or a file.

    A part of a VLLMModel becomes one.

    Raises:
        ValueError: it is neither, and has no mark.
    """
    if block.mark.startswith(("<!-- fragment: ", "<!-- file ")):
        return []
    found = [document for document in yaml.safe_load_all(block.text) if document]
    return [_whole(document, block) for document in found]


def _whole(document: dict[str, Any], block: Block) -> dict[str, Any]:
    if "apiVersion" in document:
        return document
    spec = document.get("spec") if set(document) == {"spec"} else document
    if not isinstance(spec, dict) or not set(spec) <= _FIELDS:
        raise ValueError(f"{block}: say what it is a part of, by a line <!-- fragment: of a pod --> before the block")
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": "part"},
        "spec": {"model": {"source": "org/tiny"}, **spec},
    }


def commands() -> list[tuple[str, list[str]]]:
    """Each simple command of the blocks that are for shells, with where it stands; pipes and loops are taken apart."""
    found = []
    for block in all_blocks(*_SHELLS):
        if block.mark.startswith(("<!-- other tools -->", "<!-- file ")):
            continue
        lines = block.text.replace("\\\n", " ").splitlines()
        if block.language == "console":
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        for line in lines:
            found += [(str(block), words) for words in simple_commands(line)]
    return found


def simple_commands(line: str) -> list[list[str]]:
    """The commands of a line, without assignments before them. What stands in `$(...)` is a word of its command."""
    found: list[list[str]] = [[]]
    for word in shlex.split(re.sub(r" >\s*\S+", "", line), comments=True):
        if word in _JOINS:
            found.append([])
        elif found[-1] or not _ASSIGNMENT.match(word):
            found[-1].append(word.lstrip("(").rstrip(";)") if not found[-1] else word.rstrip(";"))
    return [words for words in found if words]
