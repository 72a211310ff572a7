"""`secrets` of a Compose file: files below /run/secrets, and in a cluster a Secret of which each is a key."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.cli.importing.shell import shown
from vllm_operator.cli.importing.workload import fit_name
from vllm_operator.render.untyped import part

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vllm_operator.cli.importing.draft import Draft
    from vllm_operator.cli.importing.machine import MachineContainer

_FOLDER: Final = "/run/secrets"
_READ: Final = re.compile(r"(?:\$\(\s*(?:cat\s|<)|`\s*cat\s)\s*[\"']?([^\s\"'`)]+)[\"']?\s*[`)]")
"""What a shell puts in place of a file's content. An argument or a variable that is a secret is one by itself."""


def read_secrets(
    wanted: Any, defined: Mapping[str, Any], texts: list[str], container: MachineContainer, draft: Draft
) -> None:
    """Mount the secrets of a service that something in it names; `texts` are its words and its variables' values."""
    named = [_READ.sub("", text) for text in texts]
    for one in wanted if isinstance(wanted, list) else []:
        source = str(one.get("source") if isinstance(one, dict) else one)
        target = str((one.get("target") if isinstance(one, dict) else "") or source)
        place = target if target.startswith("/") else f"{_FOLDER}/{target}"
        if any(place in text for text in named):
            _mount(source, place, part(defined, source), container, draft)
        elif any(place in text for text in texts):
            draft.note(f"the secret {source} is left out: what is read of {place} is a Secret by itself")
        else:
            draft.note(f"the secret {source} is left out: nothing here names {place}")


def _mount(source: str, place: str, definition: Mapping[str, Any], container: MachineContainer, draft: Draft) -> None:
    key, name = fit_name(source) or "secret", f"{draft.name}-{fit_name(source) or 'secret'}"
    container.mount("", place, read_only=True, draft=draft, sub_path=key)
    volume = container.volumes[-1]
    del volume["emptyDir"]
    volume["secret"] = {"secretName": name}
    where = f" --namespace {draft.namespace}" if draft.namespace else ""
    file, variable = definition.get("file"), definition.get("environment")
    if variable:
        value = f'--from-literal={key}="${variable}"'
    else:
        value = f"--from-file={key}={shown(str(file)) if file else source}"
    draft.steps.append(f"kubectl create secret generic {name}{where} {value}")
    if not file and not variable:
        draft.check(f"the secret {source} is kept by Docker: put its value into the Secret {name}", "pod", "volumes")
    else:
        draft.note(f"the secret {source} is the Secret {name}, at {place}", "pod", "volumes")
