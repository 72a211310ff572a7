"""The engine's log, read as it is written: how far a start has come, what it warns of, and why it has failed.

Whatever is fed takes bounded memory: of a line its first 8 KB are kept while it is assembled, of an error its first
lines and its last ones, and of errors those of the last outburst. The same bytes give the same result in whatever
pieces they come. Lines that hold none of the words looked for cost next to nothing.

The values of keys and tokens in the environment, and what looks like one, are taken out of whatever is told.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections import deque
from dataclasses import dataclass, field

from .evidence import LogLook
from .matching import CAUSE, KINDS, MARK, SYMPTOM, Diagnosis, Table
from .redaction import redactor
from .signatures import (
    BLOCKED,
    COMPILES,
    COMPILING,
    ENDED_PROCESSES,
    PHASE_LINES,
    PHASES,
    READY,
    WARMUP,
    WRAPPERS,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .matching import Match

LONGEST_EXCERPT_BYTES = 2000
LONGEST_LINE_BYTES = 8192
_LONGEST_KEPT_LINE, _LONGEST_SHOWN_LINE = 2000, 600
"""In characters. Secrets are taken out of what is kept before it is cut to what is shown, so none is cut in two."""
_FIRST_LINES, _LAST_LINES = 3, 16
_FIRST_ERRORS, _LAST_ERRORS = 16, 8
_OUTBURST_SECONDS = 60.0
"""Errors that follow one another within it belong together; what is older had another reason."""

_OPEN_LINES = 40
"""An error takes in further lines until so many others have come."""
_MOST_OPEN = 16
_ONE_ERROR_SECONDS = 10.0
"""Lines of one error are written at once."""
_MESSAGE_LINES = 8
"""So many lines of a message that follow the line with the exception's name."""

_ERROR_WORDS = (
    b"ERROR",
    b"CRITICAL",
    b"FATAL",
    b"Fatal",
    b"Traceback (most",
    b"Error",
    b"error: ",
    b"Exception",
    b"terminate called",
    b"what():",
    b"Segfault",
)
_LOADED = (WARMUP, READY)
"""Phases after which compilation is part of a step. The server tells of the last one only where it logs at INFO."""

_WORDS = tuple(dict.fromkeys((BLOCKED, *COMPILES, *_ERROR_WORDS, *(word for word, *_ in PHASE_LINES))))

_LEVELS = {"ERROR", "CRITICAL", "FATAL"}
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_PREFIX = re.compile(
    r"^.{0,40}?(?:\((?P<process>[^()]{1,60} pid=\d+)\) ?)?"
    r"(?:(?P<head>(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL|FATAL) (?P<stamp>\d\d-\d\d \d\d:\d\d:\d\d) \[[^\]]*\]) ?)"
)
"""`(EngineCore pid=31) ERROR 11-25 23:40:13 [core.py:1512] ` before each line of a message."""
_BARE_PREFIX = re.compile(r"^\((?P<process>[^()]{1,60} pid=\d+)\) ")
_OTHER_PREFIX = re.compile(r"^(?:INFO|WARNING|DEBUG): |^\[?[IW]\d{4} |^\S{1,200}:\d+: \w*Warning: ")
"""Of uvicorn's and torch's own lines, and of Python's warnings."""
_TRACEBACK = "Traceback (most recent call last):"
_MARKS = re.compile(r"\s*[~^]+\s*")
_PACKAGES = re.compile(r'(?<=File ")[^"]*/(?:site|dist)-packages/')
_CHAINED = ("The above exception was the direct cause", "During handling of the above exception")
_EXCEPTION = re.compile(r"(?:[A-Za-z_][\w.]*\.)?[A-Z]\w*(?:Error|Exception|Interrupt|Exit|Warning|Timeout)(?::|$)")
_FAILURE = re.compile(
    r"\S.{0,80}?: error: |Fatal Python error|terminate called|\s*what\(\):|!+ *Segfault|.{0,20}Segmentation fault|"
    r"ERROR: "
)
_SHORTEST_AGE_SECONDS, _LONGEST_AGE_SECONDS = 2.0, 6 * 3600.0
"""Time stamps are in whole seconds."""


_SYMPTOM_SECONDS = 60.0
"""So long a symptom holds after the line that shows it: vLLM writes of its queue each 10 s, while it computes."""

