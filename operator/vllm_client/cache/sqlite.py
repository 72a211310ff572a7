"""Answers in an SQLite file: they outlive the process, and several processes share them.

`aiosqlite` runs the standard library's sqlite3 in a thread. It is kept up by the group behind it, and the file holds
plain text; diskcache and sqlitedict unpickle what they find in theirs, which lets whoever writes the file run code.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from vllm_client.cache.store import check_bounds
from vllm_client.closing import Closing
from vllm_client.errors import StoreFailed, WrongEventLoop
from vllm_client.home import Home
from vllm_client.wrapper import require

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from os import PathLike

    import aiosqlite

MAX_ENTRIES = 100_000
TTL_SECONDS = 7 * 24 * 3600.0
SCHEMA_VERSION = 1
SCHEMA = f"""
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, answer BLOB NOT NULL, expires_seconds REAL NOT NULL, used_seconds REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS answers_expires ON answers (expires_seconds);
CREATE INDEX IF NOT EXISTS answers_used ON answers (used_seconds);
PRAGMA user_version = {SCHEMA_VERSION};
"""
GET = "UPDATE answers SET used_seconds = ? WHERE key = ? AND expires_seconds > ? RETURNING answer"
PUT = "INSERT OR REPLACE INTO answers (key, answer, expires_seconds, used_seconds) VALUES (?, ?, ?, ?)"
FORGET_EXPIRED = "DELETE FROM answers WHERE expires_seconds <= ?"
FORGET_SURPLUS = """
DELETE FROM answers WHERE key IN (
    SELECT key FROM answers ORDER BY used_seconds LIMIT max(0, (SELECT count(*) FROM answers) - ?)
)
"""
LONE_SURROGATES = "surrogatepass"
"""An answer may hold half of a character: the engine cuts at tokens."""

_LEFT_BEHIND: list[object] = []
"""What the process that this one was forked from has open: as garbage, it would be closed under its hands."""


class SQLiteStore(Closing):
    """Keeps answers in a file. It holds answers and hashes of requests, no prompts.

    The file is opened at first use; after `close()` the next use opens it again, and so does the first one in a process
    that was forked meanwhile. Clients in several event loops at a time need a store each; these may share the file.

    Args:
        path: The file; it is made if it does not exist.
        max_entries: How many at most; the one whose last use is longest ago makes room.
        ttl_seconds: How long an answer is kept.
        clock: Seconds since 1970, the same for all processes that share the file.

    Raises:
        MissingExtra: The extra `cache` is not installed.
        ValueError: A bound is not positive.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        max_entries: int = MAX_ENTRIES,
        ttl_seconds: float = TTL_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        check_bounds(max_entries, ttl_seconds)
        self._library = require("aiosqlite", extra="cache", purpose="SQLiteStore")
        self._path = path
        self._max_entries = max_entries
        self._ttl_seconds = ttl_seconds
        self._clock = clock
        self._home = Home()
        self._process = os.getpid()
        self._open: aiosqlite.Connection | None = None
        self._turn = asyncio.Lock()

    async def get(self, key: str) -> str | None:
        """The answer, or None if there is none (any more).

        Raises:
            StoreFailed: The file cannot be used.
        """
        now = self._clock()
        async with self._transaction() as connection:
            rows = await connection.execute_fetchall(GET, (now, key, now))
        return next((bytes(answer).decode(errors=LONE_SURROGATES) for (answer,) in rows), None)

    async def put(self, key: str, answer: str) -> None:
        """Keep the answer, in place of an earlier one.

        Raises:
            StoreFailed: The file cannot be used.
        """
        now = self._clock()
        data = answer.encode(errors=LONE_SURROGATES)
        async with self._transaction() as connection:
            await connection.execute(PUT, (key, data, now + self._ttl_seconds, now))
            await connection.execute(FORGET_EXPIRED, (now,))
            await connection.execute(FORGET_SURPLUS, (self._max_entries,))

    async def close(self) -> None:
        """Close the file."""
        self._enter()
        async with self._turn:
            connection, self._open = self._open, None
            if connection is not None:
                await connection.close()

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[aiosqlite.Connection]:
        """All that is executed in the block, or nothing of it; one block at a time."""
        self._enter()
        async with self._turn:
            try:
                if self._open is None:
                    self._open = await self._connect()
                try:
                    yield self._open
                    await self._open.commit()
                except BaseException:
                    await self._open.rollback()
                    raise
            except sqlite3.Error as error:
                advice = "Check that the path can be written and holds a store of this version, or delete it"
                raise StoreFailed(f"the store of answers in {self._path} fails: {error}", advice=advice) from error

    def _enter(self) -> None:
        """Leave the lock of an event loop that is gone, and the file that another process has open, with its thread.

        Raises:
            StoreFailed: It belongs to another loop, which may use it still.
        """
        try:
            at_home = self._home.enter()
        except WrongEventLoop as error:
            advice = "Give the clients of each loop a store of their own; they may share the file"
            raise StoreFailed(
                f"the store of answers in {self._path} belongs to another event loop", advice=advice
            ) from error
        if not at_home:
            self._turn = asyncio.Lock()
        if self._process != os.getpid():
            _LEFT_BEHIND.append(self._open)
            self._process, self._open = os.getpid(), None

    async def _connect(self) -> aiosqlite.Connection:
        """The file, opened and of our layout."""
        await asyncio.to_thread(try_to_open, self._path)
        connection: aiosqlite.Connection = await self._library.connect(self._path)
        try:
            ((version,),) = await connection.execute_fetchall("PRAGMA user_version")
            check_version(version)
            await connection.executescript(SCHEMA)
        except BaseException:
            await connection.close()
            raise
        return connection


def try_to_open(path: str | PathLike[str]) -> None:
    """Find out whether the file can be opened: where it cannot, aiosqlite (0.22) does not wait for its thread to end.

    Raises:
        sqlite3.OperationalError: It cannot.
    """
    sqlite3.connect(path).close()


def check_version(version: int) -> None:
    """Refuse a file of another layout; 0 is a new one.

    Raises:
        sqlite3.DatabaseError: The layout is another one.
    """
    if version not in (0, SCHEMA_VERSION):
        raise sqlite3.DatabaseError(f"its layout is version {version}, not {SCHEMA_VERSION}")
