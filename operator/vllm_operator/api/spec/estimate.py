"""`spec.estimate`: what describes the model, so that the operator can tell before a pod is made whether it fits.

Nothing of it reaches the engines, and nothing is stopped by it: the condition `Fits` tells what comes of it.
"""

from __future__ import annotations

from pydantic import Field

from vllm_operator.api.base import Model
from vllm_operator.api.spec.scalars import ObjectName


class EstimateConfigMap(Model):
    """A ConfigMap in the model's namespace."""

    name: ObjectName = Field(
        description="Name of the ConfigMap. `kubectl vllm estimate -f MODEL.yaml -o configmap` prints it."
    )


class EstimateSource(Model):
    """What describes the model before it is loaded; the engines never read it."""

    config_map_ref: EstimateConfigMap = Field(
        description="ConfigMap with the model's `config.json`, and with `model.safetensors.index.json` for the size of "
        "its weights, which is counted by the former where that is missing. Several models may name the same one."
    )
