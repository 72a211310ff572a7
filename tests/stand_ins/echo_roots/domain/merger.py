"""Whether what was found is what the domain allows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pydantic import ValidationError

from ..models.domain import AttributeConfig, DomainPack  # noqa: TID252 - see loader.py

if TYPE_CHECKING:
    from ..models.core import AttributeExtraction  # noqa: TID252 - see loader.py


class AttributeValidator:
    """Checks attributes by the rules of a domain; a rule that is itself wrong is left out."""

    def __init__(self, domain_pack: DomainPack) -> None:
        self.configs: dict[str, AttributeConfig] = {}
        for told in domain_pack.output_schema["attributes"]:
            if not isinstance(told, dict) or "key" not in told:
                continue
            try:
                config = AttributeConfig(**{**told, **domain_pack.attribute_hints.get(told["key"], {})})
            except ValidationError:
                continue
            self.configs[config.key] = config

    def validate_extraction(self, found: AttributeExtraction) -> list[str]:
        """What is wrong with an attribute.

        Raises:
            TypeError: It has no confidence.
        """
        config = self.configs.get(found.name)
        problems = [] if config is None or allowed(config, found.value) else [f"{found.name} may not be {found.value}"]
        if found.confidence < 0.0 or found.confidence > 1.0:  # type: ignore[operator] # so does the real one
            problems.append("the confidence is out of bounds")
        return problems


def allowed(config: AttributeConfig, value: str) -> bool:
    """Whether the domain allows the value."""
    if config.type == "categorical":
        return not config.allow_values or value in config.allow_values
    if config.type == "text":
        fits = not config.max_length or len(value) <= config.max_length
        return fits and (not config.pattern or re.match(config.pattern, value) is not None)
    if config.type == "numeric":
        return is_number(value)
    return config.type != "boolean" or value.lower() in ("true", "false", "1", "0")


def is_number(value: str) -> bool:
    """Whether Python reads a number there."""
    try:
        float(value)
    except ValueError:
        return False
    return True
