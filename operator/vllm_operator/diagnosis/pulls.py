"""What kubelet says of an image that it cannot pull, wherever it says it. Pure.

It tells of the cause while a pull has just failed. While it waits for the next one, a newer kubelet repeats the cause
behind words of its own; an older one tells of the wait alone, and the cause stands in the pod's Events. Told from
wherever it stands, a sentence about it is the same all the time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vllm_operator.diagnosis.events import KubeletMessage
from vllm_operator.diagnosis.facts import Role
from vllm_operator.diagnosis.known import Recognized
from vllm_operator.diagnosis.outside import IMAGE, recognize

if TYPE_CHECKING:
    from vllm_operator.diagnosis.facts import ContainerFacts, Finding

PULL_FAILED: Final = "ErrImagePull"
PULL_BACK_OFF: Final = "ImagePullBackOff"

_WAITS: Final = re.compile(r'Back-off pulling image "[^"]*": (?P<reason>\w+): (?P<cause>.*)', re.DOTALL)
"""What a newer kubelet says while it waits for the next pull."""

_DENIED: Final = "ImageForbidden"


@dataclass(frozen=True, slots=True)
class PullError:
    """Why an image is not there."""

    reason: str
    words: str
    is_told_by_events: bool
    """Whether the pod's Events say more."""
    seen: Recognized | None = None
    """What they say of the Secrets with a registry's credentials, where the registry has denied the image."""


def pull_error(container: ContainerFacts, finding: Finding | None) -> PullError:
    """Why an image is not there, of a container that waits for it, with what a lookup of its pod has found."""
    reason, words = str(container.waiting["reason"]), str(container.waiting.get("message") or "")
    waits = _WAITS.match(words)
    if waits:
        reason, words = waits["reason"], waits["cause"]
    said = finding if isinstance(finding, KubeletMessage) else None
    if reason == PULL_BACK_OFF and said and said.of_image:
        reason, words = PULL_FAILED, said.of_image
    match = recognize(IMAGE, words)
    denied = match is not None and match.id == _DENIED
    secrets = said.missing_pull_secrets if said and denied else ""
    return PullError(
        reason,
        words,
        is_told_by_events=denied or (waits is None and container.waiting["reason"] in (PULL_FAILED, PULL_BACK_OFF)),
        seen=Recognized("PullSecretMissing", (("names", secrets),)) if secrets else None,
    )


def image_field(container: ContainerFacts) -> str:
    """The field that names a container's image."""
    if container.role is Role.ENGINE:
        return "spec.engine.image"
    return f"spec.pod.{'initContainers' if container.role is Role.INIT else 'sidecars'}[{container.name}].image"
