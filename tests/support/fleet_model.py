"""A model of engines and of processes that ask them, in a time of its own: what a way of choosing comes to.

An engine computes one prompt at a time, and what its prefix cache holds of it costs nothing; the answers it is writing
slow each other and the prompts down, as in one batch. It holds so many requests at once as its KV cache has room for.
Each process asks one request after the other in each of its lanes, and knows what came of its own requests.
"""

from __future__ import annotations

import heapq
import itertools
import json
import random
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from vllm_client.balance import load_report
from vllm_client.balance.choice import EngineLoad, chosen, digest, mixed
from vllm_client.balance.load_report import LoadReport

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vllm_client.balance.policy import BalancePolicy

PREFILL_TOKENS_PER_SECOND = 8000.0
STEP_SECONDS = 0.02
SLOWDOWN = 0.02
"""What each answer under way adds to a step, and takes from the prompts."""
KV_TOKENS = 60_000
MOST_RUNNING = 64


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt.

    Attributes:
        beginning: Which beginning it has; prompts with the same one share it.
        beginning_tokens: How long that is.
        own_tokens: What comes after it.
        answer_tokens: How long the answer will be.
    """

    beginning: int
    beginning_tokens: int
    own_tokens: int
    answer_tokens: int

    @property
    def tokens(self) -> int:
        """All it needs in the KV cache."""
        return self.beginning_tokens + self.own_tokens + self.answer_tokens


def key_of(prompt: Prompt) -> int:
    """What the client makes of its beginning."""
    return digest(str(prompt.beginning).encode())


@dataclass(eq=False, slots=True)
class Asked:
    """A request at an engine."""

    prompt: Prompt
    at: float
    first_token: Callable[[float], None]
    answered: Callable[[float], None]


@dataclass(eq=False)
class ModelEngine:
    """An engine."""

    url: str
    clock: Clock
    cached: OrderedDict[int, int] = field(default_factory=OrderedDict)
    waiting: deque[Asked] = field(default_factory=deque)
    computing: Asked | None = None
    writing: int = 0
    used_tokens: int = 0
    requests: int = 0
    prompt_tokens: int = 0
    hit_tokens: int = 0
    busy_seconds: float = 0.0
    seen_at: float = 0.0

    @property
    def outstanding(self) -> int:
        """Requests without an end."""
        return len(self.waiting) + self.writing + (self.computing is not None)

    def report(self) -> LoadReport:
        """What it says with an answer."""
        return LoadReport(min(1.0, self.used_tokens / KV_TOKENS), float(len(self.waiting)))

    def count(self) -> None:
        """Add up requests times seconds."""
        self.busy_seconds += self.outstanding * (self.clock.now - self.seen_at)
        self.seen_at = self.clock.now

    def ask(self, asked: Asked) -> None:
        """Take a request."""
        self.count()
        self.requests += 1
        self.waiting.append(asked)
        self.go_on()

    def go_on(self) -> None:
        """Compute the next prompt, if there is room for it."""
        if self.computing is not None or not self.waiting or self.writing >= MOST_RUNNING:
            return
        prompt = self.waiting[0].prompt
        if self.used_tokens and self.used_tokens + prompt.tokens > KV_TOKENS:
            return
        self.computing = self.waiting.popleft()
        self.used_tokens += prompt.tokens
        hit = prompt.beginning_tokens if prompt.beginning in self.cached else 0
        self.remember(prompt)
        self.prompt_tokens += prompt.beginning_tokens + prompt.own_tokens
        self.hit_tokens += hit
        rate = PREFILL_TOKENS_PER_SECOND / (1 + SLOWDOWN * self.writing)
        seconds = STEP_SECONDS + (prompt.beginning_tokens + prompt.own_tokens - hit) / rate
        self.clock.call_later(seconds, self.computed)

    def remember(self, prompt: Prompt) -> None:
        """Keep the beginning; forget the oldest where there is no room."""
        self.cached[prompt.beginning] = prompt.beginning_tokens
        self.cached.move_to_end(prompt.beginning)
        while len(self.cached) > 1 and sum(self.cached.values()) > KV_TOKENS // 2:
            self.cached.popitem(last=False)

    def computed(self) -> None:
        """The first token is there; write the others."""
        self.count()
        asked, self.computing = self.computing, None
        assert asked is not None
        asked.first_token(self.clock.now - asked.at)
        self.writing += 1
        seconds = asked.prompt.answer_tokens * STEP_SECONDS * (1 + SLOWDOWN * self.writing)
        self.clock.call_later(seconds, lambda: self.end(asked))
        self.go_on()

    def end(self, asked: Asked) -> None:
        """The answer is whole."""
        self.count()
        self.writing -= 1
        self.used_tokens -= asked.prompt.tokens
        asked.answered(self.clock.now)
        self.go_on()


class Clock:
    """What happens when."""

    def __init__(self) -> None:
        self.now = 0.0
        self.order = itertools.count()
        self.events: list[tuple[float, int, Callable[[], None]]] = []

    def call_later(self, seconds: float, what: Callable[[], None]) -> None:
        """Do it then."""
        heapq.heappush(self.events, (self.now + seconds, next(self.order), what))

    def run(self) -> None:
        """Until nothing is left to do."""
        while self.events:
            self.now, _, what = heapq.heappop(self.events)
            what()


class Chooser(Protocol):
    """How one process chooses."""

    def take(self, prompt: Prompt, now: float) -> str:
        """The engine for a request, which counts as its own from now on."""

    def over(self, url: str, report: LoadReport | None, now: float) -> None:
        """A request to that engine is answered, with a report where it gives one."""


@dataclass(frozen=True)
class Outcome:
    """What came of a way of choosing.

    Attributes:
        requests: By engine, the highest first.
        unevenness: Requests times seconds at the most loaded engine, to their mean.
        at_nearest: Share of the requests at the engine that is the nearest to their beginning.
        hits: Share of the prompts' tokens that were in a cache.
        median_seconds: Until the first token.
        slow_seconds: The same, of the slowest of 20.
        seconds: Until all was answered.
    """

    requests: tuple[int, ...]
    unevenness: float
    at_nearest: float
    hits: float
    median_seconds: float
    slow_seconds: float
    seconds: float


def simulate(
    prompts: Sequence[Sequence[Prompt]],
    chooser: Callable[[Sequence[str], random.Random], Chooser],
    *,
    engines: int = 4,
    lanes: int = 1,
    reports: bool = True,
    pause_seconds: float = 0.0,
    seed: int = 0,
) -> Outcome:
    """Let processes ask their prompts, each `lanes` at a time, with pauses of about so many seconds between."""
    chance = random.Random(seed)  # noqa: S311 - a workload that can be repeated
    clock = Clock()
    fleet = {
        f"http://10.0.0.{number}:8000/v1": ModelEngine(f"http://10.0.0.{number}:8000/v1", clock)
        for number in range(1, engines + 1)
    }
    seconds: list[float] = []
    at_nearest: list[bool] = []

    def begin(todo: Sequence[Prompt]) -> None:
        own = chooser(list(fleet), random.Random(chance.random()))  # noqa: S311 - as above
        left = iter(todo)

        def ask() -> None:
            prompt = next(left, None)
            if prompt is None:
                return
            engine = fleet[own.take(prompt, clock.now)]
            at_nearest.append(engine.url == max(fleet, key=lambda url: mixed(key_of(prompt), url)))

            def answered(now: float) -> None:
                own.over(engine.url, engine.report() if reports else None, now)
                clock.call_later(chance.expovariate(1 / pause_seconds) if pause_seconds else 0.0, ask)

            engine.ask(Asked(prompt, clock.now, seconds.append, answered))

        for _ in range(lanes):
            clock.call_later(chance.random() * 0.5, ask)

    for todo in prompts:
        begin(todo)
    clock.run()
    seconds.sort()
    busy = sorted((one.busy_seconds for one in fleet.values()), reverse=True)
    return Outcome(
        requests=tuple(sorted((one.requests for one in fleet.values()), reverse=True)),
        unevenness=busy[0] * engines / sum(busy),
        at_nearest=sum(at_nearest) / len(at_nearest),
        hits=sum(one.hit_tokens for one in fleet.values()) / sum(one.prompt_tokens for one in fleet.values()),
        median_seconds=seconds[len(seconds) // 2],
        slow_seconds=seconds[int(len(seconds) * 0.95)],
        seconds=clock.now,
    )


class InTurns:
    """Each process goes round the engines, in an order of its own."""

    def __init__(self, urls: Sequence[str], chance: random.Random) -> None:
        self.turns = itertools.cycle(chance.sample(list(urls), len(urls)))

    def take(self, prompt: Prompt, now: float) -> str:
        """The next one."""
        del prompt, now
        return next(self.turns)

    def over(self, url: str, report: LoadReport | None, now: float) -> None:
        """Learns nothing."""


class ByPolicy:
    """A process that chooses as the client does."""

    def __init__(self, urls: Sequence[str], chance: random.Random, policy: BalancePolicy) -> None:
        self.chance = chance
        self.policy = policy
        self.loads = dict.fromkeys(urls, EngineLoad())

    def take(self, prompt: Prompt, now: float) -> str:
        """The engine by the policy; the request asks for a report if it is time to."""
        url = chosen(key_of(prompt), self.loads, self.policy, now=now, draw=self.chance.random())
        load = self.loads[url]
        known = load.reported
        known = load_report.asked(known, now) if load_report.is_due(known, now, self.policy) else known
        self.loads[url] = EngineLoad(load.outstanding + 1, known)
        return url

    def over(self, url: str, report: LoadReport | None, now: float) -> None:
        """Learn from an answer: a report comes with those that asked for one, which are those of this moment."""
        load = self.loads[url]
        known = load_report.answered(load.reported, None if report is None else header(report), now)
        self.loads[url] = EngineLoad(load.outstanding - 1, known)


def header(report: LoadReport) -> str:
    """The report as vLLM writes it."""
    metrics = {"kv_cache_usage_perc": report.kv_cache_usage, "num_requests_waiting": report.waiting}
    return f"JSON {json.dumps({'named_metrics': metrics})}"
