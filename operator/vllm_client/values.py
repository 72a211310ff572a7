"""The values of settings as people give them: what is meant is taken, what cannot be meant is refused with a way out.

No error shows what may hold a secret: the key, a password or a query in a URL.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, urlsplit, urlunsplit

from vllm_client.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLES: Final[Mapping[str, str]] = {
    "base_url": "VLLM_BASE_URL",
    "model_name": "VLLM_MODEL_NAME",
    "api_key": "VLLM_API_KEY",
    "deployment_type": "VLLM_DEPLOYMENT_TYPE",
    "discovery": "VLLM_DISCOVERY",
    "ca_file": "VLLM_CA_FILE",
}
BINDING_ADVICE: Final = "Take it from the model's client binding: envFrom of ConfigMap NAME-client"

_UNFILLED: Final = re.compile(r"\$\{|\$\(|\$[A-Za-z_]|\{\{|<[A-Za-z_-]+>")
"""What templates of shells, Kubernetes, Helm and documentation leave where nobody filled them in."""
_UNFILLED_KEY: Final = re.compile(r"\$\{|\$\(|\{\{")
"""Of a key, which may begin with a dollar sign."""
_ENDPOINTS: Final = re.compile(r"/(?:chat/completions|completions|embeddings|responses|models)/*$")
"""What people copy out of an example with curl."""
_VERSION: Final = re.compile(r"/v1$", re.IGNORECASE)


def base_url(text: str) -> str:
    """The URL with /v1 at its end, however much of an endpoint stands there.

    Raises:
        ConfigurationError: It is empty, or not an http or https URL without a query and a password.
    """
    text = text.strip()
    if not text:
        raise missing("base_url", "the engine's base URL is missing")
    try:
        parts = urlsplit(text)
        problem = _problem_of(parts)
    except ValueError as error:  # of a port, or of brackets
        raise _no_url(re.sub(r"[?#].*|//[^/]*@", "...", text), str(error)) from None
    if problem:
        raise _no_url(_shown(parts), problem)
    path = _ENDPOINTS.sub("", parts.path).rstrip("/")
    return urlunsplit((parts.scheme, parts.netloc, f"{_VERSION.sub('', path)}/v1", "", ""))


def model_name(text: str) -> str:
    """The served name.

    Raises:
        ConfigurationError: It is empty, or cannot be one.
    """
    name = text.strip()
    if not name:
        raise missing("model_name", "the model's name is missing")
    if _UNFILLED.search(name) or not name.isprintable():
        what = "was not filled in" if _UNFILLED.search(name) else "holds a character that cannot be printed"
        raise missing("model_name", f"the model's name {name!r} {what}")
    return name


def api_key(text: str) -> str:
    """The key, which goes out in a header of HTTP.

    Raises:
        ConfigurationError: It cannot; the error does not show it.
    """
    key = text.strip()
    if _UNFILLED_KEY.match(key) or not (key.isascii() and key.isprintable()):
        what = (
            "was not filled in" if _UNFILLED_KEY.match(key) else "holds what no HTTP header can, such as a line break"
        )
        advice = f"Set {VARIABLES['api_key']} to the model's key: secretKeyRef of Secret NAME-binding"
        raise ConfigurationError(f"the API key {what}", variable=VARIABLES["api_key"], advice=advice)
    return key


def is_loopback(url: str) -> bool:
    """Whether a URL is of this very machine: no proxy can reach that."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def missing(key: str, problem: str) -> ConfigurationError:
    """The error for a setting that is not there."""
    variable = VARIABLES[key]
    return ConfigurationError(problem, variable=variable, advice=f"Set {variable}. {BINDING_ADVICE}")


def _problem_of(parts: SplitResult) -> str:
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "is not an http or https URL"
    if _UNFILLED.search(parts.netloc + parts.path):
        return "holds a variable that was not filled in"
    if parts.username is not None:
        return f"holds a user or a password: a key belongs into {VARIABLES['api_key']}"
    if parts.query or parts.fragment:
        return "has a query or a fragment"
    if re.search(r"\s", parts.netloc + parts.path):
        return "holds white space"
    return "has the port 0" if parts.port == 0 else ""


def _no_url(shown: str, problem: str) -> ConfigurationError:
    variable = VARIABLES["base_url"]
    advice = f"Set {variable} to something like http://NAME.NAMESPACE:8000"
    return ConfigurationError(f"the base URL {shown!r} {problem}", variable=variable, advice=advice)


def _shown(parts: SplitResult) -> str:
    """The URL without what may be secret."""
    query, fragment = ("..." if part else "" for part in (parts.query, parts.fragment))
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, query, fragment))
