"""A shell's text taken apart as a shell would, as far as that needs no shell.

Nothing is run, and nothing is expanded that only a machine knows.

A variable whose value is not in the text stays in its word as a mark; `variables_in` finds these.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from vllm_operator.cli.importing.conditions import Branches
from vllm_operator.cli.importing.secrets import is_secret

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_OPEN, _CLOSE = "\ue000", "\ue001"
_SPLIT: Final = "\ue002"
"""Stands in a word where a shell splits what an unquoted variable holds."""

_ITEM: Final = "\ue003"
"""Stands between the items of a list, which are words of their own wherever `"${LIST[@]}"` stands."""

_MARKED: Final = re.compile(f"{_OPEN}([^{_CLOSE}]*){_CLOSE}")
_BLANKS: Final = re.compile(rf"({_OPEN}[^{_CLOSE}]*{_CLOSE})|[ \t\n]+")
"""Blanks, and marks before them, which may hold some that nothing splits at."""
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ASSIGNMENT: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(\+?)=")
_LIST: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\[[@*]\]")
_BRACED: Final = re.compile(r"(!?[A-Za-z_@*#0-9][A-Za-z0-9_]*)(?:(:?[-=?+])(.*))?", re.DOTALL)
_PROMPT: Final = re.compile(r"(?m)^[ \t]*[$#%>][ \t]+(?=(?:sudo |docker |podman |vllm |python3? |export |[A-Z_]+=))")
_CONTINUED: Final = re.compile(r"[ \t][`^][ \t]*\n")
"""A line that goes on, as PowerShell and Windows write it."""

_OPERATORS: Final = ("&&", "||", ";;", "|&", ";", "|", "&", "\n", "(", ")")
_REDIRECTION: Final = re.compile(r"[0-9]?(?:>>|>&|<<<|<<-?|&>>?|<|>)")


class ShellError(ValueError):
    """A text that no shell would take: a quote that is not closed."""


@dataclass(slots=True)
class Statement:
    """One simple command."""

    words: list[str] = field(default_factory=list)
    assigned: dict[str, str] = field(default_factory=dict)
    """Variables in front of it."""
    redirected: bool = False
    follows: str = ""
    """What stands before it: `&&`, `|`, a newline or nothing."""
    comments: tuple[str, ...] = ()
    """Comments between the command before and this one's end."""


@dataclass(frozen=True, slots=True)
class Script:
    """A shell's text."""

    statements: tuple[Statement, ...]
    comments: tuple[str, ...]
    """Lines that are comments, without the `#`."""
    exported: dict[str, str]
    """Variables that hold for every command of it."""


def mark(name: str) -> str:
    """A variable that nobody has filled in, as it stands in a word."""
    return f"{_OPEN}{name}{_CLOSE}"


def variables_in(text: str) -> list[str]:
    """Names of the variables in a word that nobody has filled in."""
    return list(dict.fromkeys(_MARKED.findall(text)))


def shown(text: str) -> str:
    """A word for people: `${NAME}` stands for a variable that nobody has filled in."""
    return _MARKED.sub(
        lambda found: "$(" + found[1][1:] + ")" if found[1].startswith("(") else f"${{{found[1]}}}", text
    )


def escaped(text: str) -> str:
    """A text as kubelet has to get it to hand it on unchanged: it takes `$(NAME)` for a variable, and `$$` for `$`."""
    return re.sub(r"\$(?=[$(])", "$$", text) if "$" in text else text


def parsed(text: str, values: Mapping[str, str] | None = None) -> Script:
    """The commands of a text, with what it assigns itself filled in; `values` are variables that are known before.

    Raises:
        ShellError: a quote is not closed.
    """
    plain = _CONTINUED.sub(" \\\\\n", _PROMPT.sub("", text.replace("\r\n", "\n")))
    reader = _Reader(plain, dict(values or {}))
    statements = tuple(reader.statements())
    return Script(statements, tuple(reader.comments), reader.exported)


