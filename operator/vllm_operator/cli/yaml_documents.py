"""YAML and JSON files, read as kubectl reads them.

kubectl takes a file that begins with `{` for JSON, and cuts any other one at the lines that begin with `---`; each
piece is then read for itself (k8s.io/apimachinery, pkg/util/yaml) by go.yaml.in/yaml/v2. PyYAML reads the same language
but for tabs, and means other things by it: only its scanner and parser are used here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NoReturn

import yaml

from vllm_operator.cli.scalars import PREFIX, ScalarError, json_number, key_text, resolved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MOST_LEVELS: Final = 100
"""How deep maps and lists may stand in each other; no resource comes near."""

_LOOKED_AT: Final = 4096
"""Characters of the beginning in which kubectl looks for `{`."""

_MERGE: Final = "<<"


class NotYAMLError(ValueError):
    """A file is neither YAML nor JSON, as kubectl reads them."""


@dataclass(frozen=True, slots=True)
class Document:
    """A document of a file."""

    value: Any
    """Maps, lists, texts, numbers, booleans and null."""
    repeated: tuple[str, ...]
    """Names of fields that stand twice in one map. kubectl takes the last one, and says nothing."""


def documents(text: str) -> list[Document]:
    """Every document of a file that holds anything.

    Raises:
        NotYAMLError: kubectl could not read it either.
    """
    found, rest = _json_documents(text) if text[:_LOOKED_AT].lstrip().startswith("{") else ([], text)
    found += [_yaml_document(piece) for piece in _pieces(rest)]
    return [document for document in found if document.value is not None]


def _json_documents(text: str) -> tuple[list[Document], str]:
    """Documents of JSON, one after the other, and what follows them. After a single one that may be YAML."""
    found: list[Document] = []
    rest = text.lstrip()
    while rest:
        repeated: list[str] = []
        try:
            value, end = _json_decoder(repeated).raw_decode(rest)
        except ScalarError as error:
            raise NotYAMLError(f"is no JSON: {error}") from None
        except (ValueError, RecursionError) as error:
            if len(found) > 1:
                raise NotYAMLError(f"is no JSON: {error}") from None
            return found, rest
        found.append(Document(_replaced(value) if "\\u" in rest[:end] else value, tuple(repeated)))
        rest = rest[end:].lstrip()
    return found, ""


def _replaced(value: Any) -> Any:
    """A value with U+FFFD for halves of characters, as Go reads them."""
    text = json.dumps(value, ensure_ascii=False).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return json.loads(text)


def _json_decoder(repeated: list[str]) -> json.JSONDecoder:
    def pairs(given: list[tuple[str, Any]]) -> dict[str, Any]:
        repeated.extend(_twice([name for name, _ in given]))
        return dict(given)

    def refuse(word: str) -> NoReturn:
        raise ValueError(f"{word} is no JSON")

    return json.JSONDecoder(
        object_pairs_hook=pairs,
        parse_constant=refuse,
        parse_float=lambda digits: json_number(float(digits)),
        parse_int=lambda digits: json_number(int(digits) if len(digits) < _LONGEST_NUMBER else float(digits)),
    )


_LONGEST_NUMBER: Final = 400
"""More digits than any number has."""


def _twice(names: list[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if names.count(name) > 1]


def _pieces(text: str) -> Iterator[str]:
    """What stands between the lines that begin with `---`."""
    lines: list[str] = []
    for line in text.removesuffix("\n").split("\n"):
        if line.startswith("---"):
            behind = line[3:].strip()
            if behind and not behind.startswith("#"):
                raise NotYAMLError(f"is no YAML for kubectl: `---` must stand alone in its line, without {behind!r}")
            yield "".join(lines)
            lines = []
        else:
            lines.append(line.removesuffix("\r") + "\n")  # as kubectl ends every line, the last one of a piece too
    yield "".join(lines)


@dataclass(slots=True)
class _Node:
    """A word, a list or a map of the file, before anything is made of it."""

    kind: str
    line: int
    tag: str = ""
    text: str = ""
    plain: bool = False
    """Whether it is a word without quotation marks."""
    inner: list[_Node] = field(default_factory=list)
    """Items of a list; names and values of a map in turns; what an alias stands for."""


def _yaml_document(text: str) -> Document:
    """The first document of a piece; what follows a line `...` is never read."""
    try:
        root = _composed(text)
        builder = _Builder()
        return Document(None if root is None else builder.value(root, 0), tuple(builder.repeated))
    except yaml.YAMLError as error:
        raise NotYAMLError(f"is no YAML: {error}") from None


def _composed(text: str) -> _Node | None:
    """The tree of the first document, made of the parser's events: it is not made by recursion."""
    anchors: dict[str, _Node] = {}
    root = _Node("list", 0)
    open_nodes = [root]
    for event in yaml.parse(text, Loader=_Scanner):
        if isinstance(event, yaml.DocumentEndEvent):
            break
        if isinstance(event, yaml.CollectionEndEvent):
            open_nodes.pop()
        if not isinstance(event, yaml.NodeEvent):
            continue
        node = _node(event, anchors)
        open_nodes[-1].inner.append(node)
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append(node)
            if len(open_nodes) > MOST_LEVELS:
                raise NotYAMLError(f"is nested more than {MOST_LEVELS} levels deep in line {node.line}")
    return root.inner[0] if root.inner else None


