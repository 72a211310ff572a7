"""What the operator relies on in a vLLM server, checked on the stub and on the real engine by the same tests.

If a test fails for the real engine only, vLLM has changed: mend the stub and whatever relied on the old behaviour.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import engine as stub
from tests.support.servers import PATIENCE_SECONDS, REAL_START_SECONDS, EngineServer, cpu_seconds, eventually
from tests.support.tiny_adapter import RANK, write_adapter
from tests.support.vllm_cpu import AS_RELEASED, engine_environment, real_engine
from tests.support.waiting import until
from vllm_operator.manager.engine import Engine, EngineError
from vllm_operator.manager.metrics import read_ranks
from vllm_operator.manager.names import ServedNames
from vllm_operator.manager.settings import POLLED_PATHS, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.engine_kinds import Kind
    from tests.support.servers import Answer

KEY = "key-1"
LENGTH = 2048
SEATS = 4
BUDGET = 128
FLAGS = ("--served-model-name", "tiny", "other", "--max-num-seqs", str(SEATS), "--max-model-len", str(LENGTH))
LIMITS = ("--max-num-batched-tokens", str(BUDGET), "--shutdown-timeout", f"{PATIENCE_SECONDS:.0f}")
UNLOGGED = ("--disable-access-log-for-endpoints", ",".join(POLLED_PATHS))
DEVELOPMENT = {"VLLM_SERVER_DEV_MODE": "1", **AS_RELEASED}
LONG: dict[str, Any] = {"max_tokens": 600, "ignore_eos": True}
"""A request that is in flight for 18 s and longer while the engine is paced."""
GAUGES = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")
COUNTERS = ("prompt_tokens_total", "generation_tokens_total", "num_preemptions_total", "iteration_tokens_total_count")
HISTOGRAMS = ("time_to_first_token_seconds", "inter_token_latency_seconds", "e2e_request_latency_seconds")


@dataclass(frozen=True)
class Start:
    """What was seen while a server loaded: refused connections, then the first answer of /health."""

    server: EngineServer
    refused: int
    first_answer: int


@pytest.fixture(scope="module")
def start(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """The server that most tests share, watched while it loads."""
    folder = tmp_path_factory.mktemp("engine")
    flags = (*FLAGS, *LIMITS, *UNLOGGED)
    with kind.start(*flags, folder=folder, env=DEVELOPMENT, api_key=KEY, wait=False, watched=True) as server:
        refused = 0
        deadline = time.monotonic() + REAL_START_SECONDS
        while not server.listening() and time.monotonic() < deadline and server.process.poll() is None:
            refused += 1
            time.sleep(0.02)
        server.wait_ready(REAL_START_SECONDS)
        yield Start(server=server, refused=refused, first_answer=server.request("GET", "/health").status)


@pytest.fixture
def server(start: Start) -> EngineServer:
    return start.server


def seen_by_manager(server: EngineServer, canary: str = "completions") -> Engine:
    """The manager's view of a server, which listens on the loopback alone in tests."""
    environment = {"VLLM_API_KEY": KEY, "GATE_LOOPBACK": "allowed"}
    return Engine(Settings(gate_port=1, engine_port=server.port, model="tiny", canary=canary), environment)


def is_paused(server: EngineServer) -> bool:
    """What the server says of it."""
    found: bool = server.request("GET", "/is_paused").json()["is_paused"]
    return found


def steps(server: EngineServer) -> float:
    return server.metric("iteration_tokens_total_count")


def in_flight(server: EngineServer) -> tuple[float, float]:
    return server.metric("num_requests_running"), server.metric("num_requests_waiting")


def waiting_by_reason(server: EngineServer) -> tuple[float, float]:
    """Requests that wait for room, and requests that the scheduler has put off."""
    capacity, deferred = (
        server.metric("num_requests_waiting_by_reason", reason=reason) for reason in ("capacity", "deferred")
    )
    return capacity, deferred


# --------------------------------------------------------------------------------------------------------------- start


def test_no_connection_is_taken_before_the_first_request_can_be_answered(start: Start) -> None:
    assert start.refused > 0
    assert start.first_answer == 200


# ---------------------------------------------------------------------------------------------------------------- keys


@pytest.mark.parametrize("path", ["/health", "/ping", "/version", "/metrics", "/load"])
def test_paths_outside_v1_need_no_key(server: EngineServer, path: str) -> None:
    assert server.request("GET", path, headers={"Authorization": ""}).status == 200


