"""Configuration files: YAML whose texts may name environment variables, `${VAR}` or `${VAR:-default}`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from vllm_client.errors import ConfigurationError

REFERENCE = re.compile(r"\$\{(?P<name>[A-Za-z_]\w*)(:-(?P<default>[^}]*))?\}")


def read_yaml(path: str | Path, environ: Mapping[str, str], part: str = "") -> Mapping[str, object]:
    """The mapping in a file, with the values of the variables that it names.

    Where it has that part, the variables of the others are left alone: they are other programs' settings.

    Raises:
        ConfigurationError: The file cannot be read, is no mapping, or names a variable that is not set.
    """
    import yaml  # noqa: PLC0415 - most clients are configured without a file

    try:
        document = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise wrong(path, f"cannot be read: {error}", "Mend the file or its path") from error
    if not isinstance(document, Mapping):
        raise wrong(path, "holds no mapping", "Write settings as `key: value`, or under the key `vllm`")
    used = {part} if part in document else document.keys()
    return {str(key): filled_in(value, environ, path) if key in used else value for key, value in document.items()}


def filled_in(value: object, environ: Mapping[str, str], path: str | Path) -> object:
    """The value with the variables' values in its texts. They are put in after parsing: a value is never YAML."""
    if isinstance(value, Mapping):
        return {key: filled_in(inner, environ, path) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled_in(inner, environ, path) for inner in value]
    if isinstance(value, str):
        return REFERENCE.sub(lambda found: value_of(found, environ, path), value)
    return value


def value_of(reference: re.Match[str], environ: Mapping[str, str], path: str | Path) -> str:
    """The variable's value, or the default where it is not set or empty.

    Raises:
        ConfigurationError: It is not set, and there is no default.
    """
    name, default = reference["name"], reference["default"]
    if default is not None:
        return environ.get(name) or default
    if name not in environ:
        raise ConfigurationError(
            f"{path} names the variable {name}, which is not set",
            variable=name,
            advice=f"Set {name}, or write ${{{name}:-default}}",
        )
    return environ[name]


def wrong(path: str | Path, problem: str, advice: str) -> ConfigurationError:
    """The error for a file that cannot be used."""
    return ConfigurationError(f"the configuration file {path} {problem}", variable=str(path), advice=advice)
