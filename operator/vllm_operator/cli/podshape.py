"""What is read of a finished pod, and of which type it has to be: `spec.pod` lets users write anything into it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from vllm_operator.api.spec.scalars import Quantity  # pydantic reads the annotations at run time

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class _Part(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="ignore", strict=True)


class _Variable(_Part):
    name: str
    value: str | None = None
    value_from: dict[str, dict[str, Any]] | None = None


class _Object(_Part):
    name: str


class _Source(_Part):
    prefix: str | None = None
    secret_ref: _Object | None = None
    config_map_ref: _Object | None = None


class _Mount(_Part):
    name: str
    mount_path: str
    sub_path: str | None = None
    read_only: bool | None = None


class _Container(_Part):
    name: str
    image: str
    command: list[str] = Field(default_factory=list)
    args: list[str] = Field(default_factory=list)
    env: list[_Variable] = Field(default_factory=list)
    env_from: list[_Source] = Field(default_factory=list)
    volume_mounts: list[_Mount] = Field(default_factory=list)


class _EmptyDir(_Part):
    size_limit: Quantity | None = None


class _HostPath(_Part):
    path: str


class _Image(_Part):
    reference: str


class _Claim(_Part):
    claim_name: str


class _Volume(_Part):
    model_config = ConfigDict(alias_generator=to_camel, extra="allow", strict=True)
    __pydantic_extra__: dict[str, dict[str, Any]]

    name: str
    empty_dir: _EmptyDir | None = None
    host_path: _HostPath | None = None
    image: _Image | None = None
    persistent_volume_claim: _Claim | None = None


class _Pod(_Part):
    containers: list[_Container]
    volumes: list[_Volume] = Field(default_factory=list)
    termination_grace_period_seconds: int | None = None


def shape_faults(pod: Mapping[str, Any]) -> Iterator[str]:
    """What an API server would refuse of a pod, each fault with its path, as far as it is read here."""
    try:
        _Pod.model_validate(pod)
    except ValidationError as error:
        for fault in error.errors():
            yield f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
