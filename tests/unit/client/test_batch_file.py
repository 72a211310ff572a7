"""The file of a batch: what is not asked again, and what survives a crash at any moment."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.llms import EchoLLM, HeldLLM, settle
from tests.support.servers import eventually
from vllm_client import BatchFileError, BatchItem, BatchResult, ConfigurationError, NotReachable, run_batch
from vllm_client.batch.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Iterator

PROMPTS = ["first", "second\nline", "third \u2028 \U0001f600"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that does not exist yet."""
    return tmp_path / "answers.jsonl"


async def run(llm: Any, items: Any, path: Path, **options: Any) -> list[BatchResult]:
    """All results of a run."""
    return [result async for result in run_batch(llm, items, path=path, **options)]


def given_file(path: Path, content: str) -> None:
    """A file that is there already."""
    path.write_text(content, encoding="utf-8")


def text_of(path: Path) -> str:
    """What a file holds."""
    return path.read_text(encoding="utf-8")


def open_files() -> set[Path]:
    """What this process has open."""
    return {path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()}


def lines(path: Path) -> list[dict[str, Any]]:
    """The file's documents."""
    return [json.loads(line) for line in path.read_bytes().splitlines()]


async def test_what_was_answered_is_not_asked_again(path: Path) -> None:
    first = await run(EchoLLM(), PROMPTS, path)
    again = EchoLLM()
    second = await run(again, [*PROMPTS, "fourth"], path)
    assert again.prompts == ["fourth"]
    assert [result.text for result in second] == [*PROMPTS, "fourth"]
    assert [result.resumed for result in second] == [True, True, True, False]
    assert [result.seconds for result in second[:3]] == [result.seconds for result in first]


async def test_what_failed_is_asked_again(path: Path) -> None:
    await run(EchoLLM(errors={"b": NotReachable("nobody there")}), ["a", "b"], path)
    assert lines(path)[2] | {"digest": "", "seconds": 0} == {
        "digest": "",
        "id": "1",
        "index": 1,
        "seconds": 0,
        "kind": "NotReachable",
        "error": "nobody there",
    }
    again = EchoLLM()
    assert [result.text for result in await run(again, ["a", "b"], path)] == ["a", "b"]
    assert again.prompts == ["b"]


@pytest.mark.parametrize(
    ("item", "options"),
    [
        (BatchItem("x", "another prompt"), {}),
        (BatchItem("x", "prompt", {"seed": 1}), {}),
        (BatchItem("x", "prompt"), {"temperature": 0}),
        (BatchItem("y", "prompt"), {}),
    ],
)
async def test_a_changed_item_is_asked_again_and_then_remembered(
    path: Path, item: BatchItem, options: dict[str, Any]
) -> None:
    await run(EchoLLM(), [BatchItem("x", "prompt")], path)
    for expected in ([item.prompt], []):
        again = EchoLLM()
        await run(again, [item], path, **options)
        assert again.prompts == expected


async def test_items_may_come_in_another_order(path: Path) -> None:
    items = [BatchItem(name, f"prompt {name}") for name in "abc"]
    await run(EchoLLM(), items, path)
    again = EchoLLM()
    assert [result.id for result in await run(again, reversed(items), path)] == ["c", "b", "a"]
    assert again.prompts == []


async def test_an_item_that_comes_again_after_it_failed_is_asked_again(path: Path) -> None:
    errors: dict[str, Exception] = {"a": NotReachable("nobody there")}
    items = [BatchItem("x", "a")] * 8
    found = []
    async for result in run_batch(EchoLLM(errors=errors), items, path=path, concurrency=1):
        found.append((result.text, result.resumed))
        errors.clear()
    assert found[0] == (None, False)
    assert found[-1] == ("a", True)


async def test_a_result_is_in_the_file_before_those_ahead_of_it(path: Path) -> None:
    llm = HeldLLM()
    batch = asyncio.create_task(run(llm, ["slow", "fast"], path))
    await llm.asked(2)
    llm.calls[1].answer.set_result("answer")
    await settle()
    assert [line["id"] for line in lines(path)[1:]] == ["1"]
    llm.calls[0].answer.set_result("answer")
    await batch


async def test_cancelling_leaves_a_file_that_goes_on(path: Path) -> None:
    llm = HeldLLM()
    batch = asyncio.create_task(run(llm, map(str, range(100)), path, concurrency=4))
    await llm.asked(4)
    for call in llm.calls[:2]:
        call.answer.set_result("answer")
    await llm.asked(6)
    batch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await batch
    again = EchoLLM()
    assert len(await run(again, map(str, range(100)), path)) == 100
    assert again.prompts == [str(at) for at in range(2, 100)]


# ------------------------------------------------------------------------------------------------------------ crashes


@contextlib.contextmanager
def whole_file(folder: Path) -> Iterator[bytes]:
    """What a finished run leaves."""
    path = folder / "whole.jsonl"
    asyncio.run(run(EchoLLM(), PROMPTS, path))
    yield path.read_bytes()
    path.unlink()


def test_a_file_cut_off_at_any_byte_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "cut.jsonl"
    with whole_file(tmp_path) as whole:
        for end in range(len(whole) + 1):
            path.write_bytes(whole[:end])
            again = EchoLLM()
            results = asyncio.run(run(again, PROMPTS, path, concurrency=1))
            kept = max(whole[:end].count(b"\n") - 1, 0)
            assert [result.text for result in results] == PROMPTS
            assert again.prompts == PROMPTS[kept:]
            assert [line.get("text") for line in lines(path)] == [None, *PROMPTS]


