"""The operator's log: lines for people, or one JSON document a line, with what each write is about in fields."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.meta import KIND
from vllm_operator.api.names import INSTANCE
from vllm_operator.telemetry.log_output import LogOutput

if TYPE_CHECKING:
    from vllm_operator.api.live import LiveObject
    from vllm_operator.settings import Settings

FIELDS: Final = ("action", "namespace", "kind", "object", "model", "reason")
"""What a line says beside its message, where it is about a write: what was done to which object of which model, and
why. `model` is the instance name, which labels carry."""

_TEXT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def configure(settings: Settings) -> None:
    """Log as the settings say."""
    handler = LogOutput()
    handler.setFormatter(JsonFormatter() if settings.log_format == "JSON" else logging.Formatter(_TEXT))
    logging.basicConfig(level=settings.log_level, handlers=[handler])
    logging.getLogger("kopf").setLevel(logging.WARNING)


class JsonFormatter(logging.Formatter):
    """One JSON document a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        moment = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name in FIELDS if (value := getattr(record, name, None))}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def write(action: str, live: LiveObject, reason: str) -> dict[str, str]:
    """The fields of a line about a write, for the argument `extra` of the logger.

    Args:
        action: What was done, such as `applied`.
        live: To which object.
        reason: Why, without values of Secrets.
    """
    model = live.name if live.kind == KIND else live.labels.get(INSTANCE, "")
    found = (action, live.namespace, live.kind, live.name, model, reason)
    return dict(zip(FIELDS, found, strict=True))
