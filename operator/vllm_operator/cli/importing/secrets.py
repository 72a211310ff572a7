"""Secrets in what is imported: recognized, and replaced by references, so that no value reaches the output."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.cli.importing.draft import NewSecret
from vllm_operator.manager.redaction import HIDDEN, without_secrets

if TYPE_CHECKING:
    from collections.abc import Callable

    from vllm_operator.cli.importing.draft import Draft

HUB_VARIABLES: Final = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_HUB_TOKEN", "HUGGINGFACE_TOKEN")
"""Variables in which people put a token of the hub; the first one is that of today's library."""

KEY_VARIABLE: Final = "VLLM_API_KEY"

_SECRET_NAME: Final = re.compile(
    r"(?:^|_)(?:TOKEN|SECRET|PASSWORD|PASSWD|PASS|KEY|ACCESS_KEY_ID|CREDENTIALS|API_KEY_\d+)$", re.IGNORECASE
)


def is_secret(name: str, value: str = "") -> bool:
    """Whether a variable holds a secret, by its name or by the form of its value."""
    return bool(_SECRET_NAME.search(name)) or without_secrets(value) != value


class Vault:
    """The secret values that were seen. None of them may be told or written."""

    def __init__(self) -> None:
        self._values: set[str] = set()

    def keep(self, value: str) -> None:
        """Remember a value as a secret."""
        if len(value.strip()) >= _SHORTEST:
            self._values.add(value.strip())

    def redacted(self, text: str) -> str:
        """The text without them, and without what has the form of a secret."""
        return without_secrets(self.without_known(text))

    def without_known(self, text: str) -> str:
        """The text without them."""
        for value in sorted(self._values, key=len, reverse=True):
            text = text.replace(value, HIDDEN)
        return text


_SHORTEST: Final = 6
"""Shorter values, such as `EMPTY` or `abc`, are words that stand elsewhere too."""


def new_secret(draft: Draft, purpose: str, key: str, variable: str) -> dict[str, str]:
    """A reference to a Secret that has to be made, whose name is that of the model and the purpose."""
    wanted = NewSecret(f"{draft.name}-{purpose}", key, variable)
    if wanted not in draft.secrets:
        draft.secrets.append(wanted)
    return {"name": wanted.name, "key": wanted.key}


def commands(draft: Draft) -> list[str]:
    """The commands that make the Secrets, one for each: the values are taken from variables of the shell."""
    place = f" --namespace {draft.namespace}" if draft.namespace else ""
    by_name: dict[str, list[NewSecret]] = {}
    for secret in draft.secrets:
        by_name.setdefault(secret.name, []).append(secret)
    return [
        f"kubectl create secret generic {name}{place} "
        + " ".join(f'--from-literal={one.key}="${one.variable}"' for one in secrets)
        for name, secrets in by_name.items()
    ]


def cleaned(value: Any, redacted: Callable[[str], str]) -> Any:
    """A value whose texts are redacted, at any depth."""
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, list):
        return [cleaned(item, redacted) for item in value]
    if isinstance(value, dict):
        return {name: cleaned(item, redacted) for name, item in value.items()}
    return value
