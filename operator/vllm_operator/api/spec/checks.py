"""What the API server cannot check: refused by the operator, with the path of the field."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jinja2
import jinja2.ext
import jinja2.nodes

from vllm_operator.api.spec.arguments import abbreviation_of, refused_arguments

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jinja2.parser import Parser

    from vllm_operator.api.spec.root import VLLMModelSpec


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
    template = spec.model.chat_template
    if template and template.inline:
        told = template_fault(template.inline)
        if told:
            yield Fault(("model", "chatTemplate", "inline"), told)


class _Generation(jinja2.ext.Extension):
    """`{% generation %}` of Hugging Face's chat templates marks what the assistant says."""

    tags = {"generation"}  # noqa: RUF012 # the base class has it so

    def parse(self, parser: Parser) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.Scope(body, lineno=line)


def template_fault(template: str) -> str:
    """What is wrong with the syntax of a chat template; empty if nothing. The template is parsed, never run."""
    environment = jinja2.Environment(extensions=[jinja2.ext.loopcontrols, _Generation])  # noqa: S701 # no HTML
    try:
        environment.parse(template)
    except jinja2.TemplateSyntaxError as error:
        return f"line {error.lineno} is no valid Jinja: {error.message}"
    except RecursionError:
        return "is nested too deeply to be read"
    return ""