@pytest.mark.parametrize("given", ["", "Bearer wrong", KEY, f"Basic {KEY}"])
@pytest.mark.parametrize("path", ["/v1/models", "/v1/unknown"])
def test_paths_under_v1_answer_401_without_the_key(server: EngineServer, path: str, given: str) -> None:
    answer = server.request("GET", path, headers={"Authorization": given})
    assert (answer.status, answer.json()) == (401, {"error": "Unauthorized"})


@pytest.mark.parametrize("body", [{"prompt": "hello"}, {"messages": [{"role": "user", "content": "hello"}]}])
def test_invocations_answers_prompts_and_chats_without_a_key(server: EngineServer, body: dict[str, Any]) -> None:
    """SageMaker's path is not under /v1: what a key guards does not keep anybody from the model."""
    asked = {"model": "tiny", "max_tokens": 2, **body}
    answer = server.request("POST", "/invocations", asked, headers={"Authorization": ""})
    assert answer.status == 200
    assert answer.json()["usage"]["completion_tokens"] == 2


def test_the_scheme_of_the_key_is_read_in_any_case(server: EngineServer) -> None:
    assert server.request("GET", "/v1/models", headers={"Authorization": f"bEARER {KEY}"}).status == 200


# -------------------------------------------------------------------------------------------------------------- answers


def test_models_are_listed_by_their_served_names(server: EngineServer) -> None:
    document = server.request("GET", "/v1/models").json()
    assert document["object"] == "list"
    assert [(card["id"], card["max_model_len"], card["parent"]) for card in document["data"]] == [
        ("tiny", LENGTH, None),
        ("other", LENGTH, None),
    ]


def test_a_completion_has_as_many_tokens_as_were_asked_for(server: EngineServer) -> None:
    document = server.complete("hello there", model="tiny", max_tokens=3).json()
    [choice] = document["choices"]
    assert choice["text"].strip()
    assert choice["finish_reason"] == "length"
    assert document["usage"]["prompt_tokens"] == 11
    assert document["usage"]["completion_tokens"] == 3


@pytest.mark.parametrize("fields", [{}, {"model": "tiny"}, {"model": "other"}])
def test_every_answer_carries_the_first_served_name(server: EngineServer, fields: dict[str, Any]) -> None:
    assert server.complete(**fields).json()["model"] == "tiny"


def test_a_chat_is_answered_by_the_assistant(server: EngineServer) -> None:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 3, "top_k": 5}
    document = server.request("POST", "/v1/chat/completions", body).json()
    [choice] = document["choices"]
    assert document["object"] == "chat.completion"
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"].strip()
    assert document["usage"]["completion_tokens"] == 3


def in_step(ask: Callable[[], Answer], events: int) -> Answer:
    """An answer of so many events; asked again where the server is behind its engine, and puts tokens together."""
    [answer] = until(lambda: [one for one in (ask(),) if len(one.events()) == events], what=f"{events} events")
    return answer


def test_a_streamed_completion_sends_a_chunk_per_token_then_the_usage_then_done(server: EngineServer) -> None:
    with_usage = {"include_usage": True}
    answer = in_step(lambda: server.complete(max_tokens=3, stream=True, stream_options=with_usage), events=5)
    *chunks, usage, done = answer.events()
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, "length"]
    assert all(chunk["choices"][0]["text"] for chunk in chunks)
    assert (usage["choices"], usage["usage"]["completion_tokens"]) == ([], 3)
    assert done == "[DONE]"


def test_a_streamed_chat_opens_with_the_role(server: EngineServer) -> None:
    body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 2, "stream": True}
    answer = in_step(lambda: server.request("POST", "/v1/chat/completions", body), events=4)
    first, *chunks, done = answer.events()
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, "length"]
    assert all(chunk["choices"][0]["delta"]["content"] for chunk in chunks)
    assert done == "[DONE]"


def test_a_max_tokens_beyond_the_context_only_shortens_the_answer(server: EngineServer) -> None:
    document = server.complete("a" * (LENGTH - 10), max_tokens=50, ignore_eos=True).json()
    assert document["choices"][0]["finish_reason"] == "length"
    assert document["usage"]["completion_tokens"] == 10


def test_an_unknown_model_is_named_in_a_404(server: EngineServer) -> None:
    answer = server.complete(model="nobody")
    error = answer.json()["error"]
    assert (answer.status, error["code"], error["type"], error["param"]) == (404, 404, "NotFoundError", "model")
    assert error["message"] == "The model `nobody` does not exist. Valid aliases: tiny, other."