@given(tail=st.binary(min_size=1, max_size=200).filter(lambda tail: b"\n" not in tail))
def test_whatever_a_crash_left_of_the_last_line_is_cut_off(
    tmp_path_factory: pytest.TempPathFactory, tail: bytes
) -> None:
    folder = tmp_path_factory.mktemp("tail")
    path = folder / "cut.jsonl"
    with whole_file(folder) as whole:
        path.write_bytes(whole + tail)
        again = EchoLLM()
        asyncio.run(run(again, PROMPTS, path))
        assert again.prompts == []
        assert path.read_bytes() == whole


PROGRAM = """
    import asyncio, sys
    from vllm_client import run_batch

    class Slow:
        config = None
        async def complete(self, prompt, **arguments):
            await asyncio.sleep(0.001)
            return prompt

    async def main():
        async for _ in run_batch(Slow(), map(str, range(100_000)), path=sys.argv[1]):
            pass

    asyncio.run(main())
"""


def test_a_killed_process_loses_no_line_that_it_wrote(path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(PROGRAM), str(path)])
    try:
        assert eventually(lambda: path.exists() and path.read_bytes().count(b"\n") > 100)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    written = {json.loads(line)["id"] for line in path.read_bytes().split(b"\n")[1:-1]}
    prompts = [str(at) for at in range(len(written) + 50)]
    results = asyncio.run(run(EchoLLM(config=None), prompts, path))
    assert {result.id for result in results if result.resumed} == written
    assert [result.text for result in results] == prompts


async def test_a_full_disk_ends_the_batch_and_leaves_a_file_that_goes_on(path: Path) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
    try:
        with pytest.raises(BatchFileError, match="goes on from here"):
            await run(EchoLLM(), map(str, range(100)), path, concurrency=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, ignored)
    done = len(lines(path)) - 1
    assert done > 0
    again = EchoLLM()
    await run(again, map(str, range(100)), path)
    assert len(again.prompts) == 100 - done


async def test_the_file_is_forced_to_the_disk_in_between_and_at_the_end(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forced = []
    monkeypatch.setattr("os.fsync", lambda _: forced.append(len(lines(path))))
    await run(EchoLLM(), ["a", "b", "c"], path, concurrency=1)
    assert forced[-1] == 4
    forced.clear()
    monkeypatch.setattr("vllm_client.batch.journal.SYNC_SECONDS", 0)
    await run(EchoLLM(), ["d", "e"], path, concurrency=1)
    assert forced == [5, 6, 6]


async def test_a_disk_that_fails_ends_the_batch(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: int) -> None:
        raise OSError("Input/output error")

    monkeypatch.setattr("os.fsync", broken)
    monkeypatch.setattr("vllm_client.batch.journal.SYNC_SECONDS", 0)
    llm = EchoLLM()
    with pytest.raises(BatchFileError, match="Input/output error"):
        await run(llm, map(str, range(1000)), path, concurrency=1)
    assert len(llm.prompts) < 1000


# ------------------------------------------------------------------------------------------------------- other files


@pytest.mark.parametrize(
    "content", ["my notes", "my notes\n", '{"prompt": "x"}\n', '{"prompt": "x"}', "[1]\n", "\x00\x00", "\n"]
)
async def test_a_file_that_is_no_batch_is_left_alone(path: Path, content: str) -> None:
    given_file(path, content)
    with pytest.raises(BatchFileError, match="is not the file of a batch"):
        await run(EchoLLM(), ["a"], path)
    assert text_of(path) == content


async def test_the_file_of_another_model_is_left_alone(path: Path) -> None:
    await run(EchoLLM(), ["a"], path)
    other = EchoLLM(SimpleNamespace(model_name="other", base_url="http://m"))
    with pytest.raises(BatchFileError, match="belongs to a run with model 'm', this one asks 'other'"):
        await run(other, ["a"], path)
    assert len(lines(path)) == 2


async def test_the_file_of_another_version_is_left_alone(path: Path) -> None:
    given_file(path, '{"format":"vllm_client.batch","version":2,"model":"m"}\n')
    with pytest.raises(BatchFileError, match="version 2, not 1"):
        await run(EchoLLM(), ["a"], path)


@pytest.mark.parametrize(
    "damage", ["{", "[]", "{}", '{"digest":"zz","text":""}', '{"digest":7}', '{"digest":"00","text":""}']
)
async def test_damage_within_the_file_is_named_by_its_line(path: Path, damage: str) -> None:
    await run(EchoLLM(), ["a", "b"], path)
    whole = text_of(path).splitlines()
    given_file(path, "\n".join([*whole[:2], damage, whole[2]]) + "\n")
    with pytest.raises(BatchFileError, match=r"line 3 of .*answers\.jsonl is damaged"):
        await run(EchoLLM(), ["a", "b"], path)


async def test_two_runs_do_not_share_a_file(path: Path) -> None:
    journal = Journal(path, "m")
    try:
        with pytest.raises(BatchFileError, match="in use by another run"):
            await run(EchoLLM(), ["a"], path)
    finally:
        journal.close()
    assert await run(EchoLLM(), ["a"], path)


async def test_a_path_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(BatchFileError, match="nowhere"):
        await run(EchoLLM(), ["a"], tmp_path / "nowhere" / "x.jsonl")


async def test_arguments_that_cannot_be_recognised_are_refused_with_a_file(path: Path) -> None:
    with pytest.raises(ConfigurationError, match="item 0 cannot be recognised"):
        await run(EchoLLM(), ["a"], path, extra=object())


async def test_the_file_is_closed_with_the_batch(path: Path) -> None:
    async with contextlib.aclosing(run_batch(EchoLLM(), ["a", "b"], path=path)) as results:
        await anext(results)
        assert path in open_files()
    assert path not in open_files()
