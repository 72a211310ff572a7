"""A shell's text taken apart as a shell would, as far as that needs no shell.

Nothing is run, and nothing is expanded that only a machine knows.

A variable whose value is not in the text stays in its word as a mark; `variables_in` finds these.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from vllm_operator.cli.importing.blocks import CONDITIONAL_LOOPS, KEYWORDS, LOOPS, Blocks, is_in_command_position
from vllm_operator.cli.importing.conditions import Branches, judged
from vllm_operator.cli.importing.secrets import is_secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

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
_BRACED: Final = re.compile(r"(!?[A-Za-z_@*#0-9][A-Za-z0-9_]*)(\[[@*]\])?(?:(:?[-=?+])(.*))?", re.DOTALL)
_CONDITIONAL: Final = re.compile(f"{_OPEN}([A-Za-z_@*#0-9]\\w*)(?:\\[[@*]\\])?:?\\+[\\s\"']*-[^{_CLOSE}]*{_CLOSE}")
"""Arguments that are there only where a variable is set, and nobody knows whether it is."""

_STARTED: Final = re.compile(r"(?=(?:sudo |docker |podman |vllm |python3? |export |[A-Z_]+=))")
"""Where a command begins."""

_PROMPT: Final = re.compile(rf"(?m)^[ \t]*[$%>][ \t]+{_STARTED.pattern}")
_ROOT_PROMPT: Final = re.compile(rf"(?m)^[ \t]*#[ \t]+{_STARTED.pattern}")
_CONTINUED: Final = re.compile(r"[ \t][`^][ \t]*\n")
"""A line that goes on, as PowerShell and Windows write it."""

_MEANT_TO_GO_ON: Final = re.compile(r"\\[ \t]+(?:#[^\n]*)?\n(?=[ \t]*--?[A-Za-z])")
"""A line that a shell ends in spite of its backslash, since blanks or a comment follow; an option follows them."""

_GOES_ON_NOWHERE: Final = re.compile(r"\\\s*\Z")

_OPERATORS: Final = ("&&", "||", ";;&", ";;", ";&", "|&", ";", "|", "&", "\n", "(", ")")
_END_OF_WORD: Final = " \t\n\r;|&<>()"
_BLANK: Final = " \t\n\r"
_END_OF_CONDITION: Final = re.compile(r"\]\](?=[ \t\n\r;|&<>()]|$)")
_BRACES: Final = re.compile(r"\\.|\$\{|[{}'\"]", re.DOTALL)
"""What matters for where a variable's braces end."""

_DECLARING: Final = frozenset({"export", "set", "declare", "typeset", "local", "readonly"})
_OF_HERE: Final = re.compile(r"\\[$`\\]|\$\{[^{}]*\}|\$[A-Za-z_][A-Za-z0-9_]*")
"""What a shell changes in a text behind `<<`, as far as it runs nothing for it."""

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
    loop: str = ""
    """Keyword of the loop that it stands in."""
    over: tuple[str, tuple[str, ...]] = ("", ())
    """Variable of that loop, and the words that it goes over; empty where there is none."""
    here: str = ""
    """The text behind `<<`, which it reads."""
    started_by: str = ""
    """The program that starts it, for people; empty where the shell itself does."""


@dataclass(frozen=True, slots=True)
class Script:
    """A shell's text."""

    statements: tuple[Statement, ...]
    comments: tuple[str, ...]
    """Lines that are comments, without the `#`."""
    exported: dict[str, str]
    """Variables that hold for every command of it."""
    mended: bool = False
    """Whether lines are taken as meant that a shell would have ended."""


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


def without_conditional(words: Iterable[str]) -> tuple[list[str], dict[str, str]]:
    """The words without arguments that depend on whether a variable is set, and these with the variable's name."""
    kept = list(words)
    found = {word: hit[1] for word in kept if (hit := _CONDITIONAL.fullmatch(word))}
    return [word for word in kept if word not in found], {shown(word): name for word, name in found.items()}


def escaped(text: str) -> str:
    """A text as kubelet has to get it to hand it on unchanged: it takes `$(NAME)` for a variable, and `$$` for `$`."""
    return re.sub(r"\$(?=[$(])", "$$", text) if "$" in text else text


def parsed(text: str, values: Mapping[str, str] | None = None) -> Script:
    """The commands of a text, with what it assigns itself filled in; `values` are variables that are known before.

    Raises:
        ShellError: a quote is not closed.
    """
    plain = _CONTINUED.sub(" \\\\\n", _without_prompts(text.replace("\r\n", "\n")))
    plain, mended = _MEANT_TO_GO_ON.subn("\\\\\n", _GOES_ON_NOWHERE.sub("", plain))
    reader = _Reader(plain, dict(values or {}))
    statements = tuple(reader.statements())
    return Script(statements, tuple(reader.comments), reader.exported, mended=bool(mended))


