"""Which PersistentVolumeClaims a spec or a pod mounts, by their names."""

from __future__ import annotations

from typing import Any, Final

_SCHEME: Final = "pvc://"
_FIELDS: Final = ("existingClaim", "claimName")
_LIST: Final = "claims"
"""Of spec.lora."""


def claims_of_spec(spec: Any) -> frozenset[str]:
    """Names of the claims that the spec of a VLLMModel says, in whatever field; not of the one that it has made.

    The spec is read as it was applied, so that one that is refused counts too: its engines stay. A claim that is named
    where it has no effect counts as well. That keeps too much, and never too little.
    """
    found: set[str] = set()
    rest = [spec]
    while rest:  # no recursion: nobody has looked yet how deep it is
        node = rest.pop()
        if isinstance(node, dict):
            for field in _FIELDS:
                if field in node and isinstance(node[field], str):
                    found.add(node[field])
            if isinstance(node.get(_LIST), list):
                found.update(name for name in node[_LIST] if isinstance(name, str))
            rest += node.values()
        elif isinstance(node, list):
            rest += node
        elif isinstance(node, str) and node.startswith(_SCHEME):
            found.add(node.removeprefix(_SCHEME).partition("/")[0])
    return frozenset(found)


def claims_of_pod(pod: Any) -> frozenset[str]:
    """Names of the claims that a pod mounts, or will; none for one that has ended.

    The pod may be a template of the user's that the API server will refuse: a volume that names no claim mounts none.
    """
    if pod.get("status", {}).get("phase") in {"Succeeded", "Failed"}:
        return frozenset()
    sources = (volume.get("persistentVolumeClaim") for volume in pod.get("spec", {}).get("volumes") or ())
    return frozenset(str(source["claimName"]) for source in sources if source and source.get("claimName"))
