"""https of the server: the Secret's files in the pod, the server's arguments, and what clients speak with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from vllm_operator.manager import certificate

if TYPE_CHECKING:
    from vllm_operator.api.spec import VLLMModelSpec

VOLUME: Final = "server-certificate"
FOLDER: Final = "/etc/vllm-certificate"
"""Where the Secret's files are, of which the manager makes copies: see its `certificate`."""

COPIES: Final = f"{certificate.STATE_FOLDER}/{certificate.FOLDER}"
"""Where the engine reads them."""

_FILES: Final = (certificate.CERTIFICATE, certificate.KEY)


def scheme(spec: VLLMModelSpec) -> str:
    """What clients speak with the model: https with the server, or what a sidecar before it speaks."""
    return spec.service.app_protocol or ("https" if spec.engine.tls else "http")


def arguments(spec: VLLMModelSpec) -> list[str]:
    """Words of the command line."""
    if spec.engine.tls is None:
        return []
    crt, key = (f"{COPIES}/{name}" for name in _FILES)
    return ["--ssl-certfile", crt, "--ssl-keyfile", key, "--enable-ssl-refresh"]


def options(spec: VLLMModelSpec) -> list[str]:
    """What the manager has to know."""
    return ["--certificate", FOLDER] if spec.engine.tls else []


def volumes(spec: VLLMModelSpec) -> list[dict[str, Any]]:
    """The two files of the Secret, as a volume of the pod: one that lacks them keeps the pod waiting, and is told."""
    tls = spec.engine.tls
    if tls is None:
        return []
    items = [{"key": name, "path": name} for name in _FILES]
    return [{"name": VOLUME, "secret": {"secretName": tls.secret_name, "items": items}}]


def mounts(spec: VLLMModelSpec) -> list[dict[str, Any]]:
    """Where the manager finds them."""
    return [{"name": VOLUME, "mountPath": FOLDER, "readOnly": True}] if spec.engine.tls else []