class _Reader:
    """Reads one text, from its beginning to its end."""

    def __init__(self, text: str, values: dict[str, str]) -> None:
        self._text = text
        self._at = 0
        self._values = values
        self.comments: list[str] = []
        self.exported: dict[str, str] = {}
        self._told = 0
        self._branches = Branches()
        self._functions: set[str] = set()

    def statements(self) -> Iterator[Statement]:
        """Every command that has words, in order."""
        follows, current = "", Statement()
        while True:
            self._skip_blanks()
            operator = self._operator()
            if operator == "(" and self._text.startswith(")", self._at) and len(current.words) == 1:
                self._functions.add(current.words[0])
                self._at += 1
                current = Statement(follows=follows)
                continue
            if operator or self._at >= len(self._text):
                yield from self._finished(current)
                follows = operator
                current = Statement(follows=follows)
                if self._at >= len(self._text) and not operator:
                    return
                continue
            redirection = _REDIRECTION.match(self._text, self._at)
            if redirection:
                self._redirection(redirection)
                current.redirected = True
                continue
            self._add_word(current)

    def _finished(self, statement: Statement) -> Iterator[Statement]:
        """A command at its end; assignments alone hold from then on."""
        words = statement.words
        if not self._branches.follow(words, statement.follows):
            return
        if words and words[0] in self._functions:  # what it does is read where it is defined
            return
        if words[:2] == ["set", "--"]:
            self._values["@"] = _ITEM.join(words[2:])
            return
        if words and words[0] in {"export", "set", "declare", "local", "readonly"}:
            for word in words[1:]:
                name, equals, value = word.partition("=")
                if equals and _NAME.fullmatch(name):
                    self._values[name] = value
                    if words[0] == "export":
                        self.exported[name] = value
                elif words[0] == "export" and word in self._values:
                    self.exported[word] = self._values[word]
            return
        if words:
            statement.comments = tuple(self.comments[self._told :])
            self._told = len(self.comments)
            yield statement
        else:
            self._values |= statement.assigned

    def _skip_blanks(self) -> None:
        while self._at < len(self._text):
            rest = self._text[self._at : self._at + 2]
            if rest == "\\\n":
                self._at += 2
            elif rest[0] in " \t\r":
                self._at += 1
            elif rest[0] == "#":
                end = self._text.find("\n", self._at)
                end = len(self._text) if end < 0 else end
                self.comments.append(self._text[self._at + 1 : end].strip())
                self._at = end
            else:
                return

    def _operator(self) -> str:
        if self._text.startswith("&>", self._at):
            return ""
        found = next((one for one in _OPERATORS if self._text.startswith(one, self._at)), "")
        self._at += len(found)
        return found

    def _redirection(self, found: re.Match[str]) -> None:
        self._at = found.end()
        here = found[0].lstrip("0123456789")
        if here in {"<<", "<<-"}:
            self._skip_blanks()
            end = self._word()
            closing = re.compile(rf"(?m)^\s*{re.escape(end)}\s*$").search(self._text, self._at)
            self._at = closing.end() if closing else len(self._text)
            return
        self._skip_blanks()
        self._word()

    def _add_word(self, statement: Statement) -> None:
        assignment = _ASSIGNMENT.match(self._text, self._at)
        if assignment and not statement.words:
            self._at = assignment.end()
            if self._text.startswith("(", self._at):
                self._add_items(assignment[1], more=bool(assignment[2]))
                return
            statement.assigned[assignment[1]] = self._word().replace(_SPLIT, " ")
            return
        unquoted = self._text[self._at] in "$`"
        words = re.split(f"[{_SPLIT}{_ITEM}]", self._word())
        statement.words += [word for word in words if word or not (unquoted or len(words) > 1)]

    def _add_items(self, name: str, *, more: bool) -> None:
        """A list of bash: `NAME=(one two)`, or more items of it."""
        items = [self._values[name]] if more and self._values.get(name) else []
        self._at += 1
        while self._at < len(self._text) and self._text[self._at] != ")":
            self._skip_blanks()
            before = self._at
            if self._text[self._at : self._at + 1] not in {")", "\n", ""}:
                items.append(self._word().replace(_SPLIT, _ITEM))
            if self._at == before and self._text[self._at : self._at + 1] != ")":
                self._at += 1
        self._at += 1
        self._values[name] = _ITEM.join(item for item in items if item)

    def _word(self) -> str:
        """The word that begins here, its quotes taken off."""
        parts: list[str] = []
        while self._at < len(self._text):
            letter = self._text[self._at]
            if letter in " \t\n\r;|&<>()":
                break
            self._at += 1
            if letter == _OPEN:
                parts.append(f"{_OPEN}{self._until(_CLOSE)}{_CLOSE}")
            elif letter == "'":
                parts.append(self._until("'"))
            elif letter == '"':
                parts.append(self._double_quoted())
            elif letter == "\\":
                if self._text.startswith("\n", self._at):
                    self._at += 1
                else:
                    parts.append(self._text[self._at : self._at + 1])
                    self._at += 1
            elif letter == "$" and self._text.startswith("'", self._at):
                self._at += 1
                parts.append(self._until("'").replace("\\n", "\n").replace("\\t", "\t"))
            elif letter in "$`":
                parts.append(self._expansion(letter, quoted=False))
            else:
                parts.append(letter)
        return "".join(parts)

    def _until(self, quote: str) -> str:
        end = self._text.find(quote, self._at)
        if end < 0:
            raise ShellError(f"a {quote} is not closed: {self._text[self._at : self._at + 40]!r}")
        found, self._at = self._text[self._at : end], end + 1
        return found

    def _double_quoted(self) -> str:
        parts: list[str] = []
        while True:
            if self._at >= len(self._text):
                raise ShellError('a " is not closed')
            letter = self._text[self._at]
            self._at += 1
            if letter == '"':
                return "".join(parts)
            if letter == "\\":
                following = self._text[self._at : self._at + 1]
                self._at += 1
                if following != "\n":
                    parts.append(following if following in '$`"\\' else f"\\{following}")
            elif letter in "$`":
                parts.append(self._expansion(letter, quoted=True).replace(_SPLIT, " "))
            else:
                parts.append(letter)

    def _expansion(self, letter: str, *, quoted: bool) -> str:
        """What stands for a variable or the output of a command."""
        if letter == "`":
            inner = self._until("`")
            return "" if inner.lstrip().startswith("#") else mark(f"({inner}")  # a comment within a line
        if self._text.startswith(("(", "{"), self._at):
            return self._substitution() if self._text[self._at] == "(" else self._braced(quoted=quoted)
        named = _NAME.match(self._text, self._at)
        if named:
            self._at = named.end()
            return _split(self._values.get(named[0], mark(named[0])), quoted=quoted)
        if self._text[self._at : self._at + 1] in {"@", "*", "#", "?", *"0123456789"}:
            self._at += 1
            name = self._text[self._at - 1]
            return self._values.get(name, mark(name))
        return "$"

    def _substitution(self) -> str:
        """`$(...)`: in a pod kubelet's form of a variable, in a shell the output of a command."""
        depth, start = 0, self._at
        while self._at < len(self._text):
            depth += {"(": 1, ")": -1}.get(self._text[self._at], 0)
            self._at += 1
            if not depth:
                break
        inner = self._text[start + 1 : self._at - 1]
        if inner in self._values:
            return self._values[inner]
        return mark(f"({inner}")

    def _braced(self, *, quoted: bool) -> str:
        depth, start = 0, self._at
        while self._at < len(self._text):
            depth += {"{": 1, "}": -1}.get(self._text[self._at], 0)
            self._at += 1
            if not depth:
                break
        a_list = _LIST.fullmatch(self._text[start + 1 : self._at - 1])
        if a_list:
            return self._values.get(a_list[1], mark(f"{a_list[1]}[@]"))
        found = _BRACED.fullmatch(self._text[start + 1 : self._at - 1])
        if found is None:
            return mark(self._text[start + 1 : self._at - 1])
        name, operator, operand = found[1], found[2] or "", found[3] or ""
        known = self._values.get(name)
        if operator.endswith("+"):
            return _unquoted(operand, self._values) if known else ""
        if known is not None and (known or not operator.startswith(":")):
            return _split(known, quoted=quoted)
        if operator.endswith(("-", "=")) and (operand or not is_secret(name)):
            return self._values.get(name) or _unquoted(operand, self._values)
        return mark(name)


def _split(value: str, *, quoted: bool) -> str:
    """The value of a variable as it stands in a word."""
    return value if quoted else _BLANKS.sub(lambda found: found[1] or _SPLIT, value)


def _unquoted(text: str, values: Mapping[str, str]) -> str:
    """What stands in a variable's braces for the case that it is not set, or that it is."""
    reader = _Reader(text, dict(values))
    words = [word for statement in reader.statements() for word in statement.words]
    return _SPLIT.join(words)