@pytest.mark.parametrize(
    ("path", "body", "kind_of_error", "param"),
    [
        ("/v1/completions", {"max_tokens": 1}, "BadRequestError", "prompt"),
        ("/v1/completions", {"prompt": "a", "max_tokens": 0}, "BadRequestError", "max_tokens"),
        ("/v1/completions", {"prompt": "a", "max_tokens": LENGTH + 1}, "BadRequestError", "max_tokens"),
        ("/v1/completions", {"prompt": "a", "max_tokens": "x"}, "Bad Request", "body.max_tokens"),
        ("/v1/completions", {"prompt": "a" * LENGTH, "max_tokens": 1}, "BadRequestError", "max_tokens"),
        ("/v1/completions", {"prompt": "a" * (LENGTH + 1)}, "BadRequestError", "input_tokens"),
        ("/v1/chat/completions", {"messages": []}, "BadRequestError", None),
        ("/v1/chat/completions", {}, "Bad Request", "body.messages"),
    ],
)
def test_a_bad_request_answers_400_and_names_the_field(
    server: EngineServer, path: str, body: dict[str, object], kind_of_error: str, param: str | None
) -> None:
    answer = server.request("POST", path, {"model": "tiny", **body})
    error = answer.json()["error"]
    assert (answer.status, error["code"], error["type"], error["param"]) == (400, 400, kind_of_error, param)
    assert error["message"]


def test_a_request_can_be_sent_to_a_rank_and_a_rank_that_is_not_there_is_refused(server: EngineServer) -> None:
    body = {"model": "tiny", "prompt": "a", "max_tokens": 1}
    answers = [
        server.request("POST", "/v1/completions", body, headers={"X-data-parallel-rank": rank}) for rank in ("0", "1")
    ]
    assert [answer.status for answer in answers] == [200, 400]
    assert answers[1].json()["error"]["message"] == "data_parallel_rank 1 is out of range [0, 1)."


@pytest.mark.parametrize(
    ("method", "path", "status", "detail"),
    [
        ("GET", "/nothing", 404, "Not Found"),
        ("POST", "/health", 405, "Method Not Allowed"),
        ("POST", "/v1/embeddings", 404, "Not Found"),
        ("POST", "/v1/load_lora_adapter", 404, "Not Found"),
    ],
)
def test_paths_that_the_model_or_the_flags_do_not_offer_are_not_there(
    server: EngineServer, method: str, path: str, status: int, detail: str
) -> None:
    answer = server.request(method, path, {} if method == "POST" else None)
    assert (answer.status, answer.json()) == (status, {"detail": detail})


# -------------------------------------------------------------------------------------------------------------- pooling

POOLED = {"model": "tiny", "input": "a"}
RESULTS = {"/v1/embeddings": "embedding", "/classify": "probs", "/pooling": "data"}
OFFERED = {"embed": ("/v1/embeddings", "/pooling"), "classify": ("/classify", "/pooling")}
CANARIES = {"embed": ("embeddings", "pooling"), "classify": ("classify", "pooling")}
HEAD = ("--hf-overrides", '{"classifier_from_token": ["a", "b"], "method": "no_post_processing"}')
"""Where the weights have no head for classes, vLLM takes whatever was in that memory; not every number of it is one."""
HEADS = {"embed": (), "classify": HEAD}


@pytest.fixture(scope="module", params=["embed", "classify"])
def converted(request: pytest.FixtureRequest) -> str:
    """What the model is made into; --runner auto then resolves to pooling."""
    return str(request.param)


@pytest.fixture(scope="module")
def poolers(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, EngineServer]]:
    """Servers whose models pool, by what they were made into. They load side by side: one core each is all they use."""
    with contextlib.ExitStack() as running:
        servers = {
            made: running.enter_context(
                kind.start(
                    *FLAGS,
                    *("--convert", made, *HEADS[made]),
                    folder=tmp_path_factory.mktemp("pooler"),
                    api_key=KEY,
                    wait=False,
                ),
            )
            for made in OFFERED
        }
        for server in servers.values():
            server.wait_ready(REAL_START_SECONDS)
        yield servers


@pytest.fixture
def pooler(poolers: dict[str, EngineServer], converted: str) -> EngineServer:
    """A server whose model pools."""
    return poolers[converted]


