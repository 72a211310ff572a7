"""Files with VLLMModels, as people write them: read, checked as the API server and the operator would, or refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import pydantic

from vllm_operator.api.meta import API_VERSION, KIND
from vllm_operator.api.resource import parse_resource
from vllm_operator.api.spec import VLLMModelSpec
from vllm_operator.api.spec.checks import faults as operator_faults
from vllm_operator.api.spec.checks import nesting_fault
from vllm_operator.cli.engine import engine_of
from vllm_operator.cli.rules import faults as rule_faults
from vllm_operator.cli.rules import schema
from vllm_operator.cli.schema import Fault, nulls, stored, unknown_fields
from vllm_operator.cli.schema import faults as type_faults
from vllm_operator.cli.yaml_documents import Document, NotYAMLError, documents
from vllm_operator.errors import InvalidSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from vllm_operator.api.resource import VLLMModel

STANDARD_INPUT: Final = "-"

_CHECKED_ELSEWHERE: Final = frozenset({"metadata", "status"})
"""The first has its own functions here; the second is the operator's, and dropped from what users write."""

_METADATA: Final = frozenset(
    {
        *("name", "generateName", "namespace", "uid", "resourceVersion", "generation", "selfLink", "managedFields"),
        *("creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "labels", "annotations"),
        *("ownerReferences", "finalizers"),
    }
)
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LONGEST_NAME: Final = 253
_NAMESPACE: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class RefusedError(Exception):
    """Files that cannot be followed; each argument is one line: file, resource, and what is wrong."""


def read(
    names: Iterable[str], namespace: str, standard_input: IO[str], note: Callable[[str], None] = lambda _: None
) -> list[VLLMModel]:
    """Read every resource of the files; `-` is the standard input, `namespace` is for resources that name none.

    `note` gets what is no fault and should be known all the same, a line at a time.

    Raises:
        RefusedError: something is wrong in any of them; all faults are told.
    """
    return [model for model, _ in read_with_statuses(names, namespace, standard_input, note)]


def read_with_statuses(
    names: Iterable[str], namespace: str, standard_input: IO[str], note: Callable[[str], None] = lambda _: None
) -> list[tuple[VLLMModel, Mapping[str, Any]]]:
    """As `read`, with the status of each that came out of a cluster; an empty one for what people write.

    Raises:
        RefusedError: as `read`.
    """
    models: list[tuple[VLLMModel, Mapping[str, Any]]] = []
    refused: list[str] = []
    for name in names:
        try:
            found = _documents(_text(name, standard_input))
            statuses = [document.value.get("status") for document in found if isinstance(document.value, dict)]
            known = (status if isinstance(status, dict) else {} for status in statuses)
            models += zip(_models(found, namespace), known, strict=True)
        except RefusedError as error:
            refused += [f"{name}: {_line(told)}" for told in error.args]
            continue
        for document in found:
            for told in _notes(document):
                note(f"{name}: {told}")
    if refused:
        raise RefusedError(*refused)
    return models


def _models(found: list[Document], namespace: str) -> list[VLLMModel]:
    if not found:
        raise RefusedError("holds nothing")
    refused = [told for document in found for told in _refusal(document.value)]
    if refused:
        raise RefusedError(*refused)
    models = [parse_resource(_placed(document.value, namespace)) for document in found]
    unmade = [told for model in models for told in _pod_faults(model)]
    if unmade:
        raise RefusedError(*unmade)
    return models


def _notes(document: Document) -> Iterator[str]:
    """What kubectl passes over in silence, or takes in one way and not in another."""
    name = document.value["metadata"]["name"]
    for field in document.repeated:
        yield f"{name}: {field} is there twice: kubectl takes the last one"
    unset = ", ".join(nulls(schema(), document.value))
    if unset:
        yield (
            f"{name}: {unset}: null counts as not set for kubectl apply and kubectl create, and is refused to kubectl "
            "apply --server-side and to Helm 4: leave it out"
        )


def _text(name: str, standard_input: IO[str]) -> str:
    try:
        return standard_input.read() if name == STANDARD_INPUT else Path(name).read_text(encoding="utf-8")
    except OSError as error:
        raise RefusedError(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise RefusedError("is no text in UTF-8") from None


def _documents(text: str) -> list[Document]:
    try:
        found = documents(text)
    except NotYAMLError as error:
        raise RefusedError(str(error)) from None
    return [item for document in found for item in _items(document)]


def _items(document: Document) -> list[Document]:
    """What is in a document of the kind List, which kubectl takes apart; of any other one itself."""
    items = document.value.get("items") if isinstance(document.value, dict) else None
    if not isinstance(items, list):
        return [document]
    return [Document(item, () if position else document.repeated) for position, item in enumerate(items)]


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
    name, namespace = given.get("name"), given.get("namespace")
    if not isinstance(name, str) or len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
        yield "metadata.name: must be set, in small letters, digits, `-` and `.`"
    if namespace is not None and (not isinstance(namespace, str) or not _NAMESPACE.fullmatch(namespace)):
        yield "metadata.namespace: must be a name in small letters, digits and `-`"
    for field in given.keys() - _METADATA:
        yield f"metadata.{field}: there is no such field"
    for field in ("labels", "annotations"):
        yield from _words_faults(f"metadata.{field}", given.get(field))


def _words_faults(path: str, words: Any) -> Iterator[str]:
    """What is wrong with labels or annotations: kubectl itself refuses values that are no texts."""
    if words is not None and not isinstance(words, dict):
        yield f"{path}: must be a map of texts"
    for name, value in words.items() if isinstance(words, dict) else ():
        if value is not None and not isinstance(value, str):
            yield f"{path}.{name}: must be a text: put it in quotation marks"


def _spec_faults(document: Mapping[str, Any]) -> list[str]:
    """What the API server refuses, and what the operator refuses besides."""
    spec = document.get("spec")
    deep = nesting_fault(spec) if isinstance(spec, dict) else None
    if deep:
        return [_told(_path(deep.path), deep.message)]
    checked = {name: part for name, part in document.items() if name not in _CHECKED_ELSEWHERE}
    whole = stored(schema(), checked)
    found = [*unknown_fields(schema(), checked), *type_faults(schema(), whole)]
    return [_told(fault.path, fault.message) for fault in found or (*rule_faults(whole), *_operator_faults(whole))]


def spec_faults(document: Mapping[str, Any]) -> list[str]:
    """What the API server or the operator would refuse of one resource, its metadata left aside; and of its pods."""
    found = _spec_faults(document)
    if found:
        return found
    return list(_pod_faults(parse_resource(_placed(document, "default"))))


def _operator_faults(document: Mapping[str, Any]) -> list[Fault]:
    """What the API server takes and the operator does not follow."""
    try:
        spec = VLLMModelSpec.model_validate(document["spec"], by_alias=True, by_name=False)
    except pydantic.ValidationError as error:
        return [Fault(_path(fault["loc"]), fault["msg"]) for fault in error.errors()]
    return [Fault(_path(fault.path), fault.message) for fault in operator_faults(spec)]


def _pod_faults(model: VLLMModel) -> Iterator[str]:
    """What is wrong with the user's own parts of the pods, which shows when they are made."""
    try:
        engine_of(model)
    except InvalidSpec as error:
        yield f"{model.name}: {error}"


def _path(location: Iterable[str | int]) -> str:
    return "spec" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)


def _told(path: str, message: str) -> str:
    """A fault with its path, which some messages name themselves."""
    return message if message.startswith(path) else f"{path}: {message}"


def _placed(document: Mapping[str, Any], namespace: str) -> dict[str, Any]:
    metadata = {**document["metadata"], "namespace": document["metadata"].get("namespace") or namespace}
    return {**document, "metadata": metadata, "spec": stored(schema(), {"spec": document["spec"]})["spec"]}


def _kind(value: Any) -> str:
    return "a list" if isinstance(value, list) else f"{value!r}"


def _line(text: str) -> str:
    return " ".join(text.split())