_RECENT_SECONDS = 900.0
"""What the log has said so long before explains what happens now; what is older had its own time to do harm."""


@dataclass(frozen=True)
class Phase:
    """How far a start has come."""

    name: str
    """One of `signatures.PHASES`."""
    detail: str
    """What the log says of it, such as "3 of 8 shards"; empty where it says nothing."""
    since: float
    """When the phase began, on the monotonic clock."""


@dataclass
class _Error:
    """A message of an error, or a traceback: its first lines and its last ones."""

    at: float
    table: Table
    first: list[str] = field(default_factory=list)
    last: deque[str] = field(default_factory=lambda: deque(maxlen=_LAST_LINES))
    lines: int = 0
    traceback: bool = False
    summary: str = ""
    """The line with the exception; of several that follow from one another the last."""
    _found: tuple[int, Match | None] = (-1, None)
    """What was found when it had so many lines."""
    dropped_cause: str = ""
    """The first of the lines not kept otherwise that names a known cause."""

    def add(self, text: str) -> None:
        """One line more; marks below a line of code say nothing to those who have no code at hand."""
        if _MARKS.fullmatch(text):
            return
        kept = text[:_LONGEST_KEPT_LINE]
        self.lines += 1
        if len(self.first) < _FIRST_LINES:
            self.first.append(kept)
        else:
            if len(self.last) == _LAST_LINES and not self.dropped_cause and self._names_cause(self.last[0]):
                self.dropped_cause = self.last[0]
            self.last.append(kept)
        if text.startswith(_TRACEBACK):
            self.traceback = True
        elif not self.summary or _EXCEPTION.match(text):
            self.summary = kept

    def _names_cause(self, text: str) -> bool:
        match = self.table.match(text)
        return match is not None and match.kind == CAUSE

    def match(self) -> Match | None:
        """The known failure that it tells of; None where it tells of none."""
        if self._found[0] != self.lines:
            lines = (*self.first, self.dropped_cause, *self.last)
            self._found = self.lines, self.table.root_of_one(line for line in lines if line)
        return self._found[1]

    def names_cause(self) -> bool:
        """Whether it tells of a known failure that does not follow from another one."""
        match = self.match()
        return match is not None and match.kind == CAUSE

    def wraps(self) -> bool:
        """Whether it only says that something else has failed."""
        return WRAPPERS.search(self.summary) is not None and not self.names_cause()

    def texts(self) -> list[str]:
        """Its lines, as far as they are kept, with a mark where others stood."""
        left_out = self.lines - len(self.first) - len(self.last)
        middle = ["...", self.dropped_cause] if self.dropped_cause else []
        return [*self.first, *middle, *(["..."] if left_out else []), *self.last]


@dataclass
class _Open:
    """An error that may go on."""

    error: _Error
    head: str
    """What stands before each of its lines; empty for what is printed without the logger."""
    until: int
    """The number of the line with which it ends at the latest."""
    message_lines: int = -1
    """How many lines of its message may still come; -1 while the traceback itself goes on."""
    chained: bool = False
    """Whether the traceback that comes is of the exception that followed from this one."""


class _Outburst:
    """Errors that belong together, in their order: the first ones and the last ones."""

    def __init__(self) -> None:
        self.first: list[_Error] = []
        self.last: deque[_Error] = deque(maxlen=_LAST_ERRORS)
        self.at = 0.0

    def add(self, error: _Error) -> None:
        """One error more."""
        self.at = error.at
        if len(self.first) < _FIRST_ERRORS:
            self.first.append(error)
        else:
            self.last.append(error)

    def root(self) -> _Error | None:
        """The error that the others follow from, as far as can be told."""
        errors = [*self.first, *self.last]
        telling = [one for one in errors if not one.wraps()]
        for candidates in (
            [one for one in telling if one.names_cause()],
            [one for one in telling if one.traceback and one.match() is None],
            [one for one in telling if one.match() is not None],
            [one for one in telling if one.traceback],
            telling,
        ):
            if candidates:
                return candidates[0]
        return None

    def match(self) -> Match | None:
        """What weighs most of the known failures that they tell of; None where they tell of none."""
        found = [match for match in (one.match() for one in (*self.first, *self.last)) if match is not None]
        return min(found, key=lambda match: KINDS.index(match.kind), default=None)

    def ended_processes(self) -> list[str]:
        """What is said of processes that have ended."""
        found = (ENDED_PROCESSES.search(text) for one in (*self.first, *self.last) for text in (*one.first, *one.last))
        return list(dict.fromkeys(match[0] for match in found if match))[:3]


