"""What the judge remembers from one look to the next, as frozen data that survives a new judge. Pure.

All times are seconds of the machine's monotonic clock. A name that ends in `_at` or `_since` is a moment on it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from types import MappingProxyType

from .evidence import Peer, PeersLook

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, TypeVar

    Data = TypeVar("Data")

NOTHING: Mapping[str, Any] = MappingProxyType({})
MOMENTS = ("_at", "_since")


@dataclass(frozen=True)
class Span:
    """A time for which something is proven: never longer than what was seen, whatever lay between the looks."""

    since: float
    until: float

    @property
    def seconds(self) -> float:
        """How long it lasted."""
        return max(0.0, self.until - self.since)

    def moved(self, seconds: float) -> Span:
        """The same, later."""
        return Span(self.since + seconds, self.until + seconds)

    def grown(self, until: float) -> Span:
        """The same, proven for longer."""
        return Span(self.since, max(self.until, until))


@dataclass(frozen=True)
class Finding:
    """Something that speaks against the engine."""

    span: Span
    sentence: str = ""
    """For people, without durations that move."""
    detail: str = ""
    """What the policy that made it wants to know of it again."""


@dataclass(frozen=True)
class RankMemory:
    """What is known of one engine core, a rank of data parallelism, after the last look that could see it."""

    steps: float
    kv_usage: float
    in_flight: float
    """Requests for which a step is due."""
    moved_at: float
    """When it was last seen to have made a step: the end of that look."""
    working_since: float | None = None
    """Since when each look has seen requests for which a step is due; None: the last one saw none."""
    live_at: float = 0.0
    """When it last made a step that was not only that of our own canary."""
    deferred: float = 0.0
    asleep: bool = False


@dataclass(frozen=True)
class LongStep:
    """The longest step that was seen to end within ten minutes."""

    begun_at: float
    """When those ten minutes began."""
    seconds: float


@dataclass(frozen=True)
class CpuSample:
    """What the engine's processes had used up to a moment."""

    taken_at: float
    server_seconds: float
    core_seconds: float | None
    written_bytes: float = 0.0


@dataclass(frozen=True)
class SentCanary:
    """The last canary to a rank."""

    sent_at: float
    outcome: str | None = None


@dataclass(frozen=True)
class Memory:
    """All that is remembered, for one life of the engine."""

    admitted: bool = False
    """Whether it has completed a prompt in this life."""
    began_at: float | None = None
    looked_at: float | None = None
    """The end of the last look."""
    watched_since: float | None = None
    """Since when looks have come without a gap."""
    answering_since: float | None = None
    """Since when the server has answered each look; None: it did not answer the last one."""
    seen_at: float | None = None
    """The end of the last look that could read the metrics."""
    seen_since: float | None = None
    """Since when the metrics could be read without a gap."""
    advanced: bool = False
    """Whether the last look saw a step of every rank."""
    ranks: Mapping[str, RankMemory] = field(default_factory=lambda: NOTHING)
    rest: str = ""
    """Why the engine has no traffic though nothing is wrong with it: a cause of `rests.RESTS`. Empty: it is awake."""
    proof_ended: str = ""
    """Why its last proof does not count any more, so that it has to complete another prompt; empty: it counts."""
    long_steps: tuple[LongStep, ...] = ()
    cpu: tuple[CpuSample, ...] = ()
    """Of the last ten seconds."""
    computed_at: float | None = None
    """When cores and workers were last seen to compute."""
    server_computed_at: float | None = None
    wrote_at: float | None = None
    """When the engine was last seen to write steadily."""
    compiled_at: float | None = None
    """When kernels were last seen to be compiled."""
    still_since: float | None = None
    """Since when cores and workers have used no CPU; None: they use some, or nobody knows."""
    canaries: Mapping[str, SentCanary] = field(default_factory=lambda: NOTHING)
    """By rank; the empty name where the server was to choose one."""
    findings: Mapping[str, Finding] = field(default_factory=lambda: NOTHING)
    """By "POLICY/SUBJECT"."""
    peers: PeersLook | None = None
    suspected_since: float | None = None
    """Since when it has been told to the other engines that this one is suspected."""
    left_since: float | None = None
    """Since when it has been without traffic for a suspicion."""
    kind: str = ""
    kind_since: float | None = None
    """Since when the verdict has been of this kind."""
    waiting_cause: str = ""
    waiting_sentence: str = ""
    """What stands in the way of its first prompt."""

    def as_dict(self) -> dict[str, object]:
        """The memory as JSON can hold it; `restored` reads it again."""
        plain = {name: dict(getattr(self, name)) for name in ("ranks", "canaries", "findings")}
        return asdict(replace(self, **plain))  # type: ignore[arg-type]