def test_a_pooling_model_answers_numbers_under_its_paths_and_knows_no_others(
    pooler: EngineServer, converted: str
) -> None:
    for path in (*RESULTS, "/v1/completions", "/v1/chat/completions"):
        answer = pooler.request("POST", path, POOLED)
        if path not in OFFERED[converted]:
            assert (answer.status, answer.body) == (404, b'{"detail":"Not Found"}'), path
            continue
        document = answer.json()
        [entry] = document["data"]
        assert (answer.status, document["object"], document["model"], entry["index"]) == (200, "list", "tiny", 0), path
        assert all(isinstance(number, float) for number in entry[RESULTS[path]]), path
        assert (len(entry[RESULTS[path]]) == 2) is (converted == "classify")
        assert document["usage"]["completion_tokens"] == 0


def test_the_canaries_of_the_manager_are_answered(pooler: EngineServer, converted: str) -> None:
    for canary in CANARIES[converted]:
        seen_by_manager(pooler, canary).complete(20)


def test_only_the_pooling_paths_under_v1_ask_for_the_key(pooler: EngineServer, converted: str) -> None:
    for path in OFFERED[converted]:
        status = 401 if path.startswith("/v1/") else 200
        assert pooler.request("POST", path, POOLED, headers={"Authorization": ""}).status == status, path


def test_an_unknown_model_is_a_404_for_pooling_too(pooler: EngineServer) -> None:
    answer = pooler.request("POST", "/pooling", {**POOLED, "model": "nobody"})
    error = answer.json()["error"]
    assert (answer.status, error["type"], error["param"]) == (404, "NotFoundError", None)
    assert error["message"] == "The model `nobody` does not exist."


def test_pooling_moves_the_step_counter_and_makes_no_tokens(pooler: EngineServer) -> None:
    before, ended = steps(pooler), pooler.metric("request_success_total", finished_reason="stop")
    assert pooler.request("POST", "/pooling", POOLED).status == 200
    assert eventually(lambda: steps(pooler) == before + 1)
    assert pooler.metric("request_success_total", finished_reason="stop") == ended + 1
    assert pooler.metric("generation_tokens_total") == 0


# -------------------------------------------------------------------------------------------------------------- metrics


def test_metrics_have_the_names_and_labels_that_gates_and_dashboards_read(server: EngineServer) -> None:
    server.complete()
    text = server.request("GET", "/metrics").text
    for name in (*GAUGES, *COUNTERS, *(f"{name}_bucket" for name in HISTOGRAMS)):
        lines = [line for line in text.splitlines() if line.startswith(f"vllm:{name}{{")]
        assert lines, name
        assert all('engine="0"' in line and 'model_name="tiny"' in line for line in lines), lines
    for reason in ("stop", "length", "abort"):
        assert server.metric("request_success_total", finished_reason=reason) >= 0
    for reason in ("capacity", "deferred"):
        assert server.metric("num_requests_waiting_by_reason", reason=reason) == 0


@pytest.mark.parametrize("tokens", [1, 7])
def test_the_step_counter_moves_once_per_token_of_a_lone_request(server: EngineServer, tokens: int) -> None:
    before, made = steps(server), server.metric("generation_tokens_total")
    ended = server.metric("request_success_total", finished_reason="length")
    server.complete("ab", max_tokens=tokens, ignore_eos=True)
    assert eventually(lambda: steps(server) == before + tokens)
    assert server.metric("generation_tokens_total") == made + tokens
    assert server.metric("request_success_total", finished_reason="length") == ended + 1


def test_a_prompt_that_takes_several_steps_moves_the_step_counter_only_with_its_first_token(
    server: EngineServer,
) -> None:
    before, read = steps(server), server.metric("prompt_tokens_total")
    server.complete("".join(chr(97 + at % 26) for at in range(BUDGET * 5)), max_tokens=1)
    assert eventually(lambda: steps(server) == before + 1)
    assert server.metric("prompt_tokens_total") == read + BUDGET * 5


def test_requests_beyond_max_num_seqs_wait_and_steps_go_on(kind: Kind, server: EngineServer) -> None:
    with ThreadPoolExecutor(SEATS + 3) as pool:
        with kind.paced(server):
            calls = [pool.submit(server.complete, timeout=PATIENCE_SECONDS, **LONG) for _ in range(SEATS + 3)]
            assert eventually(lambda: in_flight(server) == (SEATS, 3))
            assert waiting_by_reason(server) == (3, 0)
            before = steps(server)
            assert eventually(lambda: steps(server) > before)
        assert [call.result().status for call in calls] == [200] * (SEATS + 3)
    assert eventually(lambda: in_flight(server) == (0, 0))


def test_a_client_that_leaves_frees_its_place(server: EngineServer) -> None:
    with pytest.raises(TimeoutError):
        server.complete(timeout=0.3, max_tokens=LENGTH - 10, ignore_eos=True)
    assert eventually(lambda: in_flight(server) == (0, 0), seconds=20)


