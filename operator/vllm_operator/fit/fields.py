"""Reading a config.json, which nobody checks: each number is bounded, and what is wrong is named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from vllm_operator.errors import NotEstimable

if TYPE_CHECKING:
    from collections.abc import Mapping

_LARGEST: Final = 2**40


class Fields:
    """The object of a config.json that describes the language model."""

    def __init__(self, values: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
        self._values = values
        self._defaults = defaults

    def get(self, name: str) -> Any:
        """What stands there, or what transformers takes where nothing does; None for neither."""
        value = self._values.get(name)
        return self._defaults.get(name) if value is None else value

    def optional(self, *names: str) -> int | None:
        """The first of the numbers that is there.

        Raises:
            NotEstimable: it is no whole number, or not one that a model has.
        """
        for name in names:
            value = self.get(name)
            if value is None:
                continue
            if isinstance(value, float) and value.is_integer():
                value = int(value)
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST:
                raise NotEstimable(f"config.json: {name} is {value!r} and must be a whole number")
            return value
        return None

    def number(self, *names: str) -> int:
        """As `optional`, for what has to be there and is not zero.

        Raises:
            NotEstimable: none of them is there, or as `optional`.
        """
        value = self.optional(*names)
        if not value:
            raise NotEstimable(
                f"config.json has no {' or '.join(names)}: the estimate does not know this architecture; "
                "read the sizes off the engine's log, `Model loading took` and `KV cache size`"
            )
        return value

    def texts(self, name: str) -> list[str]:
        """A list of texts; empty where there is none."""
        value = self.get(name)
        return [str(one) for one in value] if isinstance(value, list) else []

    def numbers(self, name: str) -> list[int]:
        """A list of whole numbers; empty where there is none."""
        value = self.get(name)
        return [one for one in value if isinstance(one, int)] if isinstance(value, list) else []
