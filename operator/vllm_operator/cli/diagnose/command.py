"""The command: read all that the user may read, and tell the story."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from vllm_operator.api import meta
from vllm_operator.cli.ask import Context, Name, Namespace  # noqa: TC001 # typer reads what they say of options
from vllm_operator.cli.diagnose import text
from vllm_operator.cli.diagnose.story import story_of
from vllm_operator.cli.kubectl import Kubectl, KubectlError
from vllm_operator.cli.output import Output, as_data, errors_told
from vllm_operator.cli.rollout import objects
from vllm_operator.cli.rollout.objects import RefusedError
from vllm_operator.cli.status.sources import Sources, read

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.diagnosis.signatures import Language


class Lang(StrEnum):
    """Languages of the texts."""

    EN = "en"
    ZH_TW = "zh-TW"


_LANGUAGES: Final[dict[Lang, Language]] = {Lang.EN: "en", Lang.ZH_TW: "zh-TW"}


def diagnose(
    name: Name,
    *,
    namespace: Namespace = "",
    context: Context = "",
    lang: Annotated[Lang, typer.Option(help="Language of what is not quoted.")] = Lang.EN,
    output: Output = None,
) -> None:
    """Tell why a model does not serve and what to do, also while the operator is down.

    Exit code 0: told, whatever there is to tell; 1: the model is not there, or cannot be read.
    """
    with errors_told(KubectlError, RefusedError):
        kubectl = Kubectl(namespace, context)
        found, events = _with_events(kubectl, read(kubectl, objects.model_name(name), ask_all=True))
    story = story_of(found, events, _LANGUAGES[lang])
    if output is not None:
        typer.echo(as_data(text.as_data(story), output), nl=False)
        return
    for line in text.lines(story):
        typer.echo(line)


def _with_events(kubectl: Kubectl, found: Sources) -> tuple[Sources, list[Mapping[str, Any]]]:
    """What was read, and the Events about the model; a gap more where they cannot be read."""
    selector = f"involvedObject.kind={meta.KIND},involvedObject.uid={found.model['metadata']['uid']}"
    try:
        return found, kubectl.get("events", "--field-selector", selector)["items"]
    except KubectlError as error:
        return replace(found, gaps=(*found.gaps, f"the Events of the model: {error}")), []
