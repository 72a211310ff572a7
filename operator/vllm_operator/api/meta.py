"""What the resource is called: group, version, kind and the field manager of everything the operator writes."""

from __future__ import annotations

from typing import Final

GROUP: Final = "vllm.echo-roots.io"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
KIND: Final = "VLLMModel"
PLURAL: Final = "vllmmodels"
SINGULAR: Final = "vllmmodel"
SHORT_NAMES: Final = ("vllm",)

FIELD_MANAGER: Final = "vllm-operator"
