"""operator/vllm_operator/api/pod_schema.py: the types of the fields of a pod template, as the API server has them.

Written by hand with `python -m tools.pod_schema`, on a cluster that KUBECONFIG names (`python -m tests.cluster up
--node none`): they are read from the OpenAPI v3 of that API server. A contract test fails when the committed file is
not what the API server of the tests makes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from pprint import pformat
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

REPOSITORY: Final = Path(__file__).parent.parent
MODULE: Final = REPOSITORY / "operator/vllm_operator/api/pod_schema.py"
DOCUMENT: Final = "/openapi/v3/api/v1"

_ROOT: Final = "io.k8s.api.core.v1.PodTemplateSpec"
_LEFT_OUT: Final = frozenset({"managedFields"})
"""Parts that nobody writes."""

_SCALARS: Final = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": "quantity",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "int-or-string",
}

_HEAD: Final = '''"""Types of the fields of a pod template, as the API server has them. Generated; do not edit.

Written by tools/pod_schema.py from the OpenAPI v3 of Kubernetes {version}. Of newer fields it knows nothing.
"""

from __future__ import annotations

from typing import Final

FIELDS: Final[dict[str, dict[str, str]]] = {fields}
"""By type and field: `string`, `integer`, `number`, `boolean`, `quantity`, `int-or-string`, `any` or another type of
this table; `[x]` is a list of x, and `{{x}}` a map of them by any names."""
'''


def module(version: str, document: Mapping[str, Any]) -> str:
    """The text of the module, not formatted yet."""
    return _HEAD.format(version=version, fields=pformat(fields(document), width=110))


def fields(document: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """The table of an OpenAPI v3 document: all types that a pod template is made of."""
    definitions = document["components"]["schemas"]
    found: dict[str, dict[str, str]] = {}
    left = [_ROOT]
    while left:
        name = left.pop()
        if _short(name) in found:
            continue
        properties = {
            field: schema for field, schema in definitions[name]["properties"].items() if field not in _LEFT_OUT
        }
        found[_short(name)] = {field: _type(schema, definitions, left) for field, schema in properties.items()}
    return found


def _type(schema: Mapping[str, Any], definitions: Mapping[str, Any], left: list[str]) -> str:
    """The type of a field; definitions that it names are appended to `left`."""
    references = [*schema.get("allOf", []), schema]
    name = next((str(one["$ref"]).rpartition("/")[2] for one in references if "$ref" in one), "")
    if name in _SCALARS:
        return _SCALARS[name]
    if "properties" in definitions.get(name, {}):
        left.append(name)
        return _short(name)
    whole = {**definitions.get(name, {}), **schema}
    if whole.get("type") == "array":
        return f"[{_type(whole['items'], definitions, left)}]"
    if isinstance(whole.get("additionalProperties"), dict):
        return f"{{{_type(whole['additionalProperties'], definitions, left)}}}"
    kind = whole.get("type", "any")
    return "any" if kind == "object" else str(kind)


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def asked(get: Callable[[str], str]) -> str:
    """The text of the module for an API server; `get` returns what is at a path."""
    return module(str(json.loads(get("/version"))["gitVersion"]), json.loads(get(DOCUMENT)))


def formatted(text: str) -> str:
    """The text as it is committed."""
    command = [sys.executable, "-m", "ruff", "format", "--quiet", "--stdin-filename", str(MODULE), "-"]
    return subprocess.run(command, input=text, check=True, capture_output=True, text=True, cwd=REPOSITORY).stdout


def main() -> None:
    """Write the module."""

    def get(path: str) -> str:
        return subprocess.run(["kubectl", "get", "--raw", path], check=True, capture_output=True, text=True).stdout

    MODULE.write_text(formatted(asked(get)), encoding="utf-8")
    sys.stdout.write(f"wrote {MODULE.relative_to(REPOSITORY)}\n")


if __name__ == "__main__":
    main()
