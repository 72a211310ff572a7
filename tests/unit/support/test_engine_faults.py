"""What the stub does on demand, where no real engine can be compared."""

from __future__ import annotations

import ast
import http.client
import json
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.servers import ENGINE, EngineServer, cpu_seconds, eventually, free_port, stub_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.slow

NAMES = ("--served-model-name", "tiny")
BUSY_BODY = {"max_tokens": 500, "ignore_eos": True}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineServer]:
    with stub_server(*NAMES, "--data-parallel-size", "2", folder=tmp_path_factory.mktemp("engine")) as server:
        yield server


@pytest.fixture
def server(shared: EngineServer) -> Iterator[EngineServer]:
    """An engine with two data-parallel ranks; its faults end with the test."""
    yield shared
    shared.request("DELETE", "/stub/faults")


def test_faults_are_shown_changed_and_ended(server: EngineServer) -> None:
    server.faults(hang_engine=True, answer="x")
    shown = server.request("GET", "/stub/faults").json()
    assert (shown["hang_engine"], shown["answer"]) == (True, "x")
    ended = server.request("DELETE", "/stub/faults").json()
    assert (ended["hang_engine"], ended["answer"]) == (False, None)


def test_an_unknown_fault_is_refused_and_changes_nothing(server: EngineServer) -> None:
    with pytest.raises(ValueError, match="no fault named hang_everything"):
        server.faults(answer="x", hang_everything=True)
    assert server.request("GET", "/stub/faults").json()["answer"] is None


@pytest.mark.parametrize(
    ("faults", "status", "text"),
    [
        ({"fail": {"status": 500, "message": "boom"}}, 500, '"message":"boom"'),
        ({"fail": {"status": 418, "body": {"a": 1}}}, 418, '{"a":1}'),
        ({"fail": {"status": 500, "path": "/v1/chat/completions"}}, 200, "tiny"),
        ({"answer": ""}, 200, '"text":""'),
        ({"served_names": ["wrong"]}, 404, "The model `tiny` does not exist."),
    ],
)
def test_completions_fail_as_told(server: EngineServer, faults: dict[str, Any], status: int, text: str) -> None:
    server.faults(**faults)
    answer = server.complete(model="tiny")
    assert answer.status == status
    assert text in answer.text


def test_metrics_break_as_told_while_completions_go_on(server: EngineServer) -> None:
    server.faults(metrics_status=500)
    assert server.request("GET", "/metrics").status == 500
    server.faults(metrics_status=200, metrics_prefix="new:")
    assert "new:iteration_tokens_total_count" in server.request("GET", "/metrics").text
    server.faults(metrics_prefix="vllm:", metrics_seconds=5)
    with pytest.raises(TimeoutError):
        server.request("GET", "/metrics", timeout=0.3)
    assert server.complete().status == 200


def test_one_of_two_ranks_hangs_and_half_of_the_requests_with_it(server: EngineServer) -> None:
    server.faults(hang_engine=[1])
    outcomes = []
    for _ in range(4):
        try:
            outcomes.append(server.complete(timeout=0.5).status)
        except TimeoutError:
            outcomes.append(0)
    assert sorted(outcomes) == [0, 0, 200, 200]
    counted = [server.metric("iteration_tokens_total_count", engine=str(number)) for number in range(2)]
    server.faults(step_seconds=0.01)
    assert server.metric("iteration_tokens_total_count", engine="1") == counted[1]


def test_a_request_may_choose_its_rank(server: EngineServer) -> None:
    counted = server.metric("iteration_tokens_total_count", engine="1")
    for _ in range(3):
        assert (
            server.request("POST", "/v1/completions", {"prompt": "a"}, headers={"X-data-parallel-rank": "1"}).status
            == 200
        )
    assert server.metric("iteration_tokens_total_count", engine="1") > counted + 2


def test_a_hung_server_still_takes_its_faults_back(server: EngineServer) -> None:
    server.faults(hang_server=True)
    with pytest.raises(TimeoutError):
        server.request("GET", "/health", timeout=0.3)
    server.faults(hang_server=False)
    assert server.request("GET", "/health").status == 200


def test_sigterm_does_not_end_a_server_that_hangs_or_loads(tmp_path: Path) -> None:
    with stub_server(*NAMES, folder=tmp_path, env={"STUB_LOAD_SECONDS": "1"}, wait=False) as server:
        assert eventually(lambda: "Initializing" in server.log())
        server.terminate()
        server.wait_ready(20)
        server.faults(hang_server=True)
        server.terminate()
        with pytest.raises(TimeoutError):
            server.request("GET", "/health", timeout=0.5)
        assert server.process.poll() is None
        server.faults(hang_server=False)
        assert server.wait_exit() == 0


