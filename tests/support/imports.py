"""What serves models out there, and what `kubectl vllm import` makes of it: tests/data/import.

NAME.sh, NAME.yaml or NAME.json holds an input in one of the forms that people write; its facts are those of public
deployments, its text is not. NAME.expected.yaml holds the resources, and below them what is told besides.

`python -m tests.support.imports` writes the expected files anew, and counts: read the difference before you commit it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vllm_operator.cli.importing.kinds import Kind, Request, read
from vllm_operator.cli.importing.text import finished, is_whole, report, yaml_of

if TYPE_CHECKING:
    from vllm_operator.cli.importing.kinds import Import

FOLDER = Path(__file__).parent.parent / "data" / "import"
EXPECTED = ".expected.yaml"


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of one input."""

    result: Import
    documents: list[dict[str, Any]]
    text: str
    """The resources as YAML, with comments."""
    told: tuple[str, ...]
    """Lines of the standard error."""
    whole: bool
    """Whether nobody has to look."""

    @property
    def typed(self) -> bool:
        """Whether typed fields say everything: no extraArgs, and no patch."""
        specs = [document["spec"] for document in self.documents]
        return not any("extraArgs" in spec.get("engine", {}) or "patch" in spec.get("pod", {}) for spec in specs)

    @property
    def expressible(self) -> bool:
        """Whether nothing of it is lost."""
        return not any(line.startswith("lost:") for line in self.told)


def imported(text: str, kind: Kind = Kind.AUTO, **options: Any) -> Imported:
    """What `import` makes of a text."""
    result = read(Request(text=text, kind=kind, **options))
    documents = finished(result)
    return Imported(result, documents, yaml_of(result, documents), tuple(report(result)), is_whole(result))


def cases() -> list[str]:
    """File names of all inputs."""
    return sorted(path.name for path in FOLDER.iterdir() if not path.name.endswith(EXPECTED))


def given(case: str) -> str:
    """An input."""
    return (FOLDER / case).read_text(encoding="utf-8")


def expected_path(case: str) -> Path:
    """The file with what is expected of an input."""
    return FOLDER / f"{case}{EXPECTED}"


def printed(case: str) -> str:
    """Both outputs of an input as one text."""
    found = imported(given(case))
    return found.text + "".join(f"# | {line}\n" for line in found.told)


def main() -> None:
    """Write every expected file, and count."""
    found = {case: imported(given(case)) for case in cases()}
    for case in found:
        expected_path(case).write_text(printed(case), encoding="utf-8")
    for name in ("expressible", "typed", "whole"):
        count = sum(getattr(one, name) for one in found.values())
        sys.stdout.write(f"{name}: {count} of {len(found)}\n")


if __name__ == "__main__":
    main()
