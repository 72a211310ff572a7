"""`extends` in a Compose file: a service with what it takes over from another one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

Service = dict[str, Any]

_REPLACED: Final = frozenset({"command", "entrypoint", "profiles", "user", "gpus"})
"""Parts of which a service has its own or those of the other one, and never both."""

_NOT_TAKEN: Final = frozenset({"extends", "depends_on", "profiles", "container_name"})
_BY_TARGET: Final = frozenset({"volumes", "secrets", "configs"})


class Extended(NamedTuple):
    """A service, whole as far as it is here."""

    service: Service
    missing: tuple[str, ...] = ()
    """What it takes over from files that are not here, for people."""


def extended(services: Mapping[str, Service]) -> dict[str, Extended]:
    """Every service with what it extends."""
    return {name: _whole(name, services, frozenset()) for name in services}


def _whole(name: str, services: Mapping[str, Service], seen: frozenset[str]) -> Extended:
    service = services[name]
    wanted = service.get("extends")
    if wanted is None:
        return Extended(service)
    own = {key: value for key, value in service.items() if key != "extends"}
    file = str(wanted.get("file") or "") if isinstance(wanted, dict) else ""
    other = str(wanted.get("service") if isinstance(wanted, dict) else wanted)
    if file or other not in services or other in seen | {name}:
        return Extended(own, (f"the service {other}{f' in {file}' if file else ''}",))
    base = _whole(other, services, seen | {name})
    taken = {key: value for key, value in base.service.items() if key not in _NOT_TAKEN}
    return Extended(_merged(taken, own), base.missing)


def _merged(base: Service, own: Mapping[str, Any]) -> Service:
    found = dict(base)
    for key, value in own.items():
        found[key] = _both(key, found[key], value) if key in found else value
    return found


def _both(key: str, base: Any, own: Any) -> Any:
    """A part that both have, as Compose makes one of the two: the own one counts where they contradict each other."""
    if key in _REPLACED or base is None or own is None:
        return own if own is not None else base
    if key == "environment":
        return [*_assignments(base), *_assignments(own)]
    if isinstance(base, dict) and isinstance(own, dict):
        return _merged(base, own)
    if isinstance(base, list) or isinstance(own, list):
        mine = _list(own)
        places = {_target(one) for one in mine} if key in _BY_TARGET else set()
        return [*(one for one in _list(base) if one not in mine and _target(one) not in places), *mine]
    return own


def _assignments(environment: Any) -> list[Any]:
    if not isinstance(environment, dict):
        return _list(environment)
    return [name if value is None else f"{name}={_text(value)}" for name, value in environment.items()]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _target(mount: Any) -> str:
    """Where in the container a mount, a secret or a config lies."""
    if isinstance(mount, dict):
        return str(mount.get("target") or mount.get("source"))
    parts = [part for part in str(mount).split(":") if part.startswith("/")]
    return parts[-1] if parts else str(mount)
