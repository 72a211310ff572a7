"""Where answers are kept: bounds, times, files."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import sys
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_client import AnswerStore, MemoryStore, MissingExtra, SQLiteStore, StoreFailed
from vllm_client.cache.store import BoundedAnswers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STEPS = st.lists(
    st.tuples(st.sampled_from(["get", "put"]), st.sampled_from("abcde"), st.integers(min_value=0, max_value=4)),
    max_size=60,
)


class Model:
    """What a bounded store has to do, said without thought of speed: all ever put, with times of use."""

    def __init__(self, max_entries: int, ttl_seconds: float) -> None:
        self.max_entries, self.ttl_seconds = max_entries, ttl_seconds
        self.kept: OrderedDict[str, tuple[float, str]] = OrderedDict()

    def get(self, key: str, now: float) -> str | None:
        """The answer, if its time is not over; it is used now."""
        self.kept = OrderedDict((k, v) for k, v in self.kept.items() if k != key or v[0] > now)
        if key not in self.kept:
            return None
        entry = self.kept.pop(key)
        self.kept[key] = entry
        return entry[1]

    def put(self, key: str, answer: str, now: float) -> None:
        """Keep it, and only the last used."""
        self.kept.pop(key, None)
        self.kept[key] = (now + self.ttl_seconds, answer)
        while len(self.kept) > self.max_entries:
            self.kept.popitem(last=False)


@settings(max_examples=500)
@given(steps=STEPS, max_entries=st.integers(1, 4), ttl_seconds=st.integers(1, 8))
def test_the_answers_used_last_are_kept_for_their_time(
    steps: list[tuple[str, str, int]], max_entries: int, ttl_seconds: int
) -> None:
    answers, model, now = BoundedAnswers(max_entries, ttl_seconds), Model(max_entries, ttl_seconds), 0
    for number, (step, key, later) in enumerate(steps):
        now += later
        if step == "put":
            answers.put(key, str(number), now)
            model.put(key, str(number), now)
        else:
            assert answers.get(key, now) == model.get(key, now)
        assert len(answers) == len(model.kept) <= max_entries


class Clock:
    """A time that the test sets."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        """The time now."""
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Callable[..., Any]:
    """Makes a store of either kind with bounds."""

    def made(**bounds: Any) -> Any:
        kind = request.param
        return (
            MemoryStore(clock=clock, **bounds)
            if kind == "memory"
            else SQLiteStore(tmp_path / "a.db", clock=clock, **bounds)
        )

    return made


def keys(path: Path) -> list[str]:
    """The keys in a file."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return [key for (key,) in connection.execute("SELECT key FROM answers ORDER BY key")]


async def shut(store: object) -> None:
    """Close a store that has something to close."""
    if isinstance(store, SQLiteStore):
        await store.close()


async def test_a_store_keeps_answers_for_their_time_and_replaces_them(make: Callable[..., Any], clock: Clock) -> None:
    store: AnswerStore = make(ttl_seconds=10)
    try:
        assert await store.get("k") is None
        await store.put("k", "one")
        await store.put("k", "two \ud83d \U0001f600 \x00 \n")
        clock.seconds += 9.9
        assert await store.get("k") == "two \ud83d \U0001f600 \x00 \n"
        clock.seconds += 0.1
        assert await store.get("k") is None
    finally:
        await shut(store)


async def test_the_answer_not_used_for_longest_makes_room(make: Callable[..., Any], clock: Clock) -> None:
    store: AnswerStore = make(max_entries=2)
    try:
        for key in ("a", "b"):
            clock.seconds += 1
            await store.put(key, key)
        clock.seconds += 1
        await store.get("a")
        clock.seconds += 1
        await store.put("c", "c")
        assert [await store.get(key) for key in "abc"] == ["a", None, "c"]
    finally:
        await shut(store)


@pytest.mark.parametrize("bounds", [{"max_entries": 0}, {"ttl_seconds": 0}, {"ttl_seconds": float("nan")}])
def test_bounds_that_keep_nothing_are_refused(make: Callable[..., Any], bounds: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bounds))):
        make(**bounds)


async def test_answers_in_a_file_outlive_the_store_and_are_shared(tmp_path: Path) -> None:
    path = tmp_path / "answers.db"
    async with SQLiteStore(path) as one, SQLiteStore(path) as other:
        await one.put("k", "answer")
        assert await other.get("k") == "answer"
        await asyncio.gather(*(store.put(f"{at}", "x") for store in (one, other) for at in range(20)))
    async with SQLiteStore(path) as later:
        assert await later.get("k") == "answer"


async def test_answers_that_are_over_leave_the_file(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "answers.db"
    async with SQLiteStore(path, ttl_seconds=10, clock=clock) as store:
        await store.put("old", "x")
        clock.seconds += 10
        await store.put("new", "x")
    assert keys(path) == ["new"]


async def test_a_put_that_fails_leaves_nothing_and_holds_nobody_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "answers.db"
    async with SQLiteStore(path) as one, SQLiteStore(path) as other:
        with monkeypatch.context() as broken:
            broken.setattr("vllm_client.cache.sqlite.FORGET_SURPLUS", "DELETE FROM nowhere WHERE ?")
            with pytest.raises(StoreFailed, match="nowhere"):
                await one.put("k", "x")
        await other.put("other", "x")
        assert await other.get("k") is None


async def test_first_uses_at_a_time_open_the_file_once(tmp_path: Path) -> None:
    path = tmp_path / "answers.db"
    async with SQLiteStore(path) as store:
        await asyncio.gather(*(store.put(str(at), "x") for at in range(5)))
    assert keys(path) == ["0", "1", "2", "3", "4"]
    assert [file.name for file in tmp_path.iterdir()] == ["answers.db"]  # noqa: ASYNC240 - nothing else runs


async def test_a_closed_store_opens_again(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "answers.db")
    await store.put("k", "answer")
    await store.close()
    assert await store.get("k") == "answer"
    await store.close()
    await store.close()


async def test_a_cancelled_put_leaves_the_store_in_order(tmp_path: Path) -> None:
    async with SQLiteStore(tmp_path / "answers.db") as store:
        await store.put("k", "old")
        for _ in range(20):
            put = asyncio.create_task(store.put("k", "new"))
            await asyncio.sleep(0)
            put.cancel()
            await asyncio.gather(put, return_exceptions=True)
            assert await store.get("k") in {"old", "new"}
        await store.put("k", "last")
        assert await store.get("k") == "last"


@pytest.mark.parametrize("content", [b"no database at all" * 100, None])
async def test_a_file_that_is_no_store_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "answers.db"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    store = SQLiteStore(path)
    with pytest.raises(StoreFailed, match=r"answers\.db"):
        await store.get("k")


async def test_a_store_of_another_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "answers.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreFailed, match="version 99, not 1"):
        await SQLiteStore(path).put("k", "x")


def test_a_missing_library_is_named_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiosqlite", None)
    with pytest.raises(MissingExtra, match=r"pip install 'vllm-operator\[cache\]'"):
        SQLiteStore(tmp_path / "answers.db")