# ------------------------------------------------------------------------------------------------------ odd, and sound


def big_schema() -> dict[str, Any]:
    """A response format whose grammar takes the real engine more than a second, also with its tiny vocabulary."""
    strings = {f"s{number}": {"type": "string"} for number in range(30)}
    parts = {f"o{number}": {"type": "object", "properties": strings} for number in range(300)}
    schema = {"type": "object", "properties": parts}
    return {"type": "json_schema", "json_schema": {"name": "big", "schema": schema}}


def test_a_request_that_waits_for_its_grammar_is_deferred_without_a_step_and_stands_in_nobodys_way(
    kind: Kind, server: EngineServer
) -> None:
    before = steps(server)
    with kind.slow_grammars(server):
        call = server.request_later("POST", "/v1/completions", {"prompt": "a", "response_format": big_schema()})
        assert eventually(lambda: waiting_by_reason(server) == (0, 1))
        assert (in_flight(server), steps(server)) == ((0, 1), before)
        assert not read_ranks(server.request("GET", "/metrics").body)["0"].in_flight
        seen_by_manager(server).complete(9)
        assert steps(server) == before + 1
        assert waiting_by_reason(server) == (0, 1)
        assert call.result().status == 200
    assert eventually(lambda: waiting_by_reason(server) == (0, 0))


@pytest.mark.parametrize(
    ("sleep", "wake", "awake"), [("/sleep?level=0", "/wake_up", 0), ("/pause", "/resume", 1)], ids=["asleep", "paused"]
)
def test_an_engine_that_sleeps_or_is_paused_ends_what_it_has_and_completes_nothing(
    kind: Kind, server: EngineServer, sleep: str, wake: str, awake: int
) -> None:
    engine = seen_by_manager(server)
    assert is_paused(server) is False
    with kind.paced(server):
        call = server.request_later("POST", "/v1/completions", {"prompt": "a", **LONG})
        assert eventually(lambda: in_flight(server) == (1, 0))
        assert server.request("POST", sleep).status == 200
    assert call.result().json()["choices"][0]["finish_reason"] == "abort"
    before = steps(server)
    assert (server.metric("engine_sleep_state", sleep_state="awake"), is_paused(server)) == (awake, True)
    assert server.request("GET", "/health").status == 200
    with pytest.raises(EngineError) as failure:
        engine.complete(1)
    assert failure.value.cause == "Silent"
    assert read_ranks(server.request("GET", "/metrics").body)["0"].asleep is (awake == 0)
    assert (in_flight(server), steps(server)) == ((0, 0), before)
    assert server.request("POST", wake).status == 200
    engine.complete(9)
    assert (server.metric("engine_sleep_state", sleep_state="awake"), is_paused(server)) == (1, False)


def test_a_pause_that_keeps_requests_freezes_their_gauges(kind: Kind, server: EngineServer) -> None:
    with kind.paced(server):
        call = server.request_later("POST", "/v1/completions", {"prompt": "a", **LONG})
        assert eventually(lambda: in_flight(server) == (1, 0))
        server.request("POST", "/pause?mode=keep")
    before = steps(server)
    time.sleep(0.5)
    assert (in_flight(server), steps(server), is_paused(server)) == ((1, 0), before, True)
    server.request("POST", "/resume")
    assert call.result().json()["choices"][0]["finish_reason"] == "length"


def test_a_hung_engine_does_not_say_whether_it_is_paused(kind: Kind, server: EngineServer) -> None:
    with kind.hung_engine(server), pytest.raises(TimeoutError):
        server.request("GET", "/is_paused", timeout=1)
    assert eventually(lambda: is_paused(server) is False)


def test_the_access_log_leaves_out_the_paths_that_it_is_told_and_no_others(server: EngineServer) -> None:
    for path in ("/health", "/metrics", "/metrics?a=b", "/is_paused", "/ping", "/v1/models"):
        server.request("GET", path)
    assert eventually(lambda: 'GET /v1/models HTTP/1.1" 200 OK' in server.log())
    assert 'GET /ping HTTP/1.1" 200 OK' in server.log()
    assert not [line for line in server.log().splitlines() if re.search("GET /(health|metrics|is_paused)", line)]


LONG_STEP_SECONDS = 2.0
SPIN_SECONDS = 1.5
"""A core that waits for its worker spins for a second before it sleeps."""


def child_named(server: EngineServer, name: str) -> bool:
    """Whether a program of that name runs among the engine's processes."""
    for number in server.children():
        with contextlib.suppress(OSError):
            if Path(f"/proc/{number}/comm").read_text(encoding="utf-8").strip() == name:
                return True
    return False