def test_a_failed_start_buries_its_cause_under_the_wrapper(tmp_path: Path) -> None:
    env = {"STUB_START_FAILURE": "ValueError: No available memory for the cache blocks.", "STUB_EXIT_CODE": "3"}
    with stub_server(folder=tmp_path, env=env, wait=False) as server:
        assert server.wait_exit() == 3
        lines = server.log().splitlines()
    [cause] = [number for number, line in enumerate(lines) if "No available memory for the cache blocks" in line]
    assert "Engine core initialization failed. See root cause above" in lines[-1]
    assert len("\n".join(lines[cause + 1 :])) > 4096


@pytest.mark.parametrize(
    ("flags", "env", "text"),
    [
        ((), {"VLLM_PORT": "tcp://10.0.0.1:8000"}, "appears to be a URI"),
        (("--enable-auto-tool-choice",), {}, "requires --tool-call-parser"),
        (("--chat-template", "/nowhere.jinja"), {}, "appears path-like, but doesn't exist"),
        (("--enable-lora", "--lora-modules", "a=/nowhere"), {}, "No adapter found for /nowhere"),
    ],
)
def test_a_start_that_vllm_refuses_ends_with_1(
    tmp_path: Path, flags: tuple[str, ...], env: dict[str, str], text: str
) -> None:
    with stub_server(*flags, folder=tmp_path, env=env, wait=False) as server:
        assert server.wait_exit() == 1
        assert text in server.log()


def test_a_process_crashes_with_the_code_and_the_words_that_it_is_told(tmp_path: Path) -> None:
    with stub_server(folder=tmp_path) as server:
        with pytest.raises(OSError, match=r".*"):
            server.faults(log="NCCL error: unhandled system error", exit=134)
        assert server.wait_exit() == 134
        assert "NCCL error: unhandled system error" in server.log()


def test_without_a_shutdown_timeout_requests_in_flight_are_aborted(tmp_path: Path) -> None:
    with stub_server(folder=tmp_path) as server:
        answers = server.request_later("POST", "/v1/completions", {"prompt": "a", **BUSY_BODY})
        assert eventually(lambda: server.metric("num_requests_running") == 1)
        server.terminate()
        assert answers.result().json()["choices"][0]["finish_reason"] == "abort"
        assert server.wait_exit() == 0


def test_adapters_come_and_go_under_their_own_names(tmp_path: Path) -> None:
    env = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}
    with stub_server(*NAMES, "--enable-lora", folder=tmp_path, env=env) as server:
        body = {"lora_name": "poet", "lora_path": str(tmp_path)}
        assert server.request("POST", "/v1/load_lora_adapter", body).status == 200
        assert server.complete(model="poet").json()["model"] == "poet"
        assert server.request("POST", "/v1/load_lora_adapter", body).status == 400
        assert (
            server.request("POST", "/v1/load_lora_adapter", {**body, "lora_name": "b", "lora_path": "/no"}).status
            == 404
        )
        assert server.request("POST", "/v1/unload_lora_adapter", {"lora_name": "poet"}).status == 200
        assert server.complete(model="poet").status == 404


def test_a_queue_limit_answers_503(tmp_path: Path) -> None:
    with stub_server("--max-num-queued-reqs", "1", folder=tmp_path) as server:
        first = server.request_later("POST", "/v1/completions", {"prompt": "a", **BUSY_BODY})
        assert eventually(lambda: server.metric("num_requests_running") == 1)
        refused = server.complete()
        assert (refused.status, refused.json()["error"]["type"]) == (503, "Service Unavailable")
        assert server.metric("admission_rejections_total", reason="max_num_queued_reqs") == 1
        server.faults(step_seconds=0.0)
        assert first.result().status == 200


def test_a_pooling_model_embeds_and_does_not_complete(tmp_path: Path) -> None:
    with stub_server("--runner", "pooling", folder=tmp_path) as server:
        document = server.request("POST", "/v1/embeddings", {"input": ["a", "b"]}).json()
        assert [len(item["embedding"]) for item in document["data"]] == [8, 8]
        assert document["data"][0]["embedding"] != document["data"][1]["embedding"]
        assert server.complete().status == 404


