"""operator/vllm_operator/api/kubernetes_schema.py: what the API server's schema says of what the operator writes.

Written by hand with `python -m tools.kubernetes_schema`, on a cluster that KUBECONFIG names (`python -m tests.cluster
up --node none`): the schema is the OpenAPI v3 of that API server. It does not say which fields are kept when they are
empty: that is in the Go types of the same version, which `go` finds through the module that builds the test cluster.
A contract test fails when the committed file is not what the API server of the tests and its types make.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from pprint import pformat
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

REPOSITORY: Final = Path(__file__).parent.parent
MODULE: Final = REPOSITORY / "operator/vllm_operator/api/kubernetes_schema.py"
_GO_MODULE: Final = REPOSITORY / "tests/cluster/go/kubernetes"

KINDS: Final = {
    "api/v1": ("ConfigMap", "PersistentVolumeClaim", "Secret", "Service", "ServiceAccount"),
    "apis/apps/v1": ("Deployment",),
    "apis/autoscaling/v2": ("HorizontalPodAutoscaler",),
    "apis/networking.k8s.io/v1": ("Ingress", "NetworkPolicy"),
    "apis/policy/v1": ("PodDisruptionBudget",),
    "apis/resource.k8s.io/v1": ("ResourceClaimTemplate",),
}
"""What the operator writes of the API server's own kinds, by group and version."""

_TEMPLATE: Final = "io.k8s.api.core.v1.PodTemplateSpec"
_QUANTITY: Final = "io.k8s.apimachinery.pkg.api.resource.Quantity"
_FOREIGN: Final = frozenset({"status", "managedFields"})
"""Parts that the operator does not write."""

Place = tuple[str, str]
"""Name of the field around a value, and that of its own field; items of a list are where their list is."""


_IDENTITY: Final = frozenset({("", "apiVersion"), ("", "kind")})
"""Fields that every object has, of the embedded TypeMeta."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of an object, as the schema describes it."""

    place: Place
    path: tuple[str, ...]
    schema: Mapping[str, Any]
    owner: str
    """Name of the definition around it; empty inside a map of any keys."""
    atomic: bool
    """Whether it is inside of something that has one owner."""