@pytest.mark.parametrize("computes", [True, False], ids=["computing", "waiting"])
def test_a_long_step_shows_in_no_counter_and_its_cpu_time_tells_whether_it_computes(
    kind: Kind, server: EngineServer, *, computes: bool
) -> None:
    begun = kind.slow_step(server, SPIN_SECONDS + 2 * LONG_STEP_SECONDS, computes=computes)
    before, processes = steps(server), server.titled("VLLM::EngineCore", "VLLM::Worker")
    call = server.request_later("POST", "/v1/completions", {"prompt": "a", "max_tokens": 1})
    assert eventually(begun)
    time.sleep(SPIN_SECONDS)
    used = cpu_seconds(*processes)
    assert eventually(lambda: cpu_seconds(*processes) - used > LONG_STEP_SECONDS / 8, LONG_STEP_SECONDS) is computes
    assert (in_flight(server), steps(server)) == ((0, 0), before), "a request is in no gauge before its first step ends"
    assert server.request("GET", "/health").status == 200
    assert call.result().status == 200
    assert eventually(lambda: steps(server) == before + 1)


def test_a_compilation_while_serving_shows_as_a_compiler_among_the_processes_and_in_the_log(
    kind: Kind, server: EngineServer
) -> None:
    kind.slow_step(server, LONG_STEP_SECONDS, computes=True, compiler="ptxas")
    call = server.request_later("POST", "/v1/completions", {"prompt": "a", "max_tokens": 1})
    assert eventually(lambda: child_named(server, "ptxas"))
    assert call.result().status == 200
    assert re.search(r"\(Worker.* WARNING .* kernel JIT compilation during inference: \w+\. This causes", server.log())
    assert not child_named(server, "ptxas")


def test_the_first_step_after_idling_can_take_long(kind: Kind, server: EngineServer) -> None:
    server.complete()
    kind.slow_first_step(server, LONG_STEP_SECONDS, after=0.5)
    time.sleep(0.6)
    began = time.monotonic()
    assert server.complete().status == 200
    assert time.monotonic() - began >= LONG_STEP_SECONDS
    assert server.complete().status == 200


def test_a_blocked_event_loop_answers_nothing_and_computes_while_the_core_makes_steps(
    kind: Kind, server: EngineServer
) -> None:
    with kind.paced(server):
        call = server.request_later("POST", "/v1/completions", {"prompt": "a", **LONG})
        assert eventually(lambda: in_flight(server) == (1, 0))
        before, used = steps(server), cpu_seconds(server.process.pid)
        kind.block_server(server, 3 * LONG_STEP_SECONDS)
        assert is_silent(server)
        assert eventually(lambda: not is_silent(server))
        assert cpu_seconds(server.process.pid) - used > LONG_STEP_SECONDS / 4
        assert steps(server) > before + 5
    assert call.result().status == 200


def is_silent(server: EngineServer) -> bool:
    """Whether it leaves a plain question unanswered."""
    try:
        return server.request("GET", "/version", timeout=0.5).status != 200
    except TimeoutError:
        return True


def test_a_server_without_statistics_has_no_metrics_of_its_engine_and_several_servers_share_the_clients(
    kind: Kind, tmp_path: Path
) -> None:
    flags = ("--served-model-name", "tiny", "--max-model-len", str(LENGTH), "--disable-log-stats")
    with kind.start(*flags, "--api-server-count", "2", folder=tmp_path) as server:
        assert server.complete(model="tiny").status == 200
        metrics = server.request("GET", "/metrics")
        assert metrics.status == 200
        assert "vllm:num_requests_running" not in metrics.text
        assert "vllm:iteration_tokens_total_count" not in metrics.text
        assert eventually(lambda: kind.api_servers(server) == 2, REAL_START_SECONDS), "the first one answers before"
        with contextlib.ExitStack() as kept:
            clients = [kept.enter_context(kept_connection(server)) for _ in range(8)]
            for client in clients:
                assert asked(client) == 200
            for number in (0, 1):
                with kind.hung_api_server(server, number):
                    clients = [client for client in clients if asked(client) == 200]
                    assert server.complete(model="tiny").status == 200, "a new connection is taken by the other one"
            assert clients == [], "each belongs to one of the two"


