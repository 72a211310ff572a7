"""The `vllm serve` command line."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.api.base import Model
from vllm_operator.api.spec.flag import flag_of, is_left_out
from vllm_operator.api.spec.forms import words_of
from vllm_operator.api.spec.sources import Origin, parse_source
from vllm_operator.api.spec.versions import version_of
from vllm_operator.api.vllm_releases import arguments_of
from vllm_operator.render import files, groups, tls
from vllm_operator.render.downloads import folder_of
from vllm_operator.render.sources import Sources

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pydantic.fields import FieldInfo

    from vllm_operator.api.spec import VLLMModelSpec
    from vllm_operator.api.spec.engine import SpeculativeDecoding
    from vllm_operator.api.spec.flag import Flag
    from vllm_operator.api.vllm_releases import Version

_UNLOGGED: Final = "--disable-access-log-for-endpoints"
"""Paths whose requests the server does not log; vLLM knows it since 0.16.0."""

STREAMING_LOAD_FORMAT: Final = "runai_streamer"
"""vLLM's loader that reads weights out of a bucket."""


def command(spec: VLLMModelSpec, unlogged: Sequence[str] = ()) -> list[str]:
    """The words of the command line; `unlogged` are paths that the access log is to leave out."""
    return ["vllm", "serve", *arguments(spec, unlogged)]


def arguments(spec: VLLMModelSpec, unlogged: Sequence[str] = ()) -> list[str]:
    """What follows `vllm serve`. Only what is set appears, in the order of the spec: the rest is vLLM's own default."""
    sources = Sources(spec)
    words = [sources.locate(spec.model.source), "--served-model-name", *spec.served_names]
    made = dict(_composed(spec, sources))
    version = version_of(spec)
    for flag, value in _flags(spec, made):
        words += words_of(spec, flag, value, version)
    if spec.lora:
        words.append("--enable-lora")
    words += tls.arguments(spec)
    words += groups.arguments(spec)
    quiet = dict.fromkeys(
        [*(unlogged if _may_be_told(spec, version) else ()), *(spec.engine.disable_access_log_for_endpoints or ())]
    )
    if quiet:
        words += [_UNLOGGED, ",".join(quiet)]
    return [*words, *(spec.engine.extra_args or [])]


def _may_be_told(spec: VLLMModelSpec, version: Version | None) -> bool:
    """Whether the server takes the argument for unlogged paths from us.

    It ends at an argument that it does not know. Where its version is not known, one that takes --shutdown-timeout, of
    0.18.0, takes this one as well. What the user says of these paths counts alone.
    """
    if version and _UNLOGGED not in arguments_of(version):
        return False
    given = [word.partition("=")[0].replace("_", "-") for word in spec.engine.extra_args or []]
    return spec.engine.shutdown_timeout_seconds > 0 and _UNLOGGED not in given


def _composed(spec: VLLMModelSpec, sources: Sources) -> Iterator[tuple[str, Any]]:
    """Values that are made of more than one field, by their arguments; None where there is none."""
    model = spec.model
    in_bucket = parse_source(model.source).origin is Origin.BUCKET and not folder_of(spec, model.source)
    yield "--model", None  # goes before all flags
    yield "--served-model-name", None  # follows it
    yield "--nnodes", None  # goes after all flags, with the pod's place in its group
    yield _UNLOGGED, None  # goes after all flags, with what the manager asks
    yield "--load-format", model.load_format or (STREAMING_LOAD_FORMAT if in_bucket else None)
    yield "--tokenizer", sources.locate(model.tokenizer) if model.tokenizer else None
    yield "--chat-template", files.template_path(model.chat_template)
    asked = spec.engine.enable_log_requests
    yield "--enable-log-requests", spec.engine.debug if asked is None else asked
    draft = spec.engine.speculative_decoding
    yield "--speculative-config", draft and _draft(draft, sources)
    adapters = () if spec.updates_adapters else spec.adapters
    yield "--lora-modules", [_adapter(one.name, sources.locate(one.source)) for one in adapters] or None


def _adapter(name: str, path: str) -> str:
    """One word of `--lora-modules`. vLLM takes what has a comma for JSON."""
    word = f"{name}={path}"
    return json.dumps({"name": name, "path": path}) if "," in word else word


def _draft(draft: SpeculativeDecoding, sources: Sources) -> dict[str, Any]:
    """The SpeculativeConfig of vLLM: the fields under its names, and what has no field."""
    config = {**(draft.extra_config or {}), **draft.model_dump(exclude_none=True, exclude={"extra_config"})}
    return config | ({"model": sources.locate(draft.model)} if draft.model else {})


def _flags(part: Model, made: Mapping[str, Any]) -> Iterator[tuple[Flag, Any]]:
    """Every argument that is set, in the order of the fields."""
    for name, field, flag in _fields_of(type(part)):
        value = getattr(part, name)
        if flag is None:
            if isinstance(value, Model):
                yield from _flags(value, made)
            continue
        if flag.composed:
            value = made[flag.name]
        if not is_left_out(field, flag, value):
            yield flag, value


@functools.cache
def _fields_of(part: type[Model]) -> tuple[tuple[str, FieldInfo, Flag | None], ...]:
    """The fields of a type, each with the argument that it becomes."""
    return tuple((name, field, flag_of(field)) for name, field in part.model_fields.items())
