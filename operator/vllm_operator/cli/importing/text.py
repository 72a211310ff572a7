"""What is printed of an import: YAML with comments where a person has to look, and one line for everything else."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.cli.documents import spec_faults
from vllm_operator.cli.importing.draft import Level
from vllm_operator.cli.importing.secrets import cleaned, commands
from vllm_operator.cli.outside import comment
from vllm_operator.cli.yaml_text import yaml_text
from vllm_operator.manager.redaction import HIDDEN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_operator.cli.importing.draft import Draft, Path, Remark
    from vllm_operator.cli.importing.kinds import Import

_WIDTH: Final = 110
_IN_YAML: Final = (Level.CHECK, Level.LOST)


def finished(result: Import) -> list[dict[str, Any]]:
    """The resources, without any secret; what the API server or the operator would refuse of them is told."""
    found = []
    for draft in result.drafts:
        draft.spec = _without_secrets(draft, result)
        document = draft.document()
        for fault in spec_faults(document):
            draft.check(f"refused as it is: {fault}")
        found.append(document)
    return found


def _without_secrets(draft: Draft, result: Import) -> dict[str, Any]:
    """The spec without any secret; where one stood in a longer text, a person has to look."""
    found: dict[str, Any] = cleaned(draft.spec, result.vault.redacted)
    template = draft.get("model", "chatTemplate", "inline")
    if template:  # its words about keys and passwords are no secrets
        found["model"]["chatTemplate"]["inline"] = result.vault.without_known(template)
    if found != draft.spec:
        draft.check(f"{HIDDEN} stands where a secret stood in a longer text: refer to a Secret, by a variable of env")
    return found


def yaml_of(result: Import, documents: list[dict[str, Any]]) -> str:
    """The resources as YAML."""
    return "---\n".join(
        _commented(yaml_text([document]), draft, result)
        for draft, document in zip(result.drafts, documents, strict=True)
    )


def _commented(text: str, draft: Draft, result: Import) -> str:
    lines = text.splitlines()
    inserted: dict[int, list[str]] = {}
    for remark in draft.remarks:
        if remark.level in _IN_YAML:
            place, indent = _place(lines, remark.path)
            inserted.setdefault(place, []).extend(_comment(remark, indent, result))
    written: list[str] = []
    for number, line in enumerate(lines):
        written += [*inserted.get(number, []), line]
    return "\n".join(written) + "\n"


def _place(lines: list[str], path: Path) -> tuple[int, int]:
    """Number of the line of a field, or of the deepest part of its path that is there; and how far it is indented."""
    if not path:
        return 0, 0
    place, indent = lines.index("spec:") if "spec:" in lines else 0, 0
    for depth, name in enumerate(path, 1):
        start = "  " * depth + f"{name}:"
        found = place + 1
        while found < len(lines) and lines[found].startswith("  " * depth):
            if lines[found].startswith(start):
                break
            found += 1
        else:
            return place, indent
        place, indent = found, 2 * depth
    return place, indent


def _comment(remark: Remark, indent: int, result: Import) -> Iterator[str]:
    told = comment(result.vault.redacted(f"{remark.level}: {remark.text}"))
    for line in textwrap.wrap(told, _WIDTH - indent, break_long_words=False, break_on_hyphens=False):
        yield f"{' ' * indent}# {line}"


def report(result: Import) -> Iterator[str]:
    """One line for each thing to know: what is done otherwise, what to look at, what is lost, what to run."""
    for draft in result.drafts:
        for level in Level:
            for remark in draft.remarks:
                if remark.level is level:
                    yield comment(result.vault.redacted(f"{level}: {draft.name}: {remark.text}"))
        for step in [*commands(draft), *draft.steps]:
            yield f"next: {draft.name}: {step}"
    for note in result.notes:
        yield comment(result.vault.redacted(f"note: {note}: not imported"))


def is_whole(result: Import) -> bool:
    """Whether everything was carried over, and nobody has to look."""
    return not any(remark.level in _IN_YAML for draft in result.drafts for remark in draft.remarks)