def _node(event: yaml.NodeEvent, anchors: dict[str, _Node]) -> _Node:
    line = event.start_mark.line + 1 if event.start_mark else 0
    if isinstance(event, yaml.AliasEvent):
        if event.anchor not in anchors:
            raise NotYAMLError(f"is no YAML: *{event.anchor} in line {line} stands for nothing before it")
        return _Node("alias", line, text=event.anchor, inner=[anchors[event.anchor]])
    if isinstance(event, yaml.ScalarEvent):
        node = _Node("word", line, tag=event.tag or "", text=event.value, plain=bool(event.implicit[0]))
    else:
        node = _Node("map" if isinstance(event, yaml.MappingStartEvent) else "list", line)
    if event.anchor:
        anchors[event.anchor] = node
    return node


class _Builder:
    """Makes values of nodes, with the limits that kubectl sets to aliases."""

    def __init__(self) -> None:
        self.repeated: list[str] = []
        self._read = 0
        self._read_by_aliases = 0
        self._aliases: list[int] = []

    def value(self, node: _Node, level: int) -> Any:
        """What a node stands for."""
        self._count(node, level)
        if node.kind == "alias":
            return self._of_alias(node, lambda target: self.value(target, level + 1))
        if node.kind == "list":
            return [self.value(item, level + 1) for item in node.inner]
        if node.kind == "map":
            made: dict[str, Any] = {}
            self._fill(made, node, level)
            return made
        return self._word(node)

    def _count(self, node: _Node, level: int) -> None:
        self._read += 1
        self._read_by_aliases += bool(self._aliases)
        if level > MOST_LEVELS:
            raise NotYAMLError(f"is nested more than {MOST_LEVELS} levels deep in line {node.line}")
        few = self._read_by_aliases <= 100 or self._read <= 1000  # noqa: PLR2004 # the bounds of go.yaml.in/yaml/v2
        if not few and self._read_by_aliases / self._read > _most_by_aliases(self._read):
            raise NotYAMLError("is no YAML for kubectl: most of it comes from aliases")

    def _of_alias(self, node: _Node, read: Callable[[_Node], Any]) -> Any:
        (target,) = node.inner
        if id(target) in self._aliases:
            raise NotYAMLError(f"is no YAML: *{node.text} in line {node.line} contains itself")
        self._aliases.append(id(target))
        value = read(target)
        self._aliases.pop()
        return value

    def _word(self, node: _Node) -> Any:
        if any("\ud800" <= letter <= "\udfff" for letter in node.text):
            raise NotYAMLError(f"is no YAML: half of a character in line {node.line}")
        try:
            value = resolved(node.text, node.tag) if node.plain or node.tag else node.text
            if isinstance(value, bool) or not isinstance(value, int | float):
                return value
            return json_number(value)
        except ScalarError as error:
            raise NotYAMLError(f"is no YAML for kubectl: line {node.line}: {error}") from None

    def _fill(self, made: dict[str, Any], node: _Node, level: int) -> None:
        """Put the fields of a map into one; what stands later wins, also over what is merged in."""
        names = []
        for key, value in zip(node.inner[::2], node.inner[1::2], strict=True):
            if key.kind == "word" and key.text == _MERGE and (key.plain or key.tag == f"{PREFIX}merge"):
                self._merge(made, value, level)
                continue
            names.append(self._name(key))
            made[names[-1]] = self.value(value, level + 1)
        self.repeated += _twice(names)

    def _name(self, key: _Node) -> str:
        self._count(key, 0)
        node = key.inner[0] if key.kind == "alias" else key
        if node.kind != "word":
            raise NotYAMLError(f"is no YAML for kubectl: the name of a field in line {key.line} is no text")
        try:
            return key_text(resolved(node.text, node.tag) if node.plain or node.tag else node.text)
        except ScalarError as error:
            raise NotYAMLError(f"is no YAML for kubectl: line {key.line}: {error}") from None

    def _merge(self, made: dict[str, Any], node: _Node, level: int) -> None:
        for part in reversed(node.inner) if node.kind == "list" else (node,):
            target = part.inner[0] if part.kind == "alias" else part
            if target.kind != "map":
                raise NotYAMLError(f"is no YAML: what {_MERGE} merges in line {node.line} is no map")
            self._count(part, level)
            if part.kind == "alias":
                self._of_alias(part, lambda found: self._fill(made, found, level))
            else:
                self._fill(made, target, level)


def _most_by_aliases(read: int) -> float:
    """Which share of what is read may come from aliases: 99 % in small documents, 10 % in very large ones."""
    low, high = 400_000, 4_000_000
    return 0.99 - 0.89 * min(max(read - low, 0), high - low) / (high - low)


_ESCAPES: Final = {letter: text for letter, text in yaml.SafeLoader.ESCAPE_REPLACEMENTS.items() if letter != "/"}
"""What may follow a backslash in a text in quotation marks: `/` may only in JSON."""


class _Scanner(yaml.SafeLoader):
    """PyYAML's scanner, with the tabs that kubectl takes: between words, but not where indentation is."""

    ESCAPE_REPLACEMENTS = _ESCAPES  # type: ignore[misc] # the published types call it final, PyYAML does not

    def scan_to_next_token(self) -> None:
        """Skip what stands before the next token."""
        while True:
            super().scan_to_next_token()
            if self.peek() != "\t" or (self.allow_simple_key and not self.flow_level):
                return
            while self.peek() in " \t":
                self.forward()

    def scan_plain_spaces(self, indent: int, start_mark: Any) -> list[str] | None:
        """What separates two words of a text without quotation marks."""
        length = 0
        while self.peek(length) in (" ", "\t"):
            length += 1
        blanks = self.prefix(length)
        if "\t" not in blanks:
            found: list[str] | None = super().scan_plain_spaces(indent, start_mark)
            while found and self.peek() in "\t " and self.column >= indent:
                self.forward()
            return found
        self.forward(length)
        broken: list[str] | None = super().scan_plain_spaces(indent, start_mark)
        return broken or [blanks]
