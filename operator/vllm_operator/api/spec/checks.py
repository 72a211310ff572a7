"""What the API server cannot check: refused by the operator, with the path of the field."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import jinja2
import jinja2.ext
import jinja2.nodes

from vllm_operator.api.bounded import Bounded
from vllm_operator.api.spec import versions
from vllm_operator.api.spec.arguments import WITHOUT_SERVER, abbreviation_of, refused_arguments
from vllm_operator.api.spec.engine import SECRET_VARIABLES, SpeculativeDecoding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jinja2.parser import Parser

    from vllm_operator.api.spec.root import VLLMModelSpec


MOST_LEVELS: Final = 32
"""How deep maps and lists may stand in each other below `spec`. No field of a pod is at the sixteenth."""

_TEMPLATES_REMEMBERED: Final = 4096

_template_faults: Final[Bounded[bytes, str]] = Bounded(_TEMPLATES_REMEMBERED)
"""What is wrong with a chat template, by the hash of its text: to parse one takes up to half a second."""


class Fault(NamedTuple):
    """What is wrong, and where."""

    path: tuple[str | int, ...]
    """Path of the field below `spec`, as in YAML."""
    message: str


def faults(spec: VLLMModelSpec) -> Iterator[Fault]:
    """Everything that is wrong with a spec although its schema and its rules hold."""
    refused = refused_arguments(type(spec))
    for position, word in enumerate(spec.engine.extra_args or []):
        whole = abbreviation_of(word, refused)
        if whole:
            yield Fault(("engine", "extraArgs", position), f"vLLM reads {word} as {whole}, which {refused[whole]}")
    yield from _server_faults(spec.engine.extra_args or [])
    yield from _secret_faults(spec)
    yield from _speculation_faults(spec)
    yield from _adapter_faults(spec)
    yield from (Fault(found.path, found.message) for found in versions.findings(spec) if found.refused)
    template = spec.model.chat_template
    if template and template.inline:
        told = template_fault(template.inline)
        if told:
            yield Fault(("model", "chatTemplate", "inline"), told)


def _adapter_faults(spec: VLLMModelSpec) -> Iterator[Fault]:
    """Adapters that nobody reaches, since the model itself has their name, be it made of a path."""
    for position, adapter in enumerate(spec.adapters):
        if adapter.name in spec.served_names:
            message = f"{adapter.name} is a name of the model itself, which answers to it: give the adapter another one"
            yield Fault(("lora", "adapters", position, "name"), message)


def _server_faults(words: list[str]) -> Iterator[Fault]:
    """Words that start the engine without a server; their meaning lies in the value, which may be the next word."""
    for position, (word, following) in enumerate(zip(words, [*words[1:], ""], strict=False)):
        name, separator, value = word.partition("=")
        if name.replace("_", "-") in WITHOUT_SERVER and re.fullmatch("-[0-9]+|0+", value if separator else following):
            yield Fault(("engine", "extraArgs", position), f"{name} 0 starts no HTTP server: leave it out")


def _speculation_faults(spec: VLLMModelSpec) -> Iterator[Fault]:
    """What is said under vLLM's own name although it has a field."""
    draft = spec.engine.speculative_decoding
    fields = {name: field.alias for name, field in SpeculativeDecoding.model_fields.items()}
    for name in (draft and draft.extra_config) or {}:
        if name in fields:
            path = ("engine", "speculativeDecoding", "extraConfig", name)
            yield Fault(path, f"set spec.engine.speculativeDecoding.{fields[name]}")


def _secret_faults(spec: VLLMModelSpec) -> Iterator[Fault]:
    """Objects that reach the command line with a variable that holds a secret."""
    engine, model = spec.engine, spec.model
    draft = engine.speculative_decoding
    objects = {
        ("model", "loaderExtraConfig"): model.loader_extra_config,
        ("model", "hfOverrides"): model.hf_overrides,
        ("engine", "kvTransferConfig"): engine.kv_transfer_config,
        ("engine", "kvEventsConfig"): engine.kv_events_config,
        ("engine", "compilationConfig"): engine.compilation_config,
        ("engine", "speculativeDecoding", "extraConfig"): draft and draft.extra_config,
    }
    for path, value in objects.items():
        text = json.dumps(value)
        if any(name in text for name in SECRET_VARIABLES):
            yield Fault(path, f"must not refer to an API key or a token of the hub: {_SEEN}")


_SEEN: Final = "whoever sees the node's processes would read it. The engine finds both in its environment"


class _Generation(jinja2.ext.Extension):
    """`{% generation %}` of Hugging Face's chat templates marks what the assistant says."""

    tags = {"generation"}  # noqa: RUF012 # the base class has it so

    def parse(self, parser: Parser) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.Scope(body, lineno=line)


def template_fault(template: str) -> str:
    """What is wrong with the syntax of a chat template; empty if nothing.

    The template is parsed once for each text, and never run.
    """
    digest = hashlib.sha256(template.encode("utf-8", "surrogatepass")).digest()
    known = _template_faults.get(digest)
    if known is None:
        known = _parse_fault(template)
        _template_faults.put(digest, known)
    return known


def _parse_fault(template: str) -> str:
    environment = jinja2.Environment(extensions=[jinja2.ext.loopcontrols, _Generation])  # noqa: S701 # no HTML
    try:
        environment.parse(template)
    except jinja2.TemplateSyntaxError as error:
        return f"line {error.lineno} is no valid Jinja: {error.message}"
    except RecursionError:
        return "is nested too deeply to be read"
    except ValueError as error:  # of the parser's own conversions: a number of thousands of digits
        return f"cannot be read: {error}"
    return ""


def nesting_fault(raw: Mapping[str, Any]) -> Fault | None:
    """The first field of a spec in which maps and lists stand in each other too deeply for what reads it.

    It is looked for before anything else, and without recursion, which would end in an exception at some depth.
    """
    level: list[tuple[tuple[str | int, ...], Any]] = [((), raw)]
    for _ in range(MOST_LEVELS):
        level = [(_named(path, key), inner) for path, value in level for key, inner in _inner(value)]
    return next((Fault(path, _TOO_DEEP) for path, value in level if isinstance(value, dict | list) and value), None)


_TOO_DEEP: Final = f"maps and lists stand in each other more than {MOST_LEVELS} levels deep: make it flatter"

_NAMED_LEVELS: Final = 3
"""Of a path that is told: enough for `spec.pod.volumes[0]`, where a whole one would fill a page."""


def _named(path: tuple[str | int, ...], key: str | int) -> tuple[str | int, ...]:
    return (*path, key) if len(path) < _NAMED_LEVELS else path


def _inner(value: Any) -> Iterator[tuple[str | int, Any]]:
    if isinstance(value, dict):
        return iter(value.items())
    return enumerate(value) if isinstance(value, list) else iter(())
