"""What the operator tells of itself: metrics, health and its log."""

from vllm_operator.telemetry.health import serve
from vllm_operator.telemetry.metrics import Telemetry
from vllm_operator.telemetry.models import ModelMetrics

__all__ = ["ModelMetrics", "Telemetry", "serve"]
