"""What the head of a Compose file tells: what to provide, and what is not in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vllm_operator.cli.compose.service import env_file
from vllm_operator.cli.compose.slots import GPU_PROFILES
from vllm_operator.cli.compose.volumes import config_name, is_there_already, mount_of, user_of
from vllm_operator.cli.outside import ONLY_IN_A_CLUSTER, set_fields
from vllm_operator.cli.places import mounts
from vllm_operator.render import files

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from vllm_operator.cli.compose.slots import Slot
    from vllm_operator.cli.engine import Engine, Outside
    from vllm_operator.cli.places import Place


_ONLY_IN_PART: Final = ("storage.cache.prefetch", "pod.securityContext", "pod.containerSecurityContext", "pod.patch")


def notes_of(engines: Sequence[Engine], slots: Sequence[Slot], names: Mapping[Outside, str]) -> Iterator[str]:
    """One line for each thing that whoever runs the file has to know or to do."""
    yield "Each engine has a manager, which ends one that hangs; Compose restarts what ends. docker compose ps shows as"
    yield "unhealthy an engine that loads or does not serve, and docker compose logs why it was ended."
    for variable, name in names.items():
        wanted = ", if you want it" if variable.optional else ""
        yield f"Set {name} (in .env or in the shell){wanted}: {variable.origin}."
    for engine in engines:
        for note in _engine_notes(engine, [slot for slot in slots if slot.engine is engine]):
            yield f"{engine.model.name}: {note}"


def _engine_notes(engine: Engine, slots: Sequence[Slot]) -> Iterator[str]:
    spec = engine.model.spec
    if len(slots) > 1:
        yield f"an engine for each replica, at ports {slots[0].port} to {slots[-1].port}: clients choose among them."
    if not spec.auth:
        yield "whoever reaches this machine may call it: set spec.auth, or publish the port at 127.0.0.1 only."
    if spec.accelerator.profile in GPU_PROFILES and not spec.device_count:
        yield "spec.accelerator.count is 0, so no device is reserved."
    for source in engine.sources:
        prefix = f", with {source.prefix} before each" if source.prefix else ""
        yield f"{env_file(source)} must hold the keys of {source.kind} {source.name}{prefix}."
    for place in mounts(engine):
        yield from _place_notes(place, engine)
    if user_of(engine):
        yield f"the volumes must be writable for user and group {user_of(engine)}."
    silent = set_fields(engine.model, (*ONLY_IN_A_CLUSTER, *_ONLY_IN_PART))
    if silent:
        yield f"not in this file, wholly or in part, since Compose has nothing like it: {', '.join(silent)}."


def _place_notes(place: Place, engine: Engine) -> Iterator[str]:
    mount = mount_of(place, engine)
    template = engine.model.spec.model.chat_template
    if not mount:
        if place.path == files.FOLDER and template and template.config_map_key_ref:
            yield f"./{config_name(engine)}.jinja must hold key {template.config_map_key_ref.key} of {place.content}."
    elif is_there_already(place, engine):
        yield f"docker volume create {mount['source']}, and put there {place.content}."
    elif mount["type"] == "image":
        yield "a volume out of an image needs Docker 28 and Docker Compose 2.35."
    elif mount["type"] == "bind" and place.kind != "hostPath":
        yield f"{mount['source']} must hold {place.content}."