class Schema:
    """The definitions of one OpenAPI document."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._definitions: Mapping[str, Any] = document["components"]["schemas"]

    def named(self, kind: str) -> str:
        """Name of the definition of a kind."""
        (name,) = [name for name in self._definitions if re.fullmatch(rf"io\.k8s\.api\.\w+\.v[12]\.{kind}", name)]
        return str(name)

    def parts(self, definition: str) -> Iterator[Part]:
        """Every part of a definition, with what is inside of it."""
        return self._inside({"$ref": definition}, ("", ""), (), "", atomic=False)

    def _inside(
        self, schema: Mapping[str, Any], place: Place, path: tuple[str, ...], owner: str, *, atomic: bool
    ) -> Iterator[Part]:
        name, whole = self._resolved(schema)
        yield Part(place, path, {**whole, "$name": name}, owner, atomic)
        if whole.get("type") == "array":
            keyed = whole.get("x-kubernetes-list-type") in {"map", "set"}
            yield from self._inside(whole["items"], place, path, "", atomic=atomic or not keyed)
        below = atomic or whole.get("x-kubernetes-map-type") == "atomic"
        for field, inner in whole.get("properties", {}).items():
            if field not in _FOREIGN:
                yield from self._inside(inner, (place[1], field), (*path, field), name, atomic=below)

    def _resolved(self, schema: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """The name of the definition that a schema refers to, if any, and the two together."""
        references = [*schema.get("allOf", []), schema]
        name = next((str(one["$ref"]).rpartition("/")[2] for one in references if "$ref" in one), "")
        return name, {**self._definitions.get(name, {}), **schema}


class GoTypes:
    """The structs of the API's Go types: which of their fields are written out although they are empty."""

    _STRUCT = re.compile(r"^type (\w+) struct \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
    _FIELD = re.compile(r'^\t(?:(\w+) )?([*\[\]\w.]+)\s+`json:"([^",]*)(,[^"]*)?"', re.MULTILINE)

    def __init__(self, source: Callable[[str], str]) -> None:
        self._source = source
        self._structs: dict[str, dict[str, dict[str, bool]]] = {}

    def keeps_empty(self, definition: str, field: str) -> bool:
        """Whether a field that is set to its empty value comes back with it."""
        package, _, name = definition.rpartition(".")
        return self._struct(package, name)[field]

    def _struct(self, package: str, name: str) -> dict[str, bool]:
        if package not in self._structs:
            self._structs[package] = {}
            bodies = dict(self._STRUCT.findall(self._source(package)))
            for struct in bodies:
                self._structs[package][struct] = dict(self._fields(struct, bodies))
        return self._structs[package][name]

    def _fields(self, name: str, bodies: Mapping[str, str]) -> Iterator[tuple[str, bool]]:
        for _, kind, field, options in self._FIELD.findall(bodies.get(name, "")):
            if field:
                yield field, kind.startswith("*") or "omitempty" not in options
            else:  # its fields are those of the struct that holds it
                yield from self._fields(kind.lstrip("*"), bodies)


@cache
def go_source(package: str) -> str:
    """The types of a package of the API, by the beginning of its definitions' names.

    Raises:
        CalledProcessError: the module is not there; `go mod download` in tests/cluster/go/kubernetes brings it.
    """
    if package.startswith("io.k8s.apimachinery."):
        module, folder = "k8s.io/apimachinery", package.removeprefix("io.k8s.apimachinery.")
    else:
        module, folder = "k8s.io/api", package.removeprefix("io.k8s.api.")
    command = ["go", "list", "-m", "-f", "{{.Dir}}", module]
    found = subprocess.run(command, cwd=_GO_MODULE, check=True, capture_output=True, text=True).stdout.strip()
    return (Path(found) / folder.replace(".", "/") / "types.go").read_text(encoding="utf-8")


def tables(documents: Mapping[str, Mapping[str, Any]], types: GoTypes) -> dict[str, Any]:
    """Every table of the module, by its name; `documents` are the OpenAPI v3 documents, by group and version."""
    schemas = {version: Schema(document) for version, document in documents.items()}
    kinds = [(version, kind) for version, names in KINDS.items() for kind in names]
    parts = [part for version, kind in kinds for part in schemas[version].parts(schemas[version].named(kind))]
    lists = [part for part in parts if part.schema.get("type") == "array"]
    maps = [part for part in parts if part.schema.get("type") == "object"]
    scalars = [
        part
        for part in parts
        if part.owner and part.schema.get("type") in {"boolean", "integer", "string"} and part.place not in _IDENTITY
    ]
    quantities = [part for part in parts if part.owner and part.schema["$name"] == _QUANTITY]
    return {
        "LIST_KEYS": _folded((part.place, _keys(part)) for part in lists),
        "KEY_DEFAULTS": _key_defaults(parts),
        "SETS": _names((part.place, part.schema.get("x-kubernetes-list-type") == "set") for part in lists),
        "ATOMIC_MAPS": _names(
            (part.place, part.schema.get("x-kubernetes-map-type") == "atomic") for part in maps if not part.atomic
        ),
        "OPEN_MAPS": sorted({".".join(part.place) for part in maps if "additionalProperties" in part.schema}),
        "RESOURCE_LISTS": sorted({".".join(part.place) for part in maps if _holds_quantities(part)}),
        "QUANTITIES": sorted({".".join(part.place) for part in quantities}),
        "KEPT_EMPTY": _names(_kept_everywhere(scalars, types).items()),
        "MERGED_LISTS": dict(_merged(schemas["api/v1"])),
    }


def _kept_everywhere(scalars: Iterable[Part], types: GoTypes) -> dict[Place, bool]:
    """Where two types share a place, a field counts as kept where both keep it: to write for ever would be worse."""
    kept: dict[Place, bool] = {}
    for part in scalars:
        kept[part.place] = kept.get(part.place, True) and types.keeps_empty(part.owner, part.place[1])
    return kept


def _keys(part: Part) -> tuple[str, ...]:
    keyed = part.schema.get("x-kubernetes-list-type") == "map"
    return tuple(part.schema["x-kubernetes-list-map-keys"]) if keyed else ()


def _holds_quantities(part: Part) -> bool:
    inner = part.schema.get("additionalProperties")
    return isinstance(inner, dict) and _QUANTITY in json.dumps(inner)


def _key_defaults(parts: Iterable[Part]) -> dict[str, Any]:
    """What a key of a list is where it is left out."""
    keys = {(part.place[1], key) for part in parts for key in _keys(part)}
    return {
        part.place[1]: part.schema["default"]
        for part in parts
        if part.place in keys and part.schema.get("default") not in (None, "", 0)
    }


def _merged(schema: Schema) -> Iterator[tuple[tuple[str, ...], str]]:
    """Lists of a pod template that a strategic merge patch merges, with the key of their items; none for words."""
    for part in schema.parts(_TEMPLATE):
        if part.schema.get("type") == "array" and "merge" in str(part.schema.get("x-kubernetes-patch-strategy", "")):
            yield part.path, str(part.schema.get("x-kubernetes-patch-merge-key", ""))


def _folded(found: Iterable[tuple[Place, Any]]) -> dict[str, Any]:
    """What is said of places, by the name of a field where that is true of it everywhere, else by both names.

    Raises:
        ValueError: one place is two things; then more has to tell places apart.
    """
    by_name: defaultdict[str, dict[Place, Any]] = defaultdict(dict)
    for place, value in found:
        if by_name[place[1]].setdefault(place, value) != value:
            raise ValueError(f"{'.'.join(place)} is {value!r} and {by_name[place[1]][place]!r}")
    folded: dict[str, Any] = {}
    for name, places in by_name.items():
        values = list(places.values())
        if all(value == values[0] for value in values):
            folded |= {name: values[0]} if values[0] else {}
        else:
            folded |= {".".join(place): value for place, value in places.items() if value}
    return dict(sorted(folded.items()))


def _names(found: Iterable[tuple[Place, bool]]) -> list[str]:
    return list(_folded(found))


_DOCS: Final = {
    "LIST_KEYS": "What tells the items of a list apart that several managers share. Others are atomic, but for sets.",
    "KEY_DEFAULTS": "What such a key is where it is left out.",
    "SETS": "Lists of words that several managers share.",
    "ATOMIC_MAPS": "Maps, and items of lists, that have one owner for all that is in them.",
    "OPEN_MAPS": "Maps of any keys: what is in them is kept also where it is empty.",
    "RESOURCE_LISTS": "Maps of quantities, which the API server rounds up to thousandths.",
    "QUANTITIES": "Single quantities, which it rounds up to billionths.",
    "KEPT_EMPTY": "Fields that are kept when they are false, 0 or empty text; others are left out then.",
    "MERGED_LISTS": "Lists of a pod template that a strategic merge patch merges, with the field that tells their\n"
    "items apart, or none for words. Others are replaced.",
}

_HEAD: Final = '''"""What the API server's schema says of the objects that the operator writes. Generated; do not edit.

Written by tools/kubernetes_schema.py from the OpenAPI v3 of Kubernetes {version} and its Go types. A place is the name
of a field where what is said is true of that field everywhere, else the name of the field around it, a dot and its own.
"""

from __future__ import annotations

from typing import Final
'''

_TYPES: Final = {
    "LIST_KEYS": "dict[str, tuple[str, ...]]",
    "KEY_DEFAULTS": "dict[str, str]",
    "MERGED_LISTS": "dict[tuple[str, ...], str]",
}


def module(version: str, found: Mapping[str, Any]) -> str:
    """The text of the module."""
    sections = [_HEAD.format(version=version)]
    for name, table in found.items():
        kind = _TYPES.get(name, "frozenset[str]")
        text = pformat(table, width=110, sort_dicts=True)
        value = text if name in _TYPES else f"frozenset({text})"
        sections.append(f'{name}: Final[{kind}] = {value}\n"""{_DOCS[name]}"""\n')
    return "\n".join(sections)


def asked(get: Callable[[str], str]) -> tuple[str, dict[str, Any]]:
    """Version of an API server, and the tables that it and its types make; `get` returns what is at a path."""
    documents = {version: json.loads(get(f"/openapi/v3/{version}")) for version in KINDS}
    version = str(json.loads(get("/version"))["gitVersion"])
    return version, tables(documents, GoTypes(go_source))


def main() -> None:
    """Write the module."""

    def get(path: str) -> str:
        return subprocess.run(["kubectl", "get", "--raw", path], check=True, capture_output=True, text=True).stdout

    MODULE.write_text(module(*asked(get)), encoding="utf-8")
    subprocess.run([sys.executable, "-m", "ruff", "format", "--quiet", str(MODULE)], check=True)
    sys.stdout.write(f"wrote {MODULE.relative_to(REPOSITORY)}\n")


if __name__ == "__main__":
    main()
