"""What comes inside a watch: whole events pass, and all else becomes a broken connection or a new list."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from vllm_operator.cluster import stream
from vllm_operator.cluster.stream import LIST_ANEW, WatchStream

if TYPE_CHECKING:
    from collections.abc import Sequence


def line(kind: str, **object_: Any) -> bytes:
    """An event as the API server writes it."""
    return json.dumps({"type": kind, "object": object_}, separators=(",", ":")).encode() + b"\n"


ADDED = line("ADDED", metadata={"uid": "a"}, spec={"env": [{"type": "ERROR", "text": '\n{"type":"ERROR"'}]})
BOOKMARK = line("BOOKMARK", metadata={"resourceVersion": "9"})
LISTED = line("BOOKMARK", metadata={"resourceVersion": "9", "annotations": {"k8s.io/initial-events-end": "true"}})


class Content:
    """What a connection brings: chunks, errors, and silence after the last one that is None."""

    def __init__(self, chunks: Sequence[bytes | Exception | None]) -> None:
        self._chunks = list(chunks)

    async def read(self, size: int) -> bytes:
        """The next one."""
        del size
        chunk = self._chunks.pop(0) if self._chunks else b""
        if isinstance(chunk, Exception):
            raise chunk
        if chunk is None:
            await asyncio.Event().wait()
        assert chunk is not None
        return chunk


class Told:
    """How the watch fares."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def alive(self) -> None:
        """Something came."""
        self.said.append("alive")

    def listed(self) -> None:
        """All of the list came."""
        self.said.append("listed")

    def succeeded(self) -> None:
        """It works."""
        self.said.append("succeeded")

    def failed(self, message: str, *, retry_after: float = 0.0) -> float:
        """It does not."""
        self.said.append(f"{message}{f' after {retry_after:.0f} s' if retry_after else ''}")
        return 0.0


async def read(*chunks: bytes | Exception | None, lists: bool = False) -> tuple[list[bytes], list[str], str]:
    """What kopf gets, how the watch fares, and how it breaks off."""
    told, got = Told(), []
    watch = WatchStream(Content(chunks), told, lists=lists)  # type: ignore[arg-type] # `read` is all that is called
    try:
        async for some in watch.iter_chunked(1):
            got += [some]
    except aiohttp.ClientPayloadError as error:
        return got, told.said, str(error)
    return got, told.said, ""


@pytest.mark.parametrize("at", range(1, len(ADDED) + len(BOOKMARK), 7))
async def test_events_pass_whole_wherever_the_network_cuts_them(at: int) -> None:
    both = ADDED + BOOKMARK
    got, said, broke = await read(both[:at], both[at:])
    assert b"".join(got) == both
    assert all(some.endswith(b"\n") for some in got)
    assert said[0] == "succeeded"
    assert not broke


@pytest.mark.parametrize("code", [410, 500, 429])
async def test_an_error_has_kopf_list_anew_after_the_events_before_it(code: int) -> None:
    error = line("ERROR", code=code, message="etcdserver: corrupt", details={"retryAfterSeconds": 7})
    got, said, broke = await read(ADDED + error + ADDED)
    assert got == [ADDED, LIST_ANEW]
    assert said == ["succeeded", f"etcdserver: corrupt (code {code} in the watch) after 7 s"]
    assert not broke


@pytest.mark.parametrize("error", [b'{"type":"ERROR"}\n', b'{"type":"ERROR","object":"corrupt"}\n'])
async def test_an_error_of_an_odd_shape_is_one(error: bytes) -> None:
    got, said, _ = await read(error)
    assert got == [LIST_ANEW]
    assert "ERROR" in said[0]


@pytest.mark.parametrize("nonsense", [b"<html>\n", b'{"kind":"Status"}\n', ADDED + b"upstream error\n"])
async def test_what_is_no_event_breaks_the_connection(nonsense: bytes) -> None:
    got, said, broke = await read(nonsense)
    assert not got
    assert len(said) == 1
    assert "no event" in broke
    assert (await read(nonsense, lists=True))[0] == [LIST_ANEW], "what a list cannot be read from is no list"


async def test_half_an_event_is_none() -> None:
    got, said, broke = await read(ADDED + BOOKMARK[:-1])
    assert got == [ADDED]
    assert said == ["succeeded"]
    assert broke == "the watch broke off"


async def test_a_watch_that_ends_at_once_has_failed_and_one_that_brought_something_has_not() -> None:
    assert await read() == ([], ["the watch ended at once"], "the watch ended at once")
    assert await read(ADDED) == ([ADDED], ["succeeded"], "")


async def test_a_broken_connection_stays_one_and_counts_where_nothing_had_come() -> None:
    broken = aiohttp.ClientOSError("reset")
    assert await read(broken) == ([], ["reset"], "reset")
    assert await read(ADDED, broken) == ([ADDED], ["succeeded"], "reset")
    assert (await read(ADDED, ConnectionResetError("by peer")))[2] == "by peer"


async def test_a_watch_without_events_works_once_it_has_lasted_and_is_broken_off_when_it_stays_quiet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream, "SETTLED_SECONDS", 0.01)
    monkeypatch.setattr(stream, "QUIET_SECONDS", 0.02)
    got, said, broke = await read(None, None)
    assert (got, said) == ([], ["succeeded"])
    assert broke == "nothing came for 0 s"


async def test_a_first_list_in_a_watch_that_breaks_off_is_asked_for_anew() -> None:
    assert (await read(ADDED, aiohttp.ClientOSError("reset"), lists=True))[0] == [ADDED, LIST_ANEW]
    assert (await read(ADDED, lists=True))[0] == [ADDED, LIST_ANEW]
    got, said, broke = await read(ADDED + LISTED, ADDED, lists=True)
    assert (got, said, broke) == ([ADDED + LISTED, ADDED], ["succeeded", "listed", "alive"], "")


@pytest.mark.parametrize("at", range(1, len(ADDED) + len(LISTED), 7))
async def test_the_end_of_a_first_list_is_seen_wherever_the_network_cuts_it(at: int) -> None:
    both = ADDED + LISTED
    got, said, _ = await read(both[:at], both[at:], BOOKMARK, lists=True)
    assert b"".join(got) == both + BOOKMARK
    assert said.count("listed") == 1


async def test_a_bookmark_that_ends_no_first_list_says_that_none_will() -> None:
    got, said, _ = await read(ADDED, ADDED + BOOKMARK, ADDED, lists=True)
    assert got == [ADDED, LIST_ANEW]
    assert said == ["succeeded", "alive", "the watch does not say where its first list ends"]


async def test_a_first_list_that_ends_in_silence_is_asked_for_anew_sooner_than_a_watch_is_broken_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream, "SETTLED_SECONDS", 0.01)
    monkeypatch.setattr(stream, "NO_LIST_SECONDS", 0.02)
    assert await read(ADDED, None, lists=True) == ([ADDED, LIST_ANEW], ["succeeded", "nothing came for 0 s"], "")
    assert await read(None, None, lists=True) == ([LIST_ANEW], ["succeeded", "nothing came for 0 s"], "")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await read(ADDED + LISTED, None, lists=True)
