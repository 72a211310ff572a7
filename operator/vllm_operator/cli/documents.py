"""Files with VLLMModels, as people write them: read, checked as the API server and the operator would, or refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import pydantic
import yaml

from vllm_operator.api.meta import API_VERSION, KIND
from vllm_operator.api.resource import parse_resource
from vllm_operator.api.spec import VLLMModelSpec
from vllm_operator.api.spec.checks import faults as operator_faults
from vllm_operator.cli.engine import engine_of
from vllm_operator.cli.rules import faults as server_faults
from vllm_operator.errors import InvalidSpec

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Mapping

    from vllm_operator.api.resource import VLLMModel

STANDARD_INPUT: Final = "-"

_FIELDS: Final = frozenset({"apiVersion", "kind", "metadata", "spec", "status"})
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LONGEST_NAME: Final = 253
_NAMESPACE: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class RefusedError(Exception):
    """Files that cannot be followed; each argument is one line: file, resource, and what is wrong."""


def read(names: Iterable[str], namespace: str, standard_input: IO[str]) -> list[VLLMModel]:
    """Read every resource of the files; `-` is the standard input, `namespace` is for resources that name none.

    Raises:
        RefusedError: something is wrong in any of them; all faults are told.
    """
    models: list[VLLMModel] = []
    refused: list[str] = []
    for name in names:
        try:
            models += _models(name, namespace, standard_input)
        except RefusedError as error:
            refused += [f"{name}: {_line(told)}" for told in error.args]
    if refused:
        raise RefusedError(*refused)
    return models


def _models(name: str, namespace: str, standard_input: IO[str]) -> list[VLLMModel]:
    documents = [document for document in _documents(_text(name, standard_input)) if document is not None]
    if not documents:
        raise RefusedError("holds nothing")
    refused = [told for document in documents for told in _refusal(document)]
    if refused:
        raise RefusedError(*refused)
    models = [parse_resource(_placed(document, namespace)) for document in documents]
    unmade = [told for model in models for told in _pod_faults(model)]
    if unmade:
        raise RefusedError(*unmade)
    return models


def _text(name: str, standard_input: IO[str]) -> str:
    try:
        return standard_input.read() if name == STANDARD_INPUT else Path(name).read_text(encoding="utf-8")
    except OSError as error:
        raise RefusedError(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise RefusedError("is no text in UTF-8") from None


def _documents(text: str) -> list[Any]:
    try:
        return list(yaml.load_all(text, _Loader))  # a safe loader, made stricter
    except yaml.YAMLError as error:
        raise RefusedError(f"is no YAML: {error}") from None


def _refusal(document: Any) -> Iterator[str]:
    """One line for a document that is refused."""
    if not isinstance(document, dict):
        yield f"holds {_kind(document)} where a {KIND} should be"
        return
    if (document.get("apiVersion"), document.get("kind")) != (API_VERSION, KIND):
        kind, version = document.get("kind", "document without a kind"), document.get("apiVersion", "no version")
        yield f"a {kind} of {version} is not a {KIND} of {API_VERSION}"
        return
    metadata = document.get("metadata")
    told = [*_metadata_faults(metadata), *_spec_faults(document)]
    if told:
        name = metadata.get("name") if isinstance(metadata, dict) else None
        yield f"{name or f'{KIND} without a name'}: {'; '.join(told)}"


def _metadata_faults(metadata: Any) -> Iterator[str]:
    given = metadata if isinstance(metadata, dict) else {}
    name, namespace = given.get("name"), given.get("namespace", "default")
    if not isinstance(name, str) or len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
        yield "metadata.name: must be set, in small letters, digits, `-` and `.`"
    if not isinstance(namespace, str) or not _NAMESPACE.fullmatch(namespace):
        yield "metadata.namespace: must be a name in small letters, digits and `-`"


def _spec_faults(document: Mapping[str, Any]) -> list[str]:
    """What the API server refuses: first types and bounds, then rules; and what the operator refuses besides."""
    unknown = [f"{name}: there is no such field" for name in document if name not in _FIELDS]
    try:
        spec = VLLMModelSpec.model_validate(_without_empty_groups(document.get("spec")), strict=True)
    except pydantic.ValidationError as error:
        return unknown + [_told(_path(fault["loc"]), fault["msg"]) for fault in error.errors()]
    checked = {name: part for name, part in document.items() if name == "spec"}
    told = [_told(fault.path, fault.message) for fault in server_faults(checked)]
    return unknown + told + [_told(_path(fault.path), fault.message) for fault in operator_faults(spec)]


def _pod_faults(model: VLLMModel) -> Iterator[str]:
    """What is wrong with the user's own parts of the pods, which shows when they are made."""
    try:
        engine_of(model)
    except InvalidSpec as error:
        yield f"{model.name}: {error}"


def _without_empty_groups(spec: Any) -> Any:
    """The spec as the API server takes it: a group that has a default may stand there without anything in it."""
    if not isinstance(spec, dict):
        return {} if spec is None else spec
    optional = {str(field.alias) for field in VLLMModelSpec.model_fields.values() if not field.is_required()}
    return {name: part for name, part in spec.items() if part is not None or name not in optional}


def _path(location: Iterable[str | int]) -> str:
    return "spec" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)


def _told(path: str, message: str) -> str:
    """A fault with its path, which some messages name themselves."""
    return message if message.startswith(path) else f"{path}: {message}"


def _placed(document: Mapping[str, Any], namespace: str) -> dict[str, Any]:
    metadata = {"namespace": namespace, **document["metadata"]}
    return {**document, "metadata": metadata, "spec": _without_empty_groups(document["spec"])}


def _kind(value: Any) -> str:
    return "a list" if isinstance(value, list) else f"{value!r}"


def _line(text: str) -> str:
    return " ".join(text.split())


class _Loader(yaml.SafeLoader):
    """Reads as kubectl does: a field that is there twice is a mistake, and a date is a text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 # inherited
        written = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key in written:
            if written.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{key} is there twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _as_text(loader: _Loader, node: yaml.ScalarNode) -> str:
    return str(loader.construct_scalar(node))


_Loader.add_constructor("tag:yaml.org,2002:timestamp", _as_text)