def shifted(data: Data, seconds: float) -> Data:
    """The same data with all its moments later, as if the time between had not been."""
    if isinstance(data, Span):
        return data.moved(seconds)  # type: ignore[return-value]
    if isinstance(data, tuple):
        return tuple(shifted(one, seconds) for one in data)  # type: ignore[return-value]
    if isinstance(data, (dict, MappingProxyType)):
        return {name: shifted(one, seconds) for name, one in data.items()}  # type: ignore[return-value]
    if not is_dataclass(data) or isinstance(data, PeersLook):  # what others have told is as old as it is
        return data
    changes = {}
    for one in fields(data):
        value = getattr(data, one.name)
        moment = one.name.endswith(MOMENTS) and value is not None
        changes[one.name] = value + seconds if moment else shifted(value, seconds)
    return replace(data, **changes)  # type: ignore[type-var]


def restored(stored: object) -> Memory:
    """The memory out of its JSON, whichever version of the judge has written it.

    What is not known is ignored, and what has another form counts as not remembered. Neither evicts: a suspicion that
    is forgotten is proven again.
    """
    values = _object(stored)
    known: dict[str, Any] = {}
    for one in fields(Memory):
        read = READERS.get(one.name) or (_moment if one.name.endswith(MOMENTS) else None)
        if read is not None and one.name in values:
            known[one.name] = read(values[one.name])
    return Memory(**known)


def _object(value: object) -> dict[str, Any]:
    return {str(name): one for name, one in value.items()} if isinstance(value, (dict, MappingProxyType)) else {}


def _list(value: object) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else []


def _is_number(value: object) -> bool:
    # neither inf nor nan: their difference to themselves is no zero
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value - value == 0


def _moment(value: object) -> float | None:
    return value if _is_number(value) else None  # type: ignore[return-value]


def _flag(value: object) -> bool:
    return value is True


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _made(kind: Any, value: object) -> Any:
    """Data of that kind, out of the fields that have its forms; None where one that it needs is amiss."""
    values, given = _object(value), {}
    for one in fields(kind):
        if one.name not in values:
            continue
        found, kinds = values[one.name], str(one.type)
        right = (
            isinstance(found, str)
            if "str" in kinds
            else isinstance(found, bool)
            if "bool" in kinds
            else _is_number(found)
        )
        if right or (found is None and "None" in kinds):
            given[one.name] = found
    try:
        return kind(**given)
    except TypeError:
        return None


def _mapping(kind: Any) -> Any:
    def read(value: object) -> dict[str, Any]:
        made = {name: _made(kind, one) for name, one in _object(value).items()}
        return {name: one for name, one in made.items() if one is not None}

    return read


def _tuple(kind: Any) -> Any:
    return lambda value: tuple(one for one in (_made(kind, each) for each in _list(value)) if one is not None)


def _findings(value: object) -> dict[str, Finding]:
    found = {}
    for name, one in _object(value).items():
        values = _object(one)
        span = _made(Span, values.get("span"))
        if span is not None:
            found[name] = Finding(span, _text(values.get("sentence")), _text(values.get("detail")))
    return found


def _peers(value: object) -> PeersLook | None:
    values = _object(value)
    at, most = values.get("at"), values.get("most_routable")
    if not _is_number(at):
        return None
    others = []
    for one in _list(values.get("others")):
        told = _object(one)
        names = ("routable", "reachable", "suspected", "restarting")
        others.append(Peer(_text(told.get("address")), **{name: _flag(told.get(name)) for name in names}))
    own = _text(values.get("own_address"))
    return PeersLook(at, own, tuple(others), most if _is_number(most) else 0)  # type: ignore[arg-type]


READERS: Mapping[str, Any] = {
    "admitted": _flag,
    "advanced": _flag,
    "ranks": _mapping(RankMemory),
    "rest": _text,
    "proof_ended": _text,
    "long_steps": _tuple(LongStep),
    "cpu": _tuple(CpuSample),
    "canaries": _mapping(SentCanary),
    "findings": _findings,
    "peers": _peers,
    "kind": _text,
    "waiting_cause": _text,
    "waiting_sentence": _text,
}
