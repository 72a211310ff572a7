"""VLLMModels for the test cluster: the same resource, served by the stub engine or by the real vLLM."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tests.cluster import GpuMount
from tests.support import images, smollm2
from vllm_operator.api.meta import API_VERSION, KIND

if TYPE_CHECKING:
    from pathlib import Path

QUESTION, CAPITAL = "Name the capital of Japan.", "Tokyo"
"""Each word of the language model's answer is three times as likely as any other: processors round differently, and of
two that are about as likely each chooses its own ("What is the capital of France?" may be answered in French)."""

COMPACT_JSON = ("--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}')
"""Between the parts of JSON any white space is allowed, with which small models fill an answer."""


@dataclass(frozen=True)
class EngineChoice:
    """An engine that pods of the test cluster can run."""

    title: str
    image: str
    archive: Path
    source: str
    mounts: tuple[GpuMount, ...] = ()
    """Host folders that its containers need; the fake device plug-in brings them along with a GPU."""
    fields: dict[str, Any] = field(default_factory=dict)
    """What spec.engine needs on this machine."""
    model_name: str = ""
    """What people call the model; empty where it is none that has a name."""
    sensible: bool = False
    """Whether its answers have sense."""


def stub() -> EngineChoice:
    """The stub engine: starts at once and answers what it was asked."""
    return EngineChoice(
        title="the stub engine (it speaks vLLM's protocol and needs no model)",
        image=images.STUB_ENGINE,
        archive=images.stub_engine_image(),
        source="Qwen/Qwen2.5-0.5B-Instruct",
    )


def real(*, as_released: bool = True) -> EngineChoice:
    """The real vLLM, built for CPU, with a tiny random Llama.

    Args:
        as_released: Whether it takes a core for each worker under any load, and imports all in each of its processes,
            as vLLM does by itself on CPU, or not.

    Raises:
        RuntimeError: it is not installed.
    """
    return EngineChoice(
        title="the real vLLM (CPU build, with a tiny random Llama: expect nonsense)",
        image=images.REAL_ENGINE,
        archive=images.real_engine_image(as_released=as_released),
        source=images.real_engine_model(),
        mounts=(GpuMount(images.real_engine_root(), images.REAL_ENGINE_MOUNT),),
        fields={"maxModelLen": 4096, "enforceEager": True, "kvCacheMemory": "64M"},
    )


def language() -> EngineChoice:
    """The real vLLM with a small language model, for where words matter; as `real`."""
    return replace(
        real(),
        title=f"the real vLLM (CPU build) with {smollm2.TITLE}",
        source=images.real_language_model(),
        model_name="smollm2",
        sensible=True,
        fields={"maxModelLen": 2048, "enforceEager": True, "kvCacheMemory": "256M", "extraArgs": list(COMPACT_JSON)},
    )


def model(name: str, choice: EngineChoice, /, **spec: Any) -> dict[str, Any]:
    """A VLLMModel served by this engine. `spec` are further fields; those under `engine` are merged."""
    wanted = dict(spec)
    engine_fields = {"image": choice.image, **choice.fields, **wanted.pop("engine", {})}
    source = {"source": choice.source, "servedNames": [name], **wanted.pop("model", {})}
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name},
        "spec": {"model": source, "engine": engine_fields, **wanted},
    }
