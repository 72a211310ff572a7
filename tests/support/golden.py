"""Expected outputs beside their inputs: tests/data/render/NAME.yaml holds a resource, NAME.expected.yaml its children.

In the same way tests/data/command and tests/data/compose hold what `kubectl-vllm render --to ...` makes of whole files.

`python -m tests.support.golden` writes the expected files anew; read the difference before you commit it. A new case is
a new NAME.yaml.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from vllm_operator.api.resource import parse_resource
from vllm_operator.cli.compose.file import compose_file
from vllm_operator.cli.documents import read
from vllm_operator.cli.engine import engine_of
from vllm_operator.cli.render import Form, rendered_text
from vllm_operator.render.children import children
from vllm_operator.render.context import KeyRecord, RenderContext
from vllm_operator.render.prefetch import jobs

FOLDER = Path(__file__).parent.parent / "data" / "render"
EXPECTED = ".expected.yaml"
PRINTED = {Form.COMMAND: ".expected.sh", Form.COMPOSE: EXPECTED}
"""What the command line prints instead of objects: the ending of the expected files, which lie in a folder each."""


def cases() -> list[str]:
    """Names of all cases."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml") if not path.name.endswith(EXPECTED))


def given(case: str) -> dict[str, Any]:
    """The resource of a case."""
    loaded: dict[str, Any] = yaml.safe_load((FOLDER / f"{case}.yaml").read_text(encoding="utf-8"))
    return loaded


def expected(case: str) -> str:
    """The children that are expected of it."""
    return (FOLDER / f"{case}{EXPECTED}").read_text(encoding="utf-8")


def rendered_children(raw: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """The children in a cluster that has everything; a key where the model asks for one."""
    model = parse_resource(raw)
    record = KeyRecord({"generated": "a-digest"}) if model.spec.auth else None
    key = "an-example" if model.spec.auth else ""
    context = RenderContext(api_key=key, key_record=record, pod_monitors=True, autoscaler="ScaledObject")
    return (*children(model, context), *jobs(model))


def rendered(case: str) -> str:
    """The children that are rendered, as text."""
    documents = rendered_children(given(case))
    return yaml.dump_all(documents, Dumper=_Plain, sort_keys=False, width=120, allow_unicode=True)


class _Plain(yaml.SafeDumper):
    """Writes equal parts out in full: anchors and aliases do not read well."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 # the inherited signature
        return True


def printed_cases() -> list[tuple[Form, str]]:
    """Every case of what the command line prints."""
    return [
        (form, path.stem)
        for form in PRINTED
        for path in sorted((FOLDER.parent / form).glob("*.yaml"))
        if not path.name.endswith(EXPECTED)
    ]


def printed_path(form: Form, case: str) -> Path:
    """The file with what is expected to be printed."""
    return FOLDER.parent / form / f"{case}{PRINTED[form]}"


def printed(form: Form, case: str) -> str:
    """What is printed. One line stands for the manager's files, which a Compose file holds as they are."""
    models = read([str(FOLDER.parent / form / f"{case}.yaml")], "default", sys.stdin)
    if form is Form.COMPOSE:
        return compose_file([engine_of(model) for model in models], {"stem.py": "the manager"})
    return rendered_text(models, form)


def main() -> None:
    """Write every expected file."""
    for case in cases():
        path = FOLDER / f"{case}{EXPECTED}"
        path.write_text(rendered(case), encoding="utf-8")
        sys.stdout.write(f"wrote {path.relative_to(FOLDER.parent.parent.parent)}\n")
    for form, case in printed_cases():
        printed_path(form, case).write_text(printed(form, case), encoding="utf-8")


if __name__ == "__main__":
    main()
