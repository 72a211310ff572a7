"""Secrets in text of somebody else's, by what stands before them or by their own form: taken out before text is told.

A value of the environment that is a secret by its name is known, and taken out wherever it stands. What is not known is
recognized: the forms in which hubs, clouds and providers give tokens out, what follows `Bearer`, the password of an
address, and what is assigned to a name that says `key`, `token` or `password`. Pure, and standard library only.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

HIDDEN = "***"
_SECRET_NAME = re.compile(r"(?:^|_)(?:TOKEN|SECRET|PASSWORD|API_KEY|ACCESS_KEY|CREDENTIALS|API_KEY_\d+)$")
_SHORT_SECRET = 6
"""Secrets that are shorter are taken out where they stand as words alone."""

_FORMS = re.compile(
    r"\bhf_[A-Za-z0-9]{8,512}"
    r"|\b(?:sk|pk|rk)-[A-Za-z0-9_-]{12,512}"
    r"|\b(?:gh[oprsu]|github_pat|glpat|xox[abprs]|nvapi)[_-][A-Za-z0-9_-]{8,512}"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{12,128}"
    r"|\beyJ[A-Za-z0-9_-]{8,4096}\.[A-Za-z0-9_-]{4,4096}(?:\.[A-Za-z0-9_-]{0,4096})?"
)
_SCHEMES = re.compile(r"(?i)(\b(?:bearer|basic)[ :=]{1,4}['\"]?)[^\s'\",;)}\]]{4,4096}")
_PASSWORDS = re.compile(r"(://)[^/\s'\"]{1,512}(?=@)")
_NAMES = (
    r"api[_-]?key|access[_-]?key(?:[_-]?id)?|secret[_-]?(?:access[_-]?)?key|client[_-]?secret|private[_-]?key|password|"
    r"passwd|(?<![a-z])secret|credentials?|signature|authorization|x-amz-security-token|(?:auth|access|hub|hf|refresh|session)[_-]token"
)
_ASSIGNED = re.compile(
    r"(?i)((?:" + _NAMES + r")['\"]?[ \t]{0,2}[=:][ \t]{0,2}b?['\"]?|--(?:api-key|hf-token)[ =]|[?&](?:token|sig|key)=)"
    r"(?!\*\*\*)[^\s'\"&,;)}\]]{4,4096}"
)


def without_secrets(text: str) -> str:
    """The text without what has the form of a secret, or stands where one does."""
    text = _PASSWORDS.sub(r"\1" + HIDDEN, _FORMS.sub(HIDDEN, text))
    return _ASSIGNED.sub(r"\1" + HIDDEN, _SCHEMES.sub(r"\1" + HIDDEN, text))


def redactor(environment: Mapping[str, str]) -> Callable[[str], str]:
    """What takes out the secrets of an environment as well, by their values."""
    known = _known(environment)

    def redact(text: str) -> str:
        return without_secrets(known.sub(HIDDEN, text) if known else text)

    return redact


def _known(environment: Mapping[str, str]) -> re.Pattern[str] | None:
    values = {value.strip() for name, value in environment.items() if _SECRET_NAME.search(name.upper())}
    words = sorted((value for value in values if value), key=len, reverse=True)
    patterns = [re.escape(word) if len(word) >= _SHORT_SECRET else rf"(?<!\w){re.escape(word)}(?!\w)" for word in words]
    return re.compile("|".join(patterns)) if patterns else None
