"""What leaves the cluster in a report: objects and texts without secrets. Pure.

What is no secret by its place is shown, and what may be one is hidden. Of a Secret its keys stay, and of a variable its
name: the value only where the variable is known to hold none. What is hidden in one place is hidden wherever else it
stands, in a log or in a message; and whatever has the form of a secret is hidden anyway.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.manager.redaction import HIDDEN, without_secrets

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_PLAIN_VARIABLES: Final = re.compile(
    r"(?:VLLM|CUDA|NVIDIA|NCCL|GLOO|UCX|TORCH(?:INDUCTOR)?|PYTORCH|PYTHON|TRITON|OMP|MKL|RAY|XDG|TZ|LANG|LC|LD|HOME|PATH|"
    r"POD|GATE|HIP|ROCR?|TPU|HF_(?:HOME|HUB_OFFLINE|HUB_CACHE|ENDPOINT)|TRANSFORMERS)(?:_\w+)?"
)
"""Names of variables whose values are no secrets, unless the next pattern says so."""
_SECRETIVE: Final = re.compile(r"(?i)token(?!ize)|secret|passw|passphrase|api_?key|access_?key|private|credential|auth")

_NAMES_ONE: Final = re.compile(r"(?i).*(?:name|ref|file|path|mode|class|type|url|endpoint)$")
"""Fields that say where a secret is, such as `secretName`."""
_SECRETIVE_FLAG: Final = re.compile(
    r"(?i)--?[\w.-]*(?:api-?key|(?:hf|auth|access|bearer)[_-]?token|secret|passw|passphrase|credential)[\w.-]*"
)
_PRIVATE_KEY: Final = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL
)
_SHORTEST_KNOWN: Final = 6
"""A hidden value that is shorter, such as `true`, is not looked for elsewhere: it would hide half of a log."""

_DROPPED: Final = frozenset({"kubectl.kubernetes.io/last-applied-configuration", "managedFields"})
"""An annotation that holds a copy of the object, and what is of no use to people."""


class Scrubber:
    """Takes secrets out, those among them that objects given before held."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        """Of what is known; None where there is nothing, or something new."""

    def learn(self, document: Any) -> None:
        """Take in what an object hides, so that it is hidden elsewhere too."""
        self._known.update(value for value in _hidden_values(document) if len(value) >= _SHORTEST_KNOWN)
        self._pattern = None

    def object(self, document: Any) -> Any:
        """The object as it may be shown."""
        return self._cleaned(_without_hidden(document))

    def text(self, text: str) -> str:
        """A text as it may be shown."""
        if self._pattern is None and self._known:
            self._pattern = re.compile("|".join(map(re.escape, sorted(self._known, key=len, reverse=True))))
        known = self._pattern.sub(HIDDEN, text) if self._pattern else text
        return without_secrets(_PRIVATE_KEY.sub(HIDDEN, known))

    def _cleaned(self, part: Any) -> Any:
        if isinstance(part, str):
            return self.text(part)
        if isinstance(part, Mapping):
            return {key: self._cleaned(value) for key, value in part.items()}
        return [self._cleaned(one) for one in part] if isinstance(part, list) else part


def _without_hidden(part: Any) -> Any:
    """The part without what is hidden by its place."""
    if isinstance(part, list):
        return _words(part)
    if not isinstance(part, Mapping):
        return part
    if _is_secret(part):
        part = _with_keys_alone(part)
    if _is_variable(part):
        return {**part, "value": HIDDEN} if _hides(part) else dict(part)
    kept = {key: value for key, value in part.items() if key not in _DROPPED}
    return {key: HIDDEN if _hides_field(key, value) else _without_hidden(value) for key, value in kept.items()}


def _hides_field(key: object, value: object) -> bool:
    """Whether a field holds a secret by its name, as in the options of a loader: `aws_secret_access_key`."""
    name = str(key)
    return isinstance(value, str) and _SECRETIVE.search(name) is not None and _NAMES_ONE.fullmatch(name) is None


def _is_secret(part: Mapping[str, Any]) -> bool:
    return part.get("kind") == "Secret" and part.get("apiVersion") == "v1"


def _with_keys_alone(secret: Mapping[str, Any]) -> dict[str, Any]:
    hidden = {name: dict.fromkeys(secret.get(name) or {}, HIDDEN) for name in ("data", "stringData") if name in secret}
    return {**secret, **hidden}


def _is_variable(part: Mapping[str, Any]) -> bool:
    return isinstance(part.get("name"), str) and isinstance(part.get("value"), str) and set(part) == {"name", "value"}


def _hides(variable: Mapping[str, Any]) -> bool:
    name = variable["name"]
    return _PLAIN_VARIABLES.fullmatch(name) is None or _SECRETIVE.search(name) is not None


def _words(words: list[Any]) -> list[Any]:
    """A list; where it is a command line, what follows a flag that names a secret is hidden."""
    found: list[Any] = []
    for before, word in zip([None, *words], words, strict=False):
        found.append(HIDDEN if isinstance(word, str) and _names_secret(before) else _flag(_without_hidden(word)))
    return found


def _names_secret(word: Any) -> bool:
    return isinstance(word, str) and _SECRETIVE_FLAG.fullmatch(word) is not None


def _flag(word: Any) -> Any:
    """A word `--flag=VALUE` without its value, where the flag names a secret."""
    flag, equals, _ = word.partition("=") if isinstance(word, str) else ("", "", "")
    return f"{flag}={HIDDEN}" if equals and _names_secret(flag) else word


def _hidden_values(part: Any) -> Iterator[str]:
    """What the places hide."""
    if isinstance(part, list):
        yield from _hidden_words(part)
    elif isinstance(part, Mapping):
        if _is_secret(part):
            yield from _secret_values(part)
        elif _is_variable(part):
            yield from [part["value"]] if _hides(part) else []
        else:
            for key, value in part.items():
                yield from [str(value)] if _hides_field(key, value) else _hidden_values(value)


def _hidden_words(words: list[Any]) -> Iterator[str]:
    for before, word in zip([None, *words], words, strict=False):
        if isinstance(word, str):
            flag, equals, value = word.partition("=")
            if _names_secret(before):
                yield word
            elif equals and _names_secret(flag):
                yield value
        else:
            yield from _hidden_values(word)


def _secret_values(secret: Mapping[str, Any]) -> Iterator[str]:
    """The values of a Secret, and their encoded forms. Of a binding, names and addresses are none."""
    named = {"data": secret.get("data") or {}, "stringData": secret.get("stringData") or {}}
    for name, value in _items(named["stringData"]):
        yield from [value] if _SECRETIVE.search(name) else []
    for name, encoded in _items(named["data"]):
        if _SECRETIVE.search(name):
            yield encoded
            try:
                yield base64.b64decode(encoded).decode("utf-8", "replace")
            except (binascii.Error, ValueError):
                continue


def _items(table: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    return ((name, value) for name, value in table.items() if isinstance(value, str))
