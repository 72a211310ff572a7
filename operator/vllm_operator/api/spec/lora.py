"""`spec.lora`: adapters that are served beside the model."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from vllm_operator.api.base import Model, Rule, cel
from vllm_operator.api.spec.flag import Flag
from vllm_operator.api.spec.scalars import CLAIM_SOURCE_PATTERN, MAP_BY_NAME, ServedName, Source

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
            )
        ),
    )

    adapters: Annotated[
        Annotated[list[Adapter], Field(max_length=64)] | None, Flag("--lora-modules", "none", "0.3.3", composed=True)
    ] = Field(default=None, description="Adapters that are there from the start.", json_schema_extra=MAP_BY_NAME)
    max_loras: Annotated[Annotated[int, Field(ge=1, le=1024)] | None, Flag("--max-loras", "1", "0.3.0")] = Field(
        default=None, description="Most adapters that one step of the engine uses."
    )
    max_cpu_loras: Annotated[
        Annotated[int, Field(ge=1, le=65536)] | None, Flag("--max-cpu-loras", "as maxLoras", "0.3.0")
    ] = Field(default=None, description="Most adapters that are kept in the host's memory; at least maxLoras.")
    max_rank: Annotated[Rank | None, Flag("--max-lora-rank", "16", "0.3.0")] = Field(
        default=None, description="Highest rank of an adapter; vLLM takes these numbers only."
    )
