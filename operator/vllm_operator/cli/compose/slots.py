"""The engines of one machine: which name, port and devices each of them has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vllm_operator.cli.engine import Engine

GPU_PROFILES: Final = frozenset({"nvidia", "amd"})
_HIGHEST_PORT: Final = 65535


class UnsupportedError(Exception):
    """Compose cannot serve the models; the message names the model and the field."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One engine of a model, with what it has for itself on the machine."""

    engine: Engine
    number: int
    name: str
    port: int
    devices: tuple[str, ...]
    """Numbers of its devices; empty where Docker may choose."""


def slots_of(engines: Sequence[Engine]) -> list[Slot]:
    """Every engine, of all models, with its name, its port and its devices, none of which two may share.

    Raises:
        UnsupportedError: a model cannot run so, or two of them want the same port or name.
    """
    several = sum(max(engine.model.spec.replicas, 1) for engine in engines) > 1
    slots: list[Slot] = []
    for engine in engines:
        _check(engine)
        for number in range(max(engine.model.spec.replicas, 1)):
            slots.append(_slot(engine, number, slots if several else None))
    _check_shared("port", {f"{slot.name}: spec.service.port": slot.port for slot in slots})
    _check_shared("name", {f"{slot.engine.model.namespace}/{slot.name}": slot.name for slot in slots})
    return slots


def _slot(engine: Engine, number: int, others: Sequence[Slot] | None) -> Slot:
    model = engine.model
    alone = model.spec.replicas <= 1
    profile, wanted = model.spec.accelerator.profile, model.spec.device_count
    taken = sum(len(one.devices) for one in others or [] if one.engine.model.spec.accelerator.profile == profile)
    return Slot(
        engine=engine,
        number=number,
        name=model.instance if alone else f"{model.instance}-{number + 1}",
        port=model.spec.service.port + number,
        devices=() if others is None else tuple(str(device) for device in range(taken, taken + wanted)),
    )


def _check(engine: Engine) -> None:
    """Refuse what would only look as if it served."""
    model = engine.model
    profile = model.spec.accelerator.profile
    if profile not in GPU_PROFILES | {"cpu"}:
        told = f"Compose has no reservation for {profile}: use --to command on the machine itself"
        raise UnsupportedError(f"{model.name}: spec.accelerator.profile: {told}")
    if model.spec.engine.host == "127.0.0.1":
        raise UnsupportedError(f"{model.name}: spec.engine.host: a published port does not reach 127.0.0.1")
    if model.spec.service.port + model.spec.replicas - 1 > _HIGHEST_PORT:
        told = f"{model.spec.replicas} engines need as many ports in a row, and the highest is {_HIGHEST_PORT}"
        raise UnsupportedError(f"{model.name}: spec.service.port: {told}")


def _check_shared(what: str, given: Mapping[str, object]) -> None:
    owners: dict[object, str] = {}
    for owner, value in given.items():
        if value in owners:
            raise UnsupportedError(f"{owner}: the {what} {value} is that of {owners[value]} too")
        owners[value] = owner
