"""Which argument of `vllm serve` a field becomes: written once, beside the field, read by rendering, rules and docs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic import BaseModel
from pydantic.fields import FieldInfo  # noqa: TC002 # dataclasses and named tuples are read at run time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

MARK: Final = "x-vllm-argument"
"""Key of a field's schema, before it is made structural, that holds the argument's name."""


@dataclass(frozen=True, slots=True)
class Flag:
    """An argument of `vllm serve`, as metadata of the field that sets it."""

    name: str
    """The argument's full name: vLLM's parser accepts prefixes, and a newer version may make one ambiguous."""
    default: str
    """vLLM's own default, as people read it."""
    since: str
    """The oldest vLLM that knows it, as far as the published sources show."""
    off: str = ""
    """The argument that a false value becomes; without one, false is what leaving the field out means."""
    short: tuple[str, ...] = ()
    """Other spellings that vLLM takes."""
    composed: bool = False
    """Whether rendering makes its value of more than this one field."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Leave a mark, out of which the field's description tells the argument."""
        return handler(core) | {MARK: self.name}


class FlaggedField(NamedTuple):
    """A field with the argument that it becomes."""

    path: tuple[str, ...]
    """The field's path below `spec`, as in YAML."""
    flag: Flag
    field: FieldInfo
    names: tuple[str, ...]
    """The same path in Python."""


def flag_of(field: FieldInfo) -> Flag | None:
    """The argument that a field becomes."""
    return next((item for item in field.metadata if isinstance(item, Flag)), None)


def flagged_fields(model: type[BaseModel]) -> Iterator[FlaggedField]:
    """Every field of a type, and of the types in it, that becomes an argument of its own."""
    yield from _flagged(model, (), ())


def _flagged(model: type[BaseModel], path: tuple[str, ...], names: tuple[str, ...]) -> Iterator[FlaggedField]:
    for name, field in model.model_fields.items():
        here, called = (*path, str(field.alias)), (*names, name)
        flag = flag_of(field)
        if flag is not None:
            yield FlaggedField(here, flag, field, called)
        inner = part_of(field)
        if inner is not None and (flag is None or flag.composed):
            yield from _flagged(inner, here, called)


def value_of(spec: BaseModel, found: FlaggedField) -> Any:
    """What a spec says in a field; None where it does not set it."""
    value: Any = spec
    for name in found.names:
        value = getattr(value, name)
        if value is None:
            return None
    return value


def is_left_out(field: FieldInfo, flag: Flag, value: Any) -> bool:
    """Whether a value needs no words: there is none, or it is a default of ours that is vLLM's as well."""
    return value is None or (field.default is not None and str(value) == flag.default)


def part_of(field: FieldInfo) -> type[BaseModel] | None:
    """The type of a field that is itself a part of the spec, optional or not."""
    choices = getattr(field.annotation, "__args__", ()) or (field.annotation,)
    return next((choice for choice in choices if isinstance(choice, type) and issubclass(choice, BaseModel)), None)