class Log:
    """What the log has said up to now. One thread may feed it while others ask.

    Args:
        environment: Where keys and tokens are; the process's own if not given.
        clock: The wall clock, as the log's own time stamps are of it.
        table: The known failures; without it the log is told as it is.
    """

    def __init__(
        self,
        environment: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.time,
        table: Table | None = None,
    ) -> None:
        self._redact = redactor(os.environ if environment is None else environment)
        self._clock = clock
        self._table = table or Table()
        self._words = tuple(dict.fromkeys((*_WORDS, *self._table.anywhere_words)))
        self._hint: tuple[Match | None, float] = (None, 0.0)
        """The last cause that stood in a line that need be no error, and when."""
        self._symptoms: dict[str, tuple[Match, float]] = {}
        self._lock = threading.Lock()
        self._partial = b""
        self._phase: Phase | None = None
        self._compiled_at: float | None = None
        self._blocked_at: float | None = None
        self._stamp, self._stamp_age = "", 0.0
        self._age_seconds = 0.0
        """Of the last line with a time stamp: those without one follow at once."""
        self._number = 0
        self._open: dict[str, _Open] = {}
        self._outburst, self._earlier = _Outburst(), _Outburst()

    @property
    def phase(self) -> Phase:
        """How far the start has come."""
        return self._phase or Phase(PHASES[0], "", 0.0)

    def look(self) -> LogLook:
        """What it has warned of."""
        return LogLook(compiled_at=self._compiled_at, blocked_at=self._blocked_at)

    def feed(self, data: bytes, now: float) -> None:
        """Read on.

        Args:
            data: The bytes that have come.
            now: On the monotonic clock.
        """
        with self._lock:
            self._feed(data, now)

    def excerpt(self) -> str:
        """The root cause of what has failed last, at most 2,000 bytes; empty where the log holds no error."""
        with self._lock:
            return self._excerpt(LONGEST_EXCERPT_BYTES)

    def diagnosis(self, at: float) -> Diagnosis | None:
        """The known failure that the root cause is; None where it is not known, and where nothing has failed lately.

        Args:
            at: What is to be explained, on the monotonic clock: now, or when the engine ceased to make progress.
        """
        with self._lock:
            return self._diagnosis(at)

    def symptoms(self, now: float) -> list[Diagnosis]:
        """What has slowed the engine down in the last minute.

        Args:
            now: On the monotonic clock.
        """
        with self._lock:
            return [self._told(match) for match, at in self._symptoms.values() if now - at < _SYMPTOM_SECONDS]

    def recognized(self, text: str) -> Diagnosis | None:
        """The known failure that somebody else's line tells of; None where it tells of none."""
        match = self._table.match(text)
        return self._told(match) if match else None

    def last_words(self, now: float) -> str:
        """The root cause for a termination message, with a last line for the operator where it is a known failure.

        Both together fit below the longest sentence of the stem.

        Args:
            now: On the monotonic clock.
        """
        with self._lock:
            found = self._diagnosis(now)
            line = f"{MARK}{json.dumps(found.as_dict())}" if found else ""
            return f"{self._excerpt(LONGEST_EXCERPT_BYTES - len(line) - 1)}\n{line}".strip()

    def _diagnosis(self, at: float) -> Diagnosis | None:
        _, root = self._root()
        if root is None or at - root.at > _RECENT_SECONDS:
            return None
        match = root.match()
        if match is None and not root.wraps() and root.traceback:
            return None  # it is an error of its own, which nobody knows
        if match is None or match.kind != CAUSE:
            match = self._hinted(root.at) or match or self._outburst.match()
        return self._told(match) if match else None

    def _hinted(self, failed_at: float) -> Match | None:
        """The cause that a line before a failure has named which was no error itself."""
        hint, at = self._hint
        return hint if abs(failed_at - at) < _RECENT_SECONDS else None

    def _told(self, match: Match) -> Diagnosis:
        """What was captured, out of the line without its secrets: what is captured may be a part of one."""
        clean = self._table.match(self._redact(match.line))
        return Diagnosis(match.id, clean.groups if clean and clean.id == match.id else {})

    def _root(self) -> tuple[_Outburst, _Error | None]:
        """The error that the others follow from: of the last outburst, if that tells of one, else of that before it."""
        for outburst in (self._outburst, self._earlier):
            root = outburst.root()
            if root is not None:
                return outburst, root
        return self._outburst, next(iter(self._outburst.first), None)

    def _excerpt(self, most_bytes: int) -> str:
        outburst, root = self._root()
        ended = list(dict.fromkeys((*outburst.ended_processes(), *self._outburst.ended_processes())))
        texts = [self._clean(text) for text in root.texts()] if root else []
        ended = [text for text in ended if not any(text in known for known in texts)]
        return _fitting(texts, ended, most_bytes)

    def _feed(self, data: bytes, now: float) -> None:
        if self._phase is None:
            self._phase = Phase(PHASES[0], "", now)
        data = data.replace(b"\r", b"\n")  # progress bars end so
        first, last = data.find(b"\n"), data.rfind(b"\n")
        if first < 0:
            self._partial += data[: LONGEST_LINE_BYTES - len(self._partial)]
            return
        line = self._partial + data[: min(first, LONGEST_LINE_BYTES)]
        self._partial = data[last + 1 : last + 1 + LONGEST_LINE_BYTES]
        self._lines(line[:LONGEST_LINE_BYTES] + b"\n", now)
        self._lines(data[first + 1 : last + 1], now)

    def _lines(self, block: bytes, now: float) -> None:
        words = [word for word in self._words if word in block]
        if words or self._open:
            for line in block.split(b"\n")[:-1]:
                kept = line[:LONGEST_LINE_BYTES]
                self._line(kept, [word for word in words if word in kept], now)

    def _line(self, line: bytes, words: list[bytes], now: float) -> None:
        """One line.

        Args:
            line: Its bytes.
            words: Which of the words looked for it holds.
            now: On the monotonic clock.
        """
        if not words and not self._open:
            return
        self._number += 1
        text = _COLOUR.sub("", line.decode("utf-8", errors="replace"))
        prefix = _PREFIX.match(text)
        if prefix:
            self._age_seconds = self._age(prefix["stamp"])
        if words:
            at = now - self._age_seconds if prefix else now
            self._warnings(words, at)
            self._progress(words, text, at)
            self._hints(words, text, at)
        self._errors(text, prefix, words, now - self._age_seconds)

    def _age(self, stamp: str) -> float:
        """How long ago a line was written, in seconds; a judge that is started later reads lines that are old already.

        A time stamp has no year and may be of another time zone than ours: what cannot be right counts as now.
        """
        if stamp != self._stamp:
            wall = self._clock()
            self._stamp = stamp
            try:
                written = time.mktime(time.strptime(f"{time.localtime(wall).tm_year}-{stamp}", "%Y-%m-%d %H:%M:%S"))
            except (ValueError, OverflowError):
                written = wall
            age = wall - written
            self._stamp_age = age if _SHORTEST_AGE_SECONDS < age < _LONGEST_AGE_SECONDS else 0.0
        return self._stamp_age

    def _warnings(self, words: list[bytes], at: float) -> None:
        if any(word in COMPILES for word in words):
            self._compiled_at = at
        if BLOCKED in words:
            self._blocked_at = at

    def _hints(self, words: list[bytes], text: str, at: float) -> None:
        """Remember a known failure or a symptom of a line that need be no error."""
        if not any(word in self._table.anywhere_words for word in words):
            return
        match = self._table.match(text)
        if match is not None and match.kind == SYMPTOM:
            self._symptoms[match.id] = match, at
        elif match is not None and match.anywhere:
            self._hint = match, at

    def _progress(self, words: list[bytes], text: str, at: float) -> None:
        for word, pattern, name, detail in PHASE_LINES:
            found = pattern.search(text) if word in words else None
            if found is None:
                continue
            if name == COMPILING and self.phase.name in _LOADED:
                self._compiled_at = at
            said = detail.format(*found.groups())
            if name == self.phase.name:
                self._phase = Phase(name, said or self.phase.detail, self.phase.since)
            elif PHASES.index(name) > PHASES.index(self.phase.name):
                self._phase = Phase(name, said, at)

    def _errors(self, text: str, prefix: re.Match[str] | None, words: list[bytes], at: float) -> None:
        """Add the line to the error that it goes on with, or begin one."""
        if self._open:
            for key in [key for key, one in self._open.items() if one.until <= self._number]:
                del self._open[key]
        if text.startswith("{") and words:
            level, message = _json_message(text)
            if level in _LEVELS:
                error = self._begin("json", "json", at)
                for line in message.splitlines():
                    error.add(line)
            return
        bare = None if prefix else _BARE_PREFIX.match(text)
        process = (prefix["process"] if prefix else bare["process"] if bare else "") or ""
        head = prefix["head"] if prefix else ""
        body = text[prefix.end() :] if prefix else text[bare.end() :] if bare else text
        going_on = self._open.get(process)
        if going_on is not None and at - going_on.error.at > _ONE_ERROR_SECONDS:
            del self._open[process]
            going_on = None
        if going_on is not None and going_on.head == head and (head or self._goes_on(going_on, body)):
            going_on.error.add(body)
            going_on.until = self._number + _OPEN_LINES
            return
        if going_on is not None:
            del self._open[process]
        if self._is_error(prefix["level"] if prefix else "", body):
            self._begin(process, head, at).add(body)

    def _goes_on(self, one: _Open, body: str) -> bool:
        """Whether a line without the logger's prefix belongs to the traceback before it."""
        if _OTHER_PREFIX.match(body):
            return False
        if body.startswith(_CHAINED) or (body.startswith(_TRACEBACK) and (one.chained or not one.error.traceback)):
            one.chained = not body.startswith(_TRACEBACK)
            one.message_lines = -1
            return True
        if body.startswith(_TRACEBACK):
            return False
        if not one.error.traceback or one.message_lines >= 0:
            one.message_lines = (one.message_lines if one.message_lines >= 0 else _MESSAGE_LINES) - 1
            return one.message_lines > 0
        if body[:1] not in {" ", "\t", ""} and not body.startswith("["):
            one.message_lines = _MESSAGE_LINES
        return True

    def _is_error(self, level: str, body: str) -> bool:
        if level:
            return level in _LEVELS
        return body.startswith(_TRACEBACK) or bool(_EXCEPTION.match(body) or _FAILURE.match(body))

    def _begin(self, process: str, head: str, at: float) -> _Error:
        if self._outburst.first and at - self._outburst.at > _OUTBURST_SECONDS:
            self._earlier, self._outburst = self._outburst, _Outburst()
        error = _Error(at, self._table)
        self._outburst.add(error)
        if len(self._open) >= _MOST_OPEN:
            del self._open[next(iter(self._open))]
        self._open[process] = _Open(error, head, self._number + _OPEN_LINES)
        return error

    def _clean(self, text: str) -> str:
        return _CONTROL.sub(" ", _PACKAGES.sub("", self._redact(text)))[:_LONGEST_SHOWN_LINE]


def _fitting(texts: list[str], ended: list[str], most_bytes: int) -> str:
    """Beginning and end of the lines, as many as fit; what is said of ended processes last."""
    room = most_bytes - sum(len(_bytes(text)) + 1 for text in ended)
    head = texts[:1]
    room -= sum(len(_bytes(text)) + 1 for text in head)
    tail: list[str] = []
    for text in reversed(texts[1:]):
        room -= len(_bytes(text)) + 1
        if room < len("...\n"):
            tail.append("...")
            break
        tail.append(text)
    whole = _bytes("\n".join((*head, *reversed(tail), *ended)).strip())
    return whole[:most_bytes].decode("utf-8", errors="ignore")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", errors="replace")


def _json_message(text: str) -> tuple[str, str]:
    """Level and message of a line in JSON (`VLLM_LOGGING_CONFIG_PATH`); empty where it is none."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return "", ""
    if not isinstance(line, dict):
        return "", ""
    message = "\n".join(str(line[name]) for name in ("message", "exc_info") if line.get(name))
    return str(line.get("levelname") or line.get("level") or "").upper(), message
