"""The operator as another version: `python -m tests.upgrade.versions earlier|later`.

`earlier` has no history: it makes the Deployment as it renders it, as every version did before there were revisions.
`later` renders other pods from the same spec, in all ways in which versions differ: another default image, one more
variable, another probe, one argument less, one more file.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.controller import app
from vllm_operator.planner import status, template
from vllm_operator.render import children, command, environment, files, manager, pod

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import ModuleType

    from vllm_operator.api.resource import VLLMModel
    from vllm_operator.api.spec import VLLMModelSpec
    from vllm_operator.planner.template import Choice

    _Replacement = tuple[ModuleType, str, Any]
    """A module, and what of it is something else in another version."""

REPOSITORY: Final = Path(__file__).parent.parent.parent
IMAGE: Final = "vllm/vllm-openai:v99.0.0"
VARIABLE: Final = "OF_ANOTHER_VERSION"


def program(version: str) -> tuple[str, ...]:
    """The command that runs the operator as that version."""
    code = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); sys.argv[1:] = [{version!r}]\n"
    return (sys.executable, "-c", f"{code}from tests.upgrade import versions; versions.main()")


def _earlier() -> list[_Replacement]:
    def as_rendered(
        _model: VLLMModel, rendered: Sequence[Mapping[str, Any]], _choice: Choice, _release: str
    ) -> list[Mapping[str, Any]]:
        return list(rendered)

    status_of = status.status_of

    def without_condition(*args: Any, **named: Any) -> dict[str, Any]:
        told = status_of(*args, **named)
        kept = [one for one in told["conditions"] if one["type"] != "TemplateUpdatePending"]
        return {**told, "conditions": kept}

    return [
        (template, "with_chosen", as_rendered),
        (status, "status_of", without_condition),
    ]


def _later() -> list[_Replacement]:
    variables, probes, words, config = environment.environment, manager.probes, command.command, files.config

    def more(spec: VLLMModelSpec, instance: str) -> list[dict[str, Any]]:
        return [*variables(spec, instance), {"name": VARIABLE, "value": "1"}]

    def patient(spec: VLLMModelSpec) -> dict[str, Any]:
        found = probes(spec)
        return {**found, "livenessProbe": {**found["livenessProbe"], "periodSeconds": 17}}

    def shorter(*args: Any) -> list[str]:
        return words(*args)[:-1]

    def larger(model: VLLMModel) -> tuple[dict[str, Any], ...]:
        return tuple(files.config_of(model, {**one["data"], "more.json": "{}"}) for one in config(model))

    return [
        (pod, "image", lambda spec: spec.engine.image or IMAGE),
        (pod, "environment", more),
        (manager, "probes", patient),
        (command, "command", shorter),
        (children, "config", larger),
    ]


def main() -> None:
    """Run it."""
    versions = {"earlier": _earlier, "this": list, "later": _later}
    for module, name, other in versions[sys.argv[1]]():
        assert hasattr(module, name)
        setattr(module, name, other)
    app.main()