def test_a_headless_worker_serves_no_http_and_ends_at_sigterm(tmp_path: Path) -> None:
    flags = ("--headless", "--nnodes", "2", "--node-rank", "1", "--master-addr", "127.0.0.1")
    with stub_server(*flags, folder=tmp_path, wait=False) as server:
        assert eventually(lambda: "init engine" in server.log())
        assert not server.listening()
        server.terminate()
        assert server.wait_exit() == 0


def test_a_worker_takes_part_only_in_the_group_of_the_leader_that_it_has_joined(tmp_path: Path) -> None:
    """A leader that counted a worker of the pod before it would serve, and stand still as soon as that one is gone."""
    group = ("--nnodes", "2", "--master-addr", "127.0.0.1", "--master-port", str(free_port()))
    worker = (*group, "--node-rank", "1", "--headless")
    with stub_server(*worker, folder=tmp_path, wait=False):
        with stub_server(*group, folder=tmp_path) as leader:
            assert leader.complete().status == 200
        with stub_server(*group, folder=tmp_path, wait=False) as leader:
            assert not eventually(leader.listening, seconds=3)
            with stub_server(*worker, folder=tmp_path, wait=False):
                assert eventually(leader.listening)
                assert leader.complete().status == 200


def test_the_stub_is_one_file_of_the_standard_library_for_older_pythons() -> None:
    tree = ast.parse(ENGINE.read_text(encoding="utf-8"), feature_version=(3, 9))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert "argparse" in imported
    assert {name.partition(".")[0] for name in imported} <= {*sys.stdlib_module_names, "__future__"}


def test_a_request_whose_kv_cache_is_elsewhere_is_deferred_and_stands_in_nobodys_way(server: EngineServer) -> None:
    server.faults(remote_kv_seconds=1.5)
    call = server.request_later("POST", "/v1/completions", {"prompt": "a", "max_tokens": 1, "kv_transfer_params": {}})
    assert call.result().status == 200, "without parameters nothing is elsewhere"
    body = {"prompt": "a", "max_tokens": 1, "kv_transfer_params": {"do_remote_prefill": True}}
    call = server.request_later("POST", "/v1/completions", body)
    assert eventually(lambda: server.metric("num_requests_waiting_by_reason", reason="deferred") == 1)
    assert server.complete().status == 200
    assert not call.done()
    assert call.result().status == 200


def test_only_prompts_with_the_word_make_a_step_slow(server: EngineServer) -> None:
    server.faults(slow_step={"seconds": 1.0, "word": "huge"})
    assert seconds_of(lambda: server.complete("small")) < 0.8
    assert seconds_of(lambda: server.complete("a huge one")) >= 1.0


def seconds_of(act: Callable[[], object]) -> float:
    began = time.monotonic()
    act()
    return time.monotonic() - began


def test_a_hung_core_can_compute(server: EngineServer) -> None:
    cores = [server.child(f"VLLM::EngineCore_DP{rank}") for rank in (0, 1)]
    server.faults(hang_engine=[1], hang_computes=True)
    call = server.request_later("POST", "/v1/completions", {"prompt": "a"})
    other = server.request_later("POST", "/v1/completions", {"prompt": "a"})
    used = [cpu_seconds(core) for core in cores]
    assert eventually(lambda: cpu_seconds(cores[1]) > used[1] + 0.3)
    assert cpu_seconds(cores[0]) < used[0] + 0.3
    server.faults(hang_engine=False)
    assert (call.result().status, other.result().status) == (200, 200)


def test_a_profile_is_written_for_a_while_in_which_no_step_is_made(server: EngineServer) -> None:
    core = server.child("VLLM::EngineCore_DP0")
    before = written_bytes(core)
    server.faults(profile=1.5)
    assert seconds_of(server.complete) > 1.0
    assert written_bytes(core) > before + (1 << 20), "as a profiler does"
    assert server.request("GET", "/health").status == 200


def written_bytes(process: int) -> int:
    """What a process has written to files and sockets."""
    lines = Path(f"/proc/{process}/io").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("wchar:"))


def test_a_flood_of_lines_goes_to_the_log_whole_and_requests_are_answered_meanwhile(tmp_path: Path) -> None:
    with stub_server(folder=tmp_path) as server:
        server.faults(flood=2)
        assert server.complete().status == 200
        assert eventually(lambda: "the flood is over" in server.log())
        flood = [line for line in server.log().splitlines() if "the flood goes on" in line]
    assert len(flood) * 128 == pytest.approx(2_000_000, rel=0.01)
    assert {len(line) for line in flood} == {127}


