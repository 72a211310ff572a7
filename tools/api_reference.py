"""docs/reference/api.md: every field of the resource, with its bounds, its default, its purpose and its rules."""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, get_args

from pydantic import BaseModel

from tools.kinds import KINDS, kind_of
from tools.page import TEMPLATES, link, page
from vllm_operator.api import meta
from vllm_operator.api.conditions import ConditionType, Reason
from vllm_operator.api.crd import schema_of
from vllm_operator.api.spec import VLLMModelSpec, core
from vllm_operator.api.spec.flag import flag_of
from vllm_operator.api.spec.profiles import PROFILES
from vllm_operator.api.status import VLLMModelStatus

if TYPE_CHECKING:
    from collections.abc import Iterator
    from enum import StrEnum

    from pydantic.fields import FieldInfo

EXAMPLES: Final = TEMPLATES / "examples.yaml"
FIRST_VERSION: Final = "0.0.1"
"""What was there from the beginning."""


@dataclass(frozen=True, slots=True)
class Row:
    """A field."""

    name: str
    kind: str
    default: str
    text: str


@dataclass(frozen=True, slots=True)
class Part:
    """A heading with a table of fields below it."""

    heading: str
    intro: str
    rows: tuple[Row, ...]
    rules: tuple[tuple[str, str], ...]
    """Path of the field that a rule names, below this part, and its message."""
    example: str = ""

    @property
    def level(self) -> int:
        """Depth below `spec` or `status`."""
        return self.heading.count(".")


def api_page() -> str:
    """The page."""
    spec = _with_rules_where_they_bite(list(_parts(VLLMModelSpec, schema_of(VLLMModelSpec), "spec")))
    shown = examples()
    return page(
        "api.md.j2",
        meta=meta,
        spec=[replace(part, example=shown.get(part.heading.removeprefix("spec."), "")) for part in spec],
        status=list(_parts(VLLMModelStatus, schema_of(VLLMModelStatus), "status")),
        shared=list(_shared(VLLMModelSpec)),
        kinds=KINDS,
        profiles=PROFILES,
        conditions=member_texts(ConditionType),
        reasons=member_texts(Reason),
    )


def examples() -> dict[str, str]:
    """A piece of YAML for each group that has one, by the group's name: it is the only key of the piece."""
    pieces = EXAMPLES.read_text(encoding="utf-8").split("---\n")
    return {piece.partition(":")[0]: piece for piece in pieces}


def member_texts(kind: type[StrEnum]) -> dict[str, str]:
    """What stands below each member of an enumeration, by the member's value.

    Raises:
        ValueError: A member says nothing of itself.
    """
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    texts: dict[str, str] = {}
    for statement, following in itertools.pairwise(getattr(definition, "body", [])):
        match statement, following:
            case ast.Assign(targets=[ast.Name(id=name)]), ast.Expr(value=ast.Constant(value=str(text))):
                texts[kind[name].value] = text
    silent = {member.value for member in kind} - texts.keys()
    if silent:
        raise ValueError(f"{kind.__name__}: write below {', '.join(sorted(silent))} what it means")
    return texts


def _parts(model: type[BaseModel], node: dict[str, Any], path: str) -> Iterator[Part]:
    """The type and the types in it, each under its path in YAML; those of the core API have headings of their own."""
    yield _part(model, node, path, path)
    for field in model.model_fields.values():
        inner = _inner(field)
        if inner is None or _is_shared(inner):
            continue
        child = node["properties"][field.alias]
        yield from _parts(inner, child.get("items", child), _path_of(path, field, child))


def _part(model: type[BaseModel], node: dict[str, Any], heading: str, path: str) -> Part:
    rows = [_row(field, node, path) for field in model.model_fields.values()]
    if node.get("x-kubernetes-preserve-unknown-fields"):
        rows.append(Row("…", "", "", "Every further field of the core API."))
    lists = [field for field in node.get("properties", {}).values() if field.get("type") == "array"]
    rules = [
        (rule.get("fieldPath", ""), rule["message"])
        for bearer in (node, *lists)
        for rule in bearer.get("x-kubernetes-validations", [])
    ]
    intro = (model.__doc__ or "").partition("\n\n")[0].replace("\n", " ")
    return Part(heading, intro, tuple(rows), tuple(rules))


def _row(field: FieldInfo, node: dict[str, Any], path: str) -> Row:
    name = str(field.alias)
    child = node["properties"][name]
    inner = _inner(field)
    part = link(inner.__name__ if _is_shared(inner) else _path_of(path, field, child)) if inner else ""
    return Row(name, kind_of(child, part), _default(field, child), _purpose(field))


def _path_of(path: str, field: FieldInfo, node: dict[str, Any]) -> str:
    return f"{path}.{field.alias}" + ("[]" if node.get("type") == "array" else "")


def _default(field: FieldInfo, node: dict[str, Any]) -> str:
    """What holds where the field is left out: the resource's own default, or else vLLM's."""
    if field.is_required():
        return "**required**"
    if "default" in node:
        return f"`{node['default']}`"
    flag = flag_of(field)
    return "" if flag is None or flag.default == "none" else f"{flag.default} (vLLM)"


def _purpose(field: FieldInfo) -> str:
    flag = flag_of(field)
    if flag is None:
        return str(field.description)
    since = "" if flag.since == FIRST_VERSION else f", since vLLM {flag.since}"
    return f"{field.description} Sets `{flag.name}`{since}."


def _inner(field: FieldInfo) -> type[BaseModel] | None:
    """The type of a field, or of the items of a list, that is itself made of fields."""
    return next(_models(field.annotation), None)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


def _is_shared(model: type[BaseModel]) -> bool:
    return model.__module__ == core.__name__


def _shared(root: type[BaseModel]) -> Iterator[Part]:
    """The types of the core API, in the order of their names."""
    for model in sorted(set(_reached(root)), key=lambda model: model.__name__):
        if _is_shared(model):
            yield _part(model, schema_of(model), model.__name__, model.__name__)  # type: ignore[arg-type] # of ours


def _reached(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for field in model.model_fields.values():
        inner = _inner(field)
        if inner:
            yield inner
            yield from _reached(inner)


def _with_rules_where_they_bite(parts: list[Part]) -> list[Part]:
    """Move each rule of the whole spec to the group that its field is in: that is where people look."""
    root, *others = parts
    headings = {part.heading for part in others}
    kept = tuple(rule for rule in root.rules if _group(rule) not in headings)
    moved = [tuple(rule for rule in root.rules if _group(rule) == part.heading) for part in others]
    return [
        replace(root, rules=kept),
        *(replace(part, rules=part.rules + rules) for part, rules in zip(others, moved, strict=True)),
    ]


def _group(rule: tuple[str, str]) -> str:
    """Heading of the group that a rule of the whole spec is about."""
    return f"spec.{rule[0].removeprefix('.').partition('.')[0]}"
