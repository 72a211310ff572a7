"""`spec.lora`: adapters that are served beside the model."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from vllm_operator.api.base import Model, Rule, cel
from vllm_operator.api.spec.flag import Flag
from vllm_operator.api.spec.scalars import CLAIM_SOURCE_PATTERN, MAP_BY_NAME, SET, ObjectName, ServedName, Source

RUNTIME_VARIABLE: Final = "VLLM_ALLOW_RUNTIME_LORA_UPDATING"
"""By which vLLM offers /v1/load_lora_adapter and /v1/unload_lora_adapter."""

Rank = Literal[1, 8, 16, 32, 64, 128, 256, 320, 512]


class Adapter(Model):
    """A LoRA adapter."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        json_schema_extra=cel(
            Rule(
                "!self.source.contains('://') || self.source.matches('^(hf|pvc)://')",
                "the source of an adapter in spec.lora.adapters is an id on the hub, hf://, pvc:// or a path",
                field_path=".source",
            ),
            Rule(
                f"!self.source.startsWith('pvc://') || self.source.matches('{CLAIM_SOURCE_PATTERN}')",
                "the source of an adapter in spec.lora.adapters must be pvc://CLAIM or pvc://CLAIM/PATH",
                field_path=".source",
            ),
            Rule(
                "!self.name.contains('$(')",
                "the name of an adapter in spec.lora.adapters must not refer to a variable: clients would ask for the "
                "reference itself. Write the name",
                field_path=".name",
            ),
        ),
    )

    name: Annotated[ServedName, Field(max_length=253, pattern=r"^[^\s=-][^\s=]*$")] = Field(
        description="Name under which clients ask for it."
    )
    source: Source = Field(
        description="The adapter: an id on the Hugging Face hub (or `hf://` before it), `pvc://CLAIM/PATH`, or the "
        "absolute path of a folder in the engine's image or in a volume of spec.pod."
    )


class Lora(Model):
    """LoRA adapters that the engines serve beside the model."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        json_schema_extra=cel(
            Rule(
                "!has(self.maxCpuLoras) || self.maxCpuLoras >= (has(self.maxLoras) ? self.maxLoras : 1)",
                "spec.lora.maxCpuLoras must be at least spec.lora.maxLoras",
                field_path=".maxCpuLoras",
            ),
            Rule(
                "!self.runtimeUpdates || !has(self.adapters) || self.adapters.all(adapter, "
                "!adapter.source.startsWith('pvc://') || (has(self.claims) && self.claims.exists(claim, "
                "adapter.source == 'pvc://' + claim || adapter.source.startsWith('pvc://' + claim + '/'))))",
                "spec.lora.claims must name the claim of each adapter with runtimeUpdates: a claim reaches an engine "
                "only at its start. To add one there replaces the engines",
                field_path=".claims",
            ),
        ),
    )

    adapters: Annotated[
        Annotated[list[Adapter], Field(max_length=64)] | None, Flag("--lora-modules", "none", "0.3.3", composed=True)
    ] = Field(default=None, description="Adapters that every engine serves.", json_schema_extra=MAP_BY_NAME)
    runtime_updates: bool = Field(
        default=False,
        description="Whether an edit of `adapters` has the engines that run load and unload them, instead of replacing "
        "the engines: VLLM_ALLOW_RUNTIME_LORA_UPDATING. Whoever may call the engines may then load adapters too, of "
        "any path and any id on the hub: set auth and network.",
    )
    claims: Annotated[list[ObjectName], Field(min_length=1, max_length=16)] | None = Field(
        default=None,
        description="PersistentVolumeClaims that the engines mount for adapters (`pvc://`) whether one is of them now "
        "or not: an edit of this list replaces the engines. Needed with runtimeUpdates, and not without.",
        json_schema_extra=SET,
    )
    max_loras: Annotated[Annotated[int, Field(ge=1, le=1024)] | None, Flag("--max-loras", "1", "0.3.0")] = Field(
        default=None, description="Most adapters that one step of the engine uses."
    )
    max_cpu_loras: Annotated[
        Annotated[int, Field(ge=1, le=65536)] | None, Flag("--max-cpu-loras", "as maxLoras", "0.3.0")
    ] = Field(default=None, description="Most adapters that are kept in the host's memory; at least maxLoras.")
    max_rank: Annotated[Rank | None, Flag("--max-lora-rank", "16", "0.3.0")] = Field(
        default=None, description="Highest rank of an adapter; vLLM takes these numbers only."
    )