def test_a_core_takes_as_much_memory_as_it_is_told(tmp_path: Path) -> None:
    with stub_server(folder=tmp_path) as server:
        core = server.child("VLLM::EngineCore")
        server.faults(allocate=64)
        assert eventually(lambda: resident_megabytes(core) > 64)


def resident_megabytes(process: int) -> float:
    """The memory that a process uses."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))


def test_while_the_engine_scales_every_path_answers_503_with_its_words(server: EngineServer) -> None:
    server.faults(scaling=True)
    for method, path in (("GET", "/health"), ("GET", "/metrics"), ("GET", "/v1/models"), ("POST", "/v1/completions")):
        answer = server.request(method, path, {} if method == "POST" else None)
        assert answer.status == 503
        assert answer.json() == {"error": "The model is currently scaling. Please try again later."}
    server.faults(scaling=False)
    assert server.complete().status == 200


def test_an_adapter_that_is_lost_can_be_loaded_again_where_that_is_allowed(tmp_path: Path) -> None:
    allowed = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}
    with stub_server(*NAMES, "--enable-lora", "--lora-modules", "sql=org/sql", folder=tmp_path, env=allowed) as server:
        server.faults(lose_adapter="sql")
        assert server.complete(model="sql").status == 404
        again = {"lora_name": "sql", "lora_path": "org/sql"}
        assert server.request("POST", "/v1/load_lora_adapter", again).status == 200
        assert server.complete(model="sql").status == 200


HYBRID = (
    *("--data-parallel-size", "8", "--data-parallel-size-local", "4", "--data-parallel-start-rank", "4"),
    "--data-parallel-hybrid-lb",
)


def test_ranks_of_a_hybrid_node_keep_their_numbers_in_the_metrics_and_are_addressed_by_their_place(
    tmp_path: Path,
) -> None:
    with stub_server(*NAMES, *HYBRID, folder=tmp_path) as server:
        body = {"prompt": "a", "max_tokens": 1}
        for place, label in enumerate("4567"):
            headers = {"X-data-parallel-rank": str(place)}
            assert server.request("POST", "/v1/completions", body, headers=headers).status == 200
            assert eventually(lambda name=label: server.metric("generation_tokens_total", engine=name) == 1)  # type: ignore[misc]
            assert server.child(f"VLLM::EngineCore_DP{label}")
        answer = server.request("POST", "/v1/completions", body, headers={"X-data-parallel-rank": "4"})
        assert answer.json()["error"]["message"] == "data_parallel_rank 4 is out of range [0, 4)."


def test_a_model_that_transcribes_knows_no_completions(tmp_path: Path) -> None:
    with stub_server(*NAMES, folder=tmp_path, env={"STUB_TASK": "transcription"}) as server:
        assert server.complete().status == 404
        answers = [transcribed(server, form) for form in (form_of("tiny"), form_of("nobody"), b"")]
        assert answers[0] == (200, " silence")
        assert [status for status, _ in answers] == [200, 404, 400]
        assert server.metric("generation_tokens_total") == 1


def form_of(model: str) -> bytes:
    """A form with a second of nothing."""
    parts = (f'name="model"\r\n\r\n{model}', 'name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\nRIFF')
    lines = [f"--edge\r\nContent-Disposition: form-data; {part}\r\n" for part in parts]
    return "".join([*lines, "--edge--\r\n"]).encode()


def transcribed(server: EngineServer, form: bytes) -> tuple[int, str]:
    """Status and text of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request("POST", "/v1/audio/transcriptions", form, {"Content-Type": "multipart/form-data; boundary=edge"})
    answer = connection.getresponse()
    document = json.loads(answer.read())
    connection.close()
    return answer.status, document.get("text", "")


def test_a_model_that_only_chats_has_chat_alone(tmp_path: Path) -> None:
    with stub_server(*NAMES, folder=tmp_path, env={"STUB_TASK": "chat"}) as server:
        body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 1}
        assert server.request("POST", "/v1/chat/completions", body).status == 200
        assert server.complete().status == 404


def test_a_server_can_listen_on_ipv6_alone() -> None:
    process = subprocess.Popen(
        [sys.executable, str(ENGINE), "serve", "org/tiny", "--host", "::", "--port", "0"],
        stdout=subprocess.PIPE,
        env={"STUB_IPV6_ONLY": "1", "PYTHONUNBUFFERED": "1"},
        text=True,
    )
    with process:
        assert process.stdout is not None
        port = next(int(found[1]) for line in process.stdout if (found := re.search(r"http://:::(\d+)", line)))
        with socket.create_connection(("::1", port), timeout=5):
            pass
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)
        process.kill()