@contextlib.contextmanager
def kept_connection(server: EngineServer) -> Iterator[http.client.HTTPConnection]:
    """A connection that lasts for several requests."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=1)
    try:
        yield connection
    finally:
        connection.close()


def asked(connection: http.client.HTTPConnection) -> int | None:
    """The status of a plain question; None where it is not answered."""
    try:
        connection.request("GET", "/version")
        answer = connection.getresponse()
        answer.read()
    except TimeoutError:
        return None
    return answer.status


# ---------------------------------------------------------------------------------------------------------------- hangs


def test_an_engine_that_hangs_while_idle_shows_in_nothing_but_completions(kind: Kind, server: EngineServer) -> None:
    before = steps(server)
    with kind.hung_engine(server):
        with pytest.raises(TimeoutError):
            server.complete(timeout=1.5)
        assert server.request("GET", "/health").status == 200
        assert server.request("GET", "/v1/models").status == 200
        assert in_flight(server) == (0, 0)
        assert steps(server) == before
    assert server.complete().status == 200


def test_a_rank_that_hangs_while_idle_shows_in_nothing_but_a_completion_that_is_sent_to_it(
    kind: Kind, tmp_path: Path
) -> None:
    flags = ("--served-model-name", "tiny", "--max-model-len", str(LENGTH), "--data-parallel-size", "2")
    with kind.start(*flags, folder=tmp_path) as server, contextlib.closing(seen_by_manager(server)) as engine:
        assert engine.sample(20).ranks is not None, "which names the ranks"
        engine.complete(9, "0")
        engine.complete(9, "1")
        with kind.hung_rank(server, 1):
            for _ in range(3):
                engine.complete(9, "0")
                with pytest.raises(EngineError) as failure:
                    engine.complete(1.5, "1")
                assert failure.value.cause == "Silent"
            assert in_flight(server) == (0, 0)
        engine.complete(9, "1")


def test_an_engine_that_hangs_under_load_keeps_its_gauges_and_its_counters(kind: Kind, server: EngineServer) -> None:
    with ThreadPoolExecutor(3) as pool:
        with kind.paced(server):
            calls = [pool.submit(server.complete, timeout=PATIENCE_SECONDS, **LONG) for _ in range(3)]
            assert eventually(lambda: in_flight(server) == (3, 0))
            with kind.hung_engine(server):
                time.sleep(0.5)
                before = steps(server)
                with pytest.raises(TimeoutError):
                    server.complete(timeout=1.5)
                assert server.request("GET", "/health").status == 200
                assert in_flight(server) == (3, 0)
                assert steps(server) == before
        assert [call.result().status for call in calls] == [200] * 3


def test_a_server_that_hangs_takes_connections_and_answers_nothing(kind: Kind, server: EngineServer) -> None:
    with kind.hung_server(server):
        assert server.listening()
        with pytest.raises(TimeoutError):
            server.request("GET", "/health", timeout=1)
    assert server.request("GET", "/health").status == 200


# ------------------------------------------------------------------------------------------------------------------ end


def test_sigterm_with_a_shutdown_timeout_drains(kind: Kind, server: EngineServer) -> None:
    """Uses up the shared server: keep it behind the tests that need it."""
    with ThreadPoolExecutor(2) as pool:
        with kind.paced(server):
            calls = [pool.submit(server.complete, timeout=PATIENCE_SECONDS, **LONG) for _ in range(2)]
            assert eventually(lambda: in_flight(server) == (2, 0), seconds=60)
            server.terminate()
            assert eventually(lambda: server.complete().status == 500, seconds=20)
            assert server.request("GET", "/health").status == 200
        for call in calls:
            document = call.result().json()
            assert document["choices"][0]["finish_reason"] == "length"
            assert document["usage"]["completion_tokens"] == LONG["max_tokens"]
        assert server.wait_exit() == 0


@pytest.fixture(scope="module")
def lora(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineServer]:
    """A server that loads adapters while it runs. The last test ends it."""
    folder = tmp_path_factory.mktemp("lora")
    flags = (*FLAGS, "--enable-lora", "--max-loras", "2", "--max-lora-rank", str(RANK))
    with kind.start(*flags, folder=folder, env={"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"}) as server:
        yield server


def adapter(folder: Path, rank: int = RANK) -> str:
    """The folder of an adapter of the tiny model that says it has this rank."""
    folder.mkdir()
    write_adapter(folder)
    config = folder / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "r": rank}))
    return str(folder)


def adapters_of(server: EngineServer) -> dict[str, str]:
    """The adapters that are listed, each with the path that it was loaded from."""
    return {one["id"]: one["root"] for one in server.request("GET", "/v1/models").json()["data"] if one["parent"]}


def test_adapters_come_and_go_while_requests_are_served_and_are_refused_in_these_words(
    kind: Kind, lora: EngineServer, tmp_path: Path
) -> None:
    one, two, wide = (adapter(tmp_path / name, rank) for name, rank in (("1", RANK), ("2", RANK), ("w", 2 * RANK)))
    file = tmp_path / "adapters.json"
    settings = Settings(gate_port=1, engine_port=lora.port, model="tiny", adapters_file=str(file))
    allowed = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True", "GATE_LOOPBACK": "allowed"}
    names = ServedNames(Engine(settings, allowed), settings, may_load=True)

    def follow(version: str, **places: str) -> Any:
        listed = [{"name": name, "path": path} for name, path in places.items()]
        file.write_text(json.dumps({"version": version, "adapters": listed}))
        assert names.ask(admitted=True) == ""
        assert names.told["version"] == version
        return names.told["failed"]

    assert follow("v1", sql=one) == {}
    assert adapters_of(lora) == {"sql": one}
    assert lora.complete(model="sql").json()["model"] == "sql"
    with ThreadPoolExecutor(1) as pool, kind.paced(lora):
        call = pool.submit(lora.complete, model="sql", timeout=PATIENCE_SECONDS, **LONG)
        assert eventually(lambda: in_flight(lora) == (1, 0))
        failed = follow("v2", sql=two, legal=one, wide=wide, none=str(tmp_path / "none"))
        assert adapters_of(lora) == {"sql": two, "legal": one}
        assert f"LoRA rank {2 * RANK} is greater than max_lora_rank {RANK}." in failed["wide"]
        assert "Loading lora none failed: No adapter found for <path>" in failed["none"]
        assert follow("v3") == {}
        assert adapters_of(lora) == {}
        gone = lora.complete(model="sql")
        assert (gone.status, gone.json()["error"]["code"]) == (404, 404)
        assert in_flight(lora)[0] == 1, "what was asked before goes on"
    answer = call.result()
    assert (answer.status, answer.json()["usage"]["completion_tokens"]) == (200, LONG["max_tokens"])
    assert follow("v1", sql=one) == {}
    assert lora.complete(model="sql").status == 200


def test_an_engine_that_is_killed_fails_its_requests_and_the_process_exits_with_0(
    kind: Kind, lora: EngineServer
) -> None:
    with ThreadPoolExecutor(1) as pool, kind.paced(lora):
        call = pool.submit(lora.complete, timeout=PATIENCE_SECONDS, **LONG)
        assert eventually(lambda: in_flight(lora) == (1, 0))
        kind.kill_engine(lora)
        answer = call.result()
        assert answer.status == 500
        assert "EngineCore encountered an issue" in answer.json()["error"]["message"]
        with contextlib.suppress(OSError):
            assert lora.request("GET", "/health").status == 503
        assert lora.wait_exit(15) == 0


WRONG: dict[tuple[str, ...], tuple[int, str]] = {
    ("--swap-space", "4"): (2, "unrecognized arguments: --swap-space 4"),
    ("--max-model-len", "999999"): (1, "User-specified max_model_len (999999) is greater than the derived"),
    ("--runner", "pooling", "--convert", "none"): (1, "This model does not support `--runner pooling`."),
    ("--runner", "generate", "--convert", "embed"): (1, "Engine core initialization failed"),
}
"""Flags with which no server starts, the exit code, and what its log says."""


@pytest.fixture(scope="module")
def wrong(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[tuple[str, ...], EngineServer]]:
    """Servers that were started with wrong flags, by these. They end side by side."""
    with contextlib.ExitStack() as running:
        yield {
            flags: running.enter_context(kind.start(*flags, folder=tmp_path_factory.mktemp("wrong"), wait=False))
            for flags in WRONG
        }


@pytest.mark.parametrize("flags", WRONG, ids=" ".join)
def test_a_wrong_flag_ends_the_start(wrong: dict[tuple[str, ...], EngineServer], flags: tuple[str, ...]) -> None:
    code, text = WRONG[flags]
    assert wrong[flags].wait_exit(REAL_START_SECONDS) == code
    assert text in wrong[flags].log()


@pytest.mark.real_vllm
def test_the_real_engine_knows_every_flag_of_the_stub(tmp_path: Path) -> None:
    command = [str(real_engine().require().command), "serve", "--help=all"]
    environment = {"PATH": "/usr/bin:/bin", **engine_environment(tmp_path)}
    known = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    accepted = {flag for flag in stub.flags() if flag.startswith("--")}
    assert len(accepted) > 80
    assert sorted(flag for flag in accepted if flag not in known) == []
