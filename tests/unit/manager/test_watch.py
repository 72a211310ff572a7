"""The looks at an engine with parts that fail: a broken gate admits whom it can and evicts nobody."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.waiting import until
from vllm_operator.diagnosis.signatures import table
from vllm_operator.manager import judge, watch
from vllm_operator.manager.engine import Engine, EngineError, Sample
from vllm_operator.manager.errands import Canaries, Errand
from vllm_operator.manager.evidence import ANSWERS, REFUSES, ProcessesLook, RankLook
from vllm_operator.manager.log import Log
from vllm_operator.manager.names import ServedNames
from vllm_operator.manager.peers import Peers
from vllm_operator.manager.processes import Processes
from vllm_operator.manager.settings import Settings
from vllm_operator.manager.timeline import TimeLine
from vllm_operator.manager.watch import Parts, Pod, Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

SETTINGS = Settings(gate_port=1, model="tiny")
POD = Pod(name="tiny-0", program="cafe", born_at=0.0)


class ScriptedEngine(Engine):
    """An engine that answers what the test says, and makes a step at each look."""

    def __init__(self) -> None:
        self.server = ANSWERS
        self.steps = 0.0
        self.moves = True
        self.completion: Callable[[], None] = lambda: None
        self.fault: Exception | None = None
        self.served = ["tiny"]
        self.may_load = threading.Event()
        self.chats = 0
        self.refusal: str | EngineError = ""

    def sample(self, deadline_seconds: float) -> Sample:  # noqa: ARG002 # it answers at once
        """What the server says."""
        if self.fault:
            raise self.fault
        self.steps += self.moves
        return Sample(self.server, {"0": RankLook(self.steps)} if self.server == ANSWERS else None)

    def check_names(self, timeout: float, adapters: Iterable[str] | None = None) -> None:  # noqa: ARG002 # as above
        """Whether the model is served."""
        missing = [name for name in ("tiny", *(adapters or ())) if name not in self.served]
        if missing:
            raise EngineError("WrongModel", f"serves other, not {', '.join(missing)}")

    def served_adapters(self, timeout: float) -> dict[str, str]:  # noqa: ARG002 # as above
        """What is served beside the model."""
        return {name: "" for name in self.served if name != "tiny"}

    def load_adapter(self, name: str, path: str, timeout: float) -> None:  # noqa: ARG002 # as above
        """Load it once the test lets that come to an end."""
        assert self.may_load.wait(60)
        self.served.append(name)

    def complete(self, timeout: float, rank: str | None = None) -> None:  # noqa: ARG002 # as above
        """What the test has made of it."""
        self.completion()

    @property
    def completes_texts(self) -> bool:
        """It does."""
        return True

    def chat_refusal(self, timeout: float) -> str:  # noqa: ARG002 # as above
        """What the test says."""
        self.chats += 1
        if isinstance(self.refusal, EngineError):
            raise self.refusal
        return self.refusal


class ScriptedProcesses(Processes):
    """Processes that compute nothing, or a part that fails."""

    def __init__(self) -> None:
        self.fault: Exception | None = None

    def look(self, now: float) -> ProcessesLook | None:  # noqa: ARG002 # nothing is seen
        """Nothing, or a failure."""
        if self.fault:
            raise self.fault
        return None


class World:
    """A watch over a scripted engine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.engine = ScriptedEngine()
        self.processes = ScriptedProcesses()
        self.log = Log()
        self.watch = self.another({})

    def another(self, stored: dict[str, Any], settings: Settings = SETTINGS, pod: Pod = POD) -> Watch:
        """The watch of a judge that follows."""
        line = TimeLine(str(self.folder), "life")
        self.watch = Watch(
            settings, Parts(self.engine, self.processes, self.log, Peers(settings, ()), line), pod, stored
        )
        return self.watch

    def handed_on(self) -> dict[str, Any]:
        """What the judge after this one gets, by way of JSON."""
        memory: dict[str, Any] = json.loads(json.dumps(self.watch.report()))["memory"]
        return memory

    def admitted(self) -> World:
        """The same, once the engine is admitted."""
        until(lambda: self.watch.look() is None and self.watch.status.ready, what="admission")
        return self


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def breaks(part: str, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a part of the gate fail from now on."""

    def fail(*_: object, **__: object) -> Any:
        raise RuntimeError(f"{part} is broken")

    if part == "sample":
        world.engine.fault = RuntimeError("sample is broken")
    elif part == "processes":
        world.processes.fault = RuntimeError("processes is broken")
    elif part == "log":
        monkeypatch.setattr(world.log, "look", fail)
    elif part == "time line":
        monkeypatch.setattr(TimeLine, "add", fail)
    else:
        monkeypatch.setattr(judge, part, fail)


PARTS = (
    "sample", "processes", "log", "observe", "verdict", "due_canaries", "wants_peers", "stall_window",
    "suspects", "longest_step",
)  # fmt: skip


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_fails_for_thirty_looks_evicts_nobody_and_is_told(
    world: World, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.admitted()
    breaks(part, world, monkeypatch)
    world.engine.server = REFUSES  # as bad as it can look: proof, if the gate were sound
    if part in ("due_canaries", "stall_window", "suspects", "longest_step"):
        world.engine.server = ANSWERS  # this is no part of what is seen, and a proof would count
    for _ in range(30):
        assert world.watch.look() is None
        assert world.watch.status.ready
        assert world.watch.status.live
    assert f"{part} is broken" in " ".join(world.watch.faults.values())


def test_what_befell_earlier_judges_is_told_until_this_one_has_proved_itself(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.another({}, pod=replace(POD, trouble="the judge was ended by SIGKILL"))
    world.admitted()
    assert world.watch.status.trouble == "the judge was ended by SIGKILL"
    monkeypatch.setattr(watch, "EARLIER_TROUBLE_SECONDS", 0.0)
    world.watch.look()
    assert world.watch.status.trouble == ""


def test_a_part_that_works_again_ends_the_trouble_and_the_engine_is_judged_again(world: World) -> None:
    world.admitted()
    world.processes.fault = RuntimeError("broken")
    world.engine.server = REFUSES
    world.watch.look()
    assert world.watch.status.ready
    assert "broken" in world.watch.status.trouble
    world.processes.fault = None
    world.watch.look()
    status = world.watch.status
    assert (status.verdict, status.cause, status.trouble) == ("withdrawn", "Gone", "")
    assert status.counts.withdrawals == {"Gone": 1}


@pytest.mark.parametrize("part", ["processes", "log", "wants_peers", "time line"])
def test_a_part_that_is_broken_from_the_start_keeps_no_engine_from_being_admitted(
    world: World, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaks(part, world, monkeypatch)
    world.admitted()


def test_the_next_judge_knows_what_this_one_knew(world: World) -> None:
    world.admitted()
    before = world.watch.status
    after = world.another(world.handed_on()).status
    assert (after.admitted, after.ready, after.verdict, after.phase) == (True, True, "serving", "Ready")
    assert after.counts == before.counts
    assert (after.since, after.phase_since) == (before.since, before.phase_since)
    world.watch.look()
    assert world.watch.status.ready
    assert [entry.verdict for entry in world.watch.status.timeline].count("serving") == 1


def test_what_is_told_of_the_past_does_not_move_when_clocks_are_corrected(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.admitted()
    before = world.watch.status
    monkeypatch.setattr(time, "time", lambda: 0.0)
    world.watch.look()
    assert (world.watch.status.since, world.watch.status.phase_since) == (before.since, before.phase_since)
    assert world.another(world.handed_on()).status.since == before.since


def test_a_judge_that_cannot_read_what_it_is_handed_takes_nobodys_traffic(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.admitted()
    handed = world.handed_on()
    monkeypatch.setattr(judge, "restored", lambda _: 1 / 0)
    assert world.another(handed).status.ready
    assert "ZeroDivisionError" in world.watch.status.trouble


@pytest.mark.parametrize(
    "stored",
    [
        {"judge": []},
        {"judge": {"admitted": "yes"}},
        {"phase": 7},
        {"phase": ["x"], "counts": "y", "times": [1, ["x", 2], [3]]},
        {"admitted": True},
    ],
)
def test_what_another_version_has_handed_on_is_no_fault(world: World, stored: dict[str, Any]) -> None:
    assert not world.another(stored).faults
    world.admitted()


REPORT = b"""\
INFO 11-26 03:14:47 [gpu_model_runner.py:5150] Model loading took 14.99 GiB memory and 3.1 seconds
INFO 11-26 03:14:48 [kv_cache_utils.py:2327] GPU KV cache size: 2,000 tokens, Maximum concurrency for 1,000 tokens \
per request: 2.00x
"""
FIGURES = {"weights_gib": 14.99, "kv_cache_tokens": 2000, "max_model_len": 1000, "max_concurrency": 2.0}


def test_what_the_start_has_reported_is_told_and_kept_by_the_next_judge(world: World) -> None:
    world.log.feed(REPORT, time.monotonic())
    world.admitted()
    assert world.watch.status.document()["capacity"] == FIGURES
    world.log = Log()
    later = world.another(world.handed_on())
    world.log.feed(b"INFO 11-26 03:15:00 [logger.py:40] prompt: 'GPU KV cache size: 7 tokens'\n", time.monotonic())
    later.look()
    assert later.status.document()["capacity"] == FIGURES, "an engine that is up reports nothing of its start"


def test_a_judge_that_starts_in_the_midst_of_a_start_adds_what_it_sees(world: World) -> None:
    first, rest = REPORT.split(b"\n", 1)
    world.log.feed(first + b"\n", time.monotonic())
    world.engine.server = REFUSES
    world.watch.look()
    handed = world.handed_on()
    assert handed["capacity"] == {"weights_gib": 14.99}
    world.log = Log()
    world.another(handed)
    world.log.feed(rest, time.monotonic())
    world.watch.look()
    assert world.watch.status.document()["capacity"] == FIGURES


def test_a_load_phase_is_told_and_kept_by_the_next_judge(world: World) -> None:
    world.engine.server = REFUSES
    line = b"(EngineCore pid=7) Loading safetensors checkpoint shards:  25% Completed | 2/8 [00:01<00:03,  2.00it/s]\n"
    world.watch.look()
    world.log.feed(line, time.monotonic())
    world.watch.look()
    status = world.watch.status
    assert (status.phase, status.phase_detail) == ("LoadingWeights", "2 of 8 shards")
    causes = [entry.sentence for entry in status.timeline]
    assert any("load phase LoadingWeights (2 of 8 shards)" in sentence for sentence in causes)
    handed = world.handed_on()
    world.log = Log()  # of which the stem has kept nothing
    assert world.another(handed).status.phase == "LoadingWeights"
    assert world.watch.status.phase_since == status.phase_since


def test_an_engine_that_is_asked_to_end_is_out_at_once_and_nothing_is_done_to_it(world: World) -> None:
    world.admitted()
    world.watch.leave()
    world.watch.leave()
    status = world.watch.status
    assert (status.verdict, status.ready, status.started, status.live) == ("leaving", False, False, True)
    assert status.report()["serving"] is True  # it has requests to finish
    world.engine.server = REFUSES
    assert world.watch.look() is None
    assert [entry.verdict for entry in world.watch.status.timeline].count("leaving") == 1


def test_an_engine_over_its_startup_budget_is_given_up_and_that_is_not_taken_back(world: World) -> None:
    world.engine.server = REFUSES
    world.another({}, replace(SETTINGS, startup_budget=0.2))
    end = until(world.watch.look, what="the end of its budget", closely=True)
    assert "startup budget" in str(end)
    world.engine.server = ANSWERS
    assert world.watch.look() == end
    assert world.watch.status.verdict == "restart"


def test_kubelet_is_asked_to_end_only_what_the_manager_could_not(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.engine.server = REFUSES
    world.another({}, replace(SETTINGS, startup_budget=0.0))
    world.watch.look()
    world.watch.look()
    assert world.watch.status.live
    monkeypatch.setattr(watch, "OVERDUE_SECONDS", -1.0)
    world.watch.look()
    assert not world.watch.status.live


def test_restart_windows_of_a_fleet_differ_by_the_pods_name(world: World) -> None:
    windows = {
        world.another({}, pod=replace(POD, name=f"tiny-{number}"))._settings.restart_window  # noqa: SLF001 # not shown
        for number in range(20)
    }
    assert len(windows) == 20


def test_a_canary_that_fails_by_a_mistake_of_ours_is_none(world: World) -> None:
    world.engine.completion = lambda: 1 / 0  # type: ignore[assignment] # the mistake
    canaries = Canaries(world.engine)
    canaries.send(None, 5)
    until(lambda: "ZeroDivisionError" in canaries.trouble, what="the trouble")
    assert canaries.seen() == ()


def test_a_canary_is_seen_while_it_is_on_its_way_and_until_a_judge_has_noted_its_end(world: World) -> None:
    gate: list[bool] = []

    def fail() -> None:
        until(lambda: gate, what="the word to go on")
        raise EngineError("Failing", "HTTP 500")

    world.engine.completion = fail
    canaries = Canaries(world.engine)
    canaries.send("1", 5)
    (sent,) = canaries.seen()
    assert (sent.rank, sent.ended_at, sent.outcome) == ("1", None, None)
    canaries.noted(canaries.seen())
    gate.append(True)
    (ended,) = until(lambda: canaries.seen() if canaries.seen()[0].outcome else (), what="its end")
    assert (ended.sent_at, ended.rank) == (sent.sent_at, "1")
    assert (ended.outcome, ended.sentence, ended.cause) == ("failed", "HTTP 500", "Failing")
    canaries.noted((ended,))
    assert canaries.seen() == ()


def test_an_errand_is_run_once_at_a_time_and_its_answer_grows_old() -> None:
    began: list[str] = []

    def work() -> str:
        began.append("answer")
        return "answer"

    errand = Errand("question", work)
    now = time.monotonic()
    errand.run(now, pause=60)
    assert errand.found(now, youth=60, wait=10) == "answer"
    errand.run(now + 1, pause=60)
    assert errand.found(now + 100, youth=60) is None
    assert len(began) == 1


def test_an_errand_that_fails_is_told_and_has_no_answer() -> None:
    errand = Errand("question", lambda: 1 / 0)
    errand.run(time.monotonic(), pause=0)
    assert errand.found(time.monotonic(), youth=60, wait=10) is None
    assert errand.trouble.startswith("question: ZeroDivisionError")


NO_TEMPLATE = (
    "/v1/chat/completions: HTTP 400: As of transformers v4.44, default chat template is no longer allowed, so you must "
    "provide a chat template"
)


def test_an_engine_that_is_let_in_is_asked_for_one_chat_and_what_it_refuses_is_told(world: World) -> None:
    world.log, world.engine.refusal = Log({}, table=table()), NO_TEMPLATE
    world.another({}).look()
    assert world.engine.chats == 0, "it has not completed a prompt"
    world.admitted()
    until(lambda: world.watch.look() is None and world.watch.status.symptoms, what="the symptom")
    assert [one.id for one in world.watch.status.symptoms] == ["NoChatTemplate"]
    assert world.watch.status.ready
    following = world.another(world.handed_on())
    following.look()
    assert [one.id for one in following.status.symptoms] == ["NoChatTemplate"]
    assert world.engine.chats == 1


def test_a_chat_that_is_refused_for_a_reason_that_nobody_knows_is_told_as_well(world: World) -> None:
    world.log, world.engine.refusal = Log({}, table=table()), "/v1/chat/completions: HTTP 400: unexpected '}'"
    world.another({})
    world.admitted()
    until(lambda: world.watch.look() is None and world.watch.status.symptoms, what="the symptom")
    assert [one.id for one in world.watch.status.symptoms] == ["ChatRefused"]


def test_an_engine_that_is_too_busy_for_a_chat_is_asked_again_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "CHAT_PAUSE_SECONDS", 0.0)
    world.log, world.engine.refusal = Log({}, table=table()), EngineError("Busy", "a full queue")
    world.another({})
    world.admitted()
    until(lambda: world.watch.look() is None and world.engine.chats > 1, what="another chat")
    assert (world.watch.status.symptoms, world.watch.status.trouble) == ((), "")


def test_an_engine_that_answers_no_chat_is_asked_soon_at_first_and_seldom_later() -> None:
    assert [watch.chat_pause(unanswered) for unanswered in (0, 1, 2, 3, 4, 5, 6, 1000)] == [
        *(10, 10, 20, 40, 80, 160),
        *(300, 300),
    ]


@pytest.mark.parametrize(
    ("cause", "told"),
    [("WrongModel", "sentence"), ("LoopbackOnly", "sentence"), ("Silent", None), ("Unauthorized", None)],
)
def test_only_a_server_that_says_so_serves_the_wrong_names(world: World, cause: str, told: str | None) -> None:
    def fail(timeout: float, adapters: Iterable[str] | None = None) -> None:  # noqa: ARG001 # the engine's own form
        raise EngineError(cause, "sentence")

    world.engine.check_names = fail  # type: ignore[method-assign] # one answer of the engine
    assert ServedNames(world.engine, SETTINGS, may_load=False).ask() == told


def test_an_engine_that_loads_an_adapter_makes_no_step_and_is_judged_again_afterwards(
    world: World, tmp_path: Path
) -> None:
    file = tmp_path / "adapters.json"
    file.write_text('{"version": "v1", "adapters": []}')
    world.another({}, replace(SETTINGS, adapters_file=str(file), stall_window=0.2, canary_interval=0.1))
    world.admitted()
    file.write_text('{"version": "v2", "adapters": [{"name": "sql", "path": "org/sql"}]}')
    until(lambda: world.watch.look() is None and world.watch._names.loading, what="loading")  # noqa: SLF001

    def fail() -> None:
        raise EngineError("Failing", "no step")

    world.engine.completion, world.engine.moves = fail, False
    until_then = time.monotonic() + 1.5
    while time.monotonic() < until_then:
        assert world.watch.look() is None
        assert world.watch.status.ready
        time.sleep(0.05)
    world.engine.may_load.set()
    until(lambda: world.watch.look() is None and not world.watch.status.ready, what="what lasts is seen")


def test_which_list_is_followed_is_told_and_handed_on(world: World, tmp_path: Path) -> None:
    file = tmp_path / "adapters.json"
    file.write_text('{"version": "v1", "adapters": [{"name": "sql", "path": "org/sql"}]}')
    settings = replace(SETTINGS, adapters_file=str(file))
    world.engine.may_load.set()
    world.another({}, settings)
    world.admitted()
    assert world.watch.status.document()["adapters"] == {"version": "v1", "served": {"sql": ""}, "failed": {}}
    assert world.handed_on()["adapters"] == ["sql"]
    world.another({**world.handed_on(), "adapters": [1, "sql", None]}, settings)
    assert world.watch.look() is None
    assert world.watch.status.ready


def test_the_seconds_of_each_load_phase_go_over_to_the_next_judge(world: World) -> None:
    world.engine.server = REFUSES
    world.log.feed(b"Starting to load model tiny\n", time.monotonic())
    world.watch.look()
    loading = world.watch.status.load_phases
    assert list(loading) == ["Starting", "LoadingWeights"]
    before = loading["Starting"]
    world.another(world.handed_on())
    world.log.feed(b"init engine (profile, create kv cache, warmup model) took 3 s\n", time.monotonic() + 5)
    world.watch.look()
    phases = world.watch.status.load_phases
    assert phases["Starting"] == before
    assert 4 < phases["LoadingWeights"] < 60
    world.engine.server = ANSWERS
    world.admitted()
    over = world.watch.status.load_phases
    assert list(over) == ["Starting", "LoadingWeights", "Warmup"]
    world.watch.look()
    assert world.watch.status.load_phases == over, "an engine that serves is in no phase of its start"


@pytest.mark.parametrize("stored", [None, 3, {"Starting": "x", "LoadingWeights": -1, "OfALaterVersion": 3}])
def test_phases_that_are_not_understood_are_left_out(world: World, stored: object) -> None:
    watch = world.another({"load_phases": stored})
    assert "OfALaterVersion" not in watch.status.load_phases
    assert all(seconds >= 0 for seconds in watch.status.load_phases.values())
