"""Which field of a spec names a Secret, a ConfigMap or a claim: for people who have to correct it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

Referenced = Literal["Secret", "ConfigMap", "PersistentVolumeClaim", "ResourceClaim", "ResourceClaimTemplate"]

_WORDS: Final[Mapping[Referenced, tuple[str, ...]]] = {
    "Secret": ("secret", ".auth."),
    "ConfigMap": ("configmap",),
    "PersistentVolumeClaim": ("claim",),
    "ResourceClaim": (".resourceclaimname",),
    "ResourceClaimTemplate": (".resourceclaimtemplatename",),
}
"""What stands in the path of a field that names an object of a kind."""

_ITEM: Final = re.compile(r"\[[^\]]*\]")
_LAST: Final = re.compile(r"\.(?:name|secretName|claimName)$")
_FOLDER_OF_CLAIM: Final = re.compile(r"pvc://([^/]+)")
"""How spec.model.source and the sources of adapters name a claim."""


def field_naming(spec: Mapping[str, Any], kind: Referenced, name: str) -> str:
    """The first field of a spec that names an object; empty where none does, as where the operator names it itself.

    Items of a list are told by their name: `spec.engine.env[HF_TOKEN].valueFrom.secretKeyRef`.
    """
    found = (path for path, text in _texts(spec, "spec") if _names(path, text, kind, name))
    return _LAST.sub("", next(found, ""))


def _names(path: str, text: str, kind: Referenced, name: str) -> bool:
    folder = _FOLDER_OF_CLAIM.match(text)
    if kind == "PersistentVolumeClaim" and folder:
        return folder[1] == name
    fields = _ITEM.sub("", path).lower()
    return text == name and any(word in fields for word in _WORDS[kind])


def _texts(spec: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    """All texts with their paths, in their order."""
    rest: list[tuple[str, Any]] = [(path, spec)]
    while rest:  # no recursion: nobody has looked yet how deep it is
        place, node = rest.pop()
        if isinstance(node, str):
            yield place, node
        elif isinstance(node, Mapping):
            rest += reversed([(f"{place}.{key}", value) for key, value in node.items()])
        elif isinstance(node, list):
            rest += reversed([(f"{place}[{_label(item, number)}]", item) for number, item in enumerate(node)])


def _label(item: Any, number: int) -> str:
    return str(item.get("name", number) if isinstance(item, Mapping) else number)