def _without_prompts(text: str) -> str:
    """A text without the prompts before its commands; `#` is one only where a command stands nowhere else."""
    plain = _PROMPT.sub("", text)
    return plain if _has_command(plain) else _ROOT_PROMPT.sub("", plain)


def _has_command(text: str) -> bool:
    """Whether a line stands in a text that neither begins with `#` nor continues one that does."""
    continued = False
    for line in filter(str.strip, text.splitlines()):
        if line.lstrip().startswith("#") == continued or line.startswith("#!") or _STARTED.match(line):
            return True
        continued = line.rstrip().endswith("\\") and (continued or bool(_ROOT_PROMPT.match(line)))
    return False


class _Reader:
    """Reads one text, from its beginning to its end."""

    def __init__(self, text: str, values: dict[str, str]) -> None:
        self._text = text
        self._at = 0
        self._values = values
        self._given = dict(values)
        self.comments: list[str] = []
        self.exported: dict[str, str] = {}
        self._told = 0
        self._branches = Branches()
        self._blocks = Blocks()
        self._before: bool | None = None
        """Whether the command before has succeeded."""
        self._functions: set[str] = set()

    def statements(self) -> Iterator[Statement]:
        """Every command that has words, in order."""
        follows, current = "", Statement()
        while True:
            self._skip_blanks()
            if self._blocks.expects_pattern:
                self._pattern()
                continue
            if is_in_command_position(current.words) and self._text.startswith("((", self._at):
                self._arithmetic()
                continue
            operator = self._operator()
            if operator == "(" and self._text.startswith(")", self._at) and self._names_function(current.words):
                self._at += 1
                current = Statement(follows=follows)
            elif operator or self._at >= len(self._text):
                yield from self._finished(current)
                follows = operator
                current = Statement(follows=follows)
                if operator.startswith((";;", ";&")):
                    self._blocks.end_arm()
                if self._at >= len(self._text) and not operator:
                    return
            else:
                self._add(current)
                if self._opens_or_ends_case(current.words):
                    yield from self._finished(current)
                    current = Statement()

    def _add(self, statement: Statement) -> None:
        """The next word, redirection or condition of a command."""
        redirection = _REDIRECTION.match(self._text, self._at)
        if redirection:
            statement.here = self._redirection(redirection) or statement.here
            statement.redirected = True
            return
        self._add_word(statement)
        if statement.words[-1:] == ["[["] and is_in_command_position(statement.words[:-1]):
            self._add_condition(statement)

    def _names_function(self, words: list[str]) -> bool:
        """Whether the words name a function that is defined."""
        if len(words) != 1 and words[:-1] != ["function"]:
            return False
        self._functions.add(words[-1])
        return True

    def _arithmetic(self) -> None:
        """`((...))`: what it says is not looked at."""
        end = self._text.find("))", self._at)
        self._at = len(self._text) if end < 0 else end + 2

    def _add_condition(self, statement: Statement) -> None:
        """The words behind `[[`, up to its `]]`; neither `||` nor `(` ends a command there."""
        self._skip_blanks()
        while self._at < len(self._text):
            if self._text.startswith("\n", self._at):
                if statement.words[-1] not in {"&&", "||", "(", "!", "[["}:
                    return
                self._at += 1
            elif _END_OF_CONDITION.match(self._text, self._at):
                self._at += 2
                statement.words.append("]]")
                return
            else:
                statement.words.append(self._word(_BLANK).replace(_SPLIT, " "))
            self._skip_blanks()

    def _opens_or_ends_case(self, words: list[str]) -> bool:
        """Whether `case SUBJECT in` or `esac` stands at the end, which is taken off."""
        if words[-3:-2] == ["case"] and words[-1] == "in" and is_in_command_position(words[:-3]):
            self._blocks.open_case(words[-2])
            del words[-3:]
            return True
        if words == ["esac"] and self._blocks.end_case():
            words.clear()
            return True
        return False

    def _pattern(self) -> None:
        """The words before the `)` of an arm of a `case`, or `esac`."""
        patterns: list[str] = []
        while self._at < len(self._text):
            self._skip_blanks()
            letter = self._text[self._at : self._at + 1]
            if letter == ")":
                break
            if letter and letter in _END_OF_WORD:
                self._at += 1
            elif letter:
                patterns.append(self._word())
            if patterns == ["esac"]:
                self._blocks.end_case()
                return
        self._at += 1
        self._blocks.arm(patterns)

    def _finished(self, statement: Statement) -> Iterator[Statement]:
        """A command at its end, each keyword that opens a block before it by itself."""
        while len(statement.words) > 1 and statement.words[0] in _BEFORE_BLOCKS and statement.words[1] in _BLOCKS:
            yield from self._done(Statement([statement.words.pop(0)], follows=statement.follows))
            statement.follows = ""
        yield from self._done(statement)

    def _done(self, statement: Statement) -> Iterator[Statement]:
        """A command at its end; assignments alone hold from then on."""
        words = statement.words
        taken = self._branches.follow(words, statement.follows)
        self._blocks.follow(words)
        if not taken or not self._blocks.taken:
            return
        command = behind_keywords(words)
        if not self._goes_on(statement.follows):
            return
        if not command or command[0] in _DECLARING:
            self._assign(statement.assigned)
        if command:
            self._before = judged(command)
        if words and not self._is_the_shells(command):
            statement.comments = tuple(self.comments[self._told :])
            self._told = len(self.comments)
            statement.loop, statement.over = self._blocks.loop, self._blocks.over
            yield statement

    def _goes_on(self, follows: str) -> bool:
        """Whether a command is run, as far as the one before says it."""
        if follows not in {"&&", "||"}:
            self._before = None
        return not ((follows == "&&" and self._before is False) or (follows == "||" and self._before is True))

    def _is_the_shells(self, words: list[str]) -> bool:
        """Whether a command does nothing but set variables, or what it does is read where it is defined."""
        if not words:
            return False
        if words[0] == "function" and len(words) > 1:
            self._functions.add(words[1])
            return True
        if words[:2] == ["set", "--"]:
            self._values["@"] = _ITEM.join(words[2:])
        elif words[0] in _DECLARING:
            self._declare(words)
        return words[0] in self._functions or words[0] in _DECLARING

    def _declare(self, words: list[str]) -> None:
        """`export NAME=VALUE` and the like."""
        for word in words[1:]:
            name, equals, value = word.partition("=")
            if equals and _NAME.fullmatch(name):
                self._assign({name: value})
            if words[0] == "export" and name in self._values:
                self.exported[name] = self._values[name]

    def _assign(self, assigned: Mapping[str, str]) -> None:
        """Variables that hold from here on; one that may have been set or not becomes a mark of its own name."""
        for name, value in assigned.items():
            if name in self._given and (self._blocks.unsure or _is_own_argument(value)):
                self._values[name] = self._given[name]
            elif not self._blocks.unsure:
                self._values[name] = value
            elif self._blocks.over_options:
                self._values.setdefault(name, mark(name))
            elif name in self._values or variables_in(value) or self._blocks.in_unknown_arm:
                self._values[name] = value if self._values.get(name) == value else mark(name)
            else:
                self._values[name] = value

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

    def _redirection(self, found: re.Match[str]) -> str:
        """Pass over a redirection; the text behind `<<` is returned."""
        self._at = found.end()
        self._skip_blanks()
        if found[0].lstrip("0123456789") in {"<<", "<<-"}:
            return self._here()
        self._word()
        return ""

    def _here(self) -> str:
        """The text up to its closing word, in which variables are filled in unless that word is quoted."""
        quoted = self._text[self._at : self._at + 1] in {"'", '"', "\\"}
        end = self._word()
        closing = re.compile(rf"(?m)^[ \t]*{re.escape(end)}[ \t]*$").search(self._text, self._at)
        stop = closing.start() if closing else len(self._text)
        begin = self._text.find("\n", self._at, stop) + 1
        self._at = closing.end() if closing else stop
        text = self._text[begin:stop] if begin else ""
        if quoted:
            return text
        return _OF_HERE.sub(lambda hit: hit[0][1:] if hit[0][0] == "\\" else self._filled(hit[0]), text)

    def _filled(self, variable: str) -> str:
        """What stands for a variable in a text behind `<<`: `${NAME}` if nobody has filled it in."""
        return shown(_Reader(variable, self._values).operand(quoted=True))

    def _add_word(self, statement: Statement) -> None:
        assignment = _ASSIGNMENT.match(self._text, self._at)
        plain = is_in_command_position(statement.words)
        a_list = bool(assignment and self._text.startswith("(", assignment.end()))
        if assignment and (plain or (a_list and behind_keywords(statement.words)[0] in _DECLARING)):
            self._at = assignment.end()
            name = assignment[1]
            before = statement.assigned.get(name, self._values.get(name, "")) if assignment[2] else ""
            if a_list:
                self._add_items(statement, name, before)
            else:
                statement.assigned[name] = before + self._word().replace(_SPLIT, " ")
            return
        unquoted = self._text[self._at] in "$`"
        words = re.split(f"[{_SPLIT}{_ITEM}]", self._word())
        statement.words += [word for word in words if word or not (unquoted or len(words) > 1)]

    def _add_items(self, statement: Statement, name: str, before: str) -> None:
        """A list of bash: `NAME=(one two)`, or more items of it."""
        items = [before]
        self._at += 1
        while self._at < len(self._text) and self._text[self._at] != ")":
            self._skip_blanks()
            at = self._at
            if self._text[self._at : self._at + 1] not in {")", "\n", ""}:
                items.append(self._word().replace(_SPLIT, _ITEM))
            if self._at == at and self._text[self._at : self._at + 1] != ")":
                self._at += 1
        self._at += 1
        statement.assigned[name] = _ITEM.join(item for item in items if item)

    def operand(self, *, quoted: bool) -> str:
        """The whole text as what stands in a variable's braces: nothing in it ends a command."""
        parts: list[str] = []
        while self._at < len(self._text):
            if quoted:
                parts.append(self._double_quoted(whole=True))
            elif self._text[self._at] in _BLANK:
                self._at += 1
                parts.append("" if parts[-1:] == [_SPLIT] else _SPLIT)
            else:
                parts.append(self._word(_BLANK))
        return "".join(parts)

    def _word(self, ends: str = _END_OF_WORD) -> str:
        """The word that begins here, its quotes taken off."""
        parts: list[str] = []
        while self._at < len(self._text):
            letter = self._text[self._at]
            if letter in ends:
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

    def _double_quoted(self, *, whole: bool = False) -> str:
        """What stands up to the next `"`; with `whole`, the rest of the text without any."""
        parts: list[str] = []
        while True:
            if self._at >= len(self._text):
                if whole:
                    return "".join(parts)
                raise ShellError('a " is not closed')
            letter = self._text[self._at]
            self._at += 1
            if letter == '"':
                if whole:
                    continue
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
        inner = self._within_braces(quoted=quoted)
        found = _BRACED.fullmatch(inner)
        if found is None:
            return _unfilled(inner)
        name, a_list, operator, operand = found[1], found[2] or "", found[3] or "", found[4] or ""
        known = self._values.get(name)
        if operator.endswith("+"):
            return self._where_set(inner, operand, known, empty_counts=operator == "+", quoted=quoted)
        unset = known is None or (not known and operator.startswith(":"))
        fills_in = operator.endswith(("-", "=")) and (operand or not is_secret(name))
        if fills_in and (unset or _is_own_argument(known or "")):
            value = _Reader(operand, self._values).operand(quoted=quoted)
            if operator.endswith("="):
                self._assign({name: value.replace(_SPLIT, " ")})
            return value
        if known is None or unset:
            return mark(name + a_list)
        if a_list:
            return known or _ITEM  # no item is no word
        return _split(known, quoted=quoted)

    def _within_braces(self, *, quoted: bool) -> str:
        """What stands between the braces that begin here, as a shell finds their end."""
        depth, quote, start = 0, "", self._at
        while self._at < len(self._text):
            found = _BRACES.search(self._text, self._at)
            if found is None:
                break
            self._at, sign = found.end(), found[0]
            if quote:
                quote = "" if sign == quote else quote
            elif sign == '"' or (sign == "'" and not quoted):
                quote = sign
            elif sign == "${" or (sign == "{" and not depth):
                depth += 1
            elif sign == "}":
                depth -= 1
                if not depth:
                    return self._text[start + 1 : self._at - 1]
        self._at = len(self._text)
        return self._text[start + 1 :]

    def _where_set(self, inner: str, operand: str, known: str | None, *, empty_counts: bool, quoted: bool) -> str:
        """`${NAME:+WORDS}`: words that are there where a variable is set."""
        if known is None or (known and not _MARKED.sub("", known)):
            return _unfilled(inner)
        return _Reader(operand, self._values).operand(quoted=quoted) if known or empty_counts else ""


def behind_keywords(words: Sequence[str]) -> list[str]:
    """The words of a command that stands in a condition: `then vllm serve ...`, `until vllm serve ...`."""
    return list(itertools.dropwhile(lambda word: word in KEYWORDS or word in CONDITIONAL_LOOPS, words))


_BEFORE_BLOCKS: Final = frozenset({"then", "else", "do", "{"})
_BLOCKS: Final = LOOPS | {"if"}


def _unfilled(inner: str) -> str:
    """A mark for what stands in braces, whatever marks are in it."""
    return mark(shown(inner))


def _is_own_argument(value: str) -> bool:
    """Whether a value is but an argument that the script is called with, such as `$1`, and nobody has called it."""
    return value in map(mark, "123456789@*")


def _split(value: str, *, quoted: bool) -> str:
    """The value of a variable as it stands in a word."""
    return value if quoted else _BLANKS.sub(lambda found: found[1] or _SPLIT, value)
