"""Claims that hold folders of the test cluster's node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.site import Site


def claim(site: Site, name: str, folder: Path) -> list[dict[str, Any]]:
    """A claim of this namespace that holds a folder of the node."""
    volume = f"{site.name}-{name}"
    common = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": volume},
            "spec": {**common, "capacity": {"storage": "1Gi"}, "hostPath": {"path": str(folder)}},
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name},
            "spec": {**common, "resources": {"requests": {"storage": "1Gi"}}, "volumeName": volume},
        },
    ]
