"""`spec` of a VLLMModel, the single source of the schema, its bounds, its rules and what `kubectl explain` says."""

from __future__ import annotations

from vllm_operator.api.spec.root import VLLMModelSpec, parse_spec

__all__ = ["VLLMModelSpec", "parse_spec"]
