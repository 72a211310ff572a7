"""`spec.storage`: where an engine keeps what it downloads and compiles, and its shared memory."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from vllm_operator.api.base import Model, Rule, cel, exactly_one
from vllm_operator.api.spec.scalars import ATOMIC, SET, ObjectName, Path, Quantity, Size

AccessMode = Literal["ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod"]

ONE_NODE_MODES: Final = frozenset({"ReadWriteOnce", "ReadWriteOncePod"})
"""Modes in which pods on two nodes cannot use a volume at the same time."""


class ClaimTemplate(Model):
    """A PersistentVolumeClaim that the operator makes."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        json_schema_extra=cel(
            Rule(
                "has(self.storageClassName) == has(oldSelf.storageClassName)"
                " && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)",
                "spec.storage.cache.persistentVolumeClaim.storageClassName cannot be changed: a claim keeps its class. "
                "Remove the cache, apply, and add it anew",
            ),
            Rule(
                "has(self.accessModes) == has(oldSelf.accessModes)"
                " && (!has(self.accessModes) || self.accessModes == oldSelf.accessModes)",
                "spec.storage.cache.persistentVolumeClaim.accessModes cannot be changed: a claim keeps its modes. "
                "Remove the cache, apply, and add it anew",
            ),
            Rule(
                "quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0",
                "spec.storage.cache.persistentVolumeClaim.size cannot shrink: a claim only grows",
            ),
        ),
    )

    size: Size = Field(description="Size of the volume, such as `200Gi`. It may grow where the storage class allows.")
    storage_class_name: ObjectName | None = Field(
        default=None, description="Storage class; the cluster's default if not set. It cannot be changed."
    )
    access_modes: Annotated[list[AccessMode], Field(min_length=1, max_length=3)] | None = Field(
        default=None,
        description="How pods may use the volume. Default: ReadWriteOnce, all engines on one node; then a rollout "
        "replaces the engines in place. It cannot be changed.",
        json_schema_extra=SET,
    )
    keep: bool | None = Field(
        default=None,
        description="Keep the claim and what is in it when the model or this field is deleted. A claim that the specs "
        "of this namespace mount by its name, as existingClaim or pvc://, is kept in any case.",
    )


class EmptyDir(Model):
    """A folder that lives as long as its pod."""

    size_limit: Quantity | None = Field(default=None, description="Most that may be written to it.")


class HostPath(Model):
    """A folder of the node."""

    path: Path = Field(description="Folder of the node. It is made where it is missing.")


Patterns = Annotated[
    list[Annotated[str, StringConstraints(min_length=1, max_length=256)]], Field(min_length=1, max_length=32)
]


class Prefetch(Model):
    """A Job that fills the claim before the first engine starts; then engines start offline."""

    allow_patterns: Patterns | None = Field(
        default=None,
        description="Which files of spec.model.source are brought, such as `*.safetensors` or `tokenizer*`; a pattern "
        "is held against the whole path, and `*` takes slashes too. Default: all.",
        json_schema_extra=ATOMIC,
    )
    ignore_patterns: Patterns | None = Field(
        default=None,
        description="Which files of them are not. Default: where there are safetensors, weights in other formats; "
        "none if allowPatterns is set.",
        json_schema_extra=ATOMIC,
    )


class Cache(Model):
    """Where downloads and compiled kernels are kept: `~/.cache` of the engine."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        json_schema_extra=cel(
            exactly_one("spec.storage.cache", "persistentVolumeClaim", "existingClaim", "emptyDir", "hostPath"),
            Rule(
                "!has(self.prefetch) || has(self.persistentVolumeClaim) || has(self.existingClaim)",
                "spec.storage.cache.prefetch fills a claim before an engine starts: set persistentVolumeClaim or "
                "existingClaim, or leave it out",
                field_path=".prefetch",
            ),
            Rule(
                "!has(self.prefetch) || !has(self.persistentVolumeClaim)"
                " || !has(self.persistentVolumeClaim.accessModes)"
                " || self.persistentVolumeClaim.accessModes.exists(mode, mode != 'ReadWriteOncePod')",
                "spec.storage.cache.prefetch and a claim that one pod alone can use contradict each other: the next "
                "revision is downloaded while engines use it; set accessModes to [ReadWriteOnce] or [ReadWriteMany]",
                field_path=".prefetch",
            ),
        ),
    )

    persistent_volume_claim: ClaimTemplate | None = Field(
        default=None, description="A PersistentVolumeClaim that the operator makes and that all engines share."
    )
    existing_claim: ObjectName | None = Field(
        default=None, description="A PersistentVolumeClaim of this namespace that is there already."
    )
    empty_dir: EmptyDir | None = Field(default=None, description="A folder that lives as long as its pod.")
    host_path: HostPath | None = Field(default=None, description="A folder of the node.")
    prefetch: Prefetch | None = Field(
        default=None,
        description="Have a Job fill the claim with all that engines would download, and start them offline once it is "
        "whole: `{}`. A changed source or revision is downloaded beside what serves. Models that name the same claim "
        "and the same source share the Job.",
    )


class Storage(Model):
    """Volumes of one engine."""

    cache: Cache | None = Field(
        default=None,
        description="Where downloads and compiled kernels are kept. Default: a folder that lives as long as its pod.",
    )
    shared_memory: Quantity | None = Field(
        default=None,
        description="Size of /dev/shm. It counts against the memory limit as far as it is used. Default: 2Gi, or 8Gi "
        "for an engine of several processes.",
    )
