"""A program in the place of kubectl, which answers what it is told to, for tests without a cluster."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """#!{python} -SE
import json, pathlib, sys
folder = pathlib.Path({folder!r})
words = sys.argv[1:]
with (folder / "asked").open("a") as asked:
    asked.write(json.dumps(words) + "\\n")
path = folder / "rules"
rules = json.loads(path.read_text())
for rule in rules:
    if all(any(word in given for given in words) for word in rule["words"]):
        answer = rule["answers"][0]
        if len(rule["answers"]) > 1:
            del rule["answers"][0]
            path.write_text(json.dumps(rules))
        sys.stdout.write(answer["out"])
        sys.stderr.write(answer["error"])
        sys.exit(1 if answer["error"] else 0)
sys.exit("nobody has said what to answer to " + " ".join(words))
"""
FORBIDDEN = 'Error from server (Forbidden): {} is forbidden: User "dev" cannot {} resource "{}" in API group ""'


class FakeKubectl:
    """Answers by the words of a call. Of several answers each is given once, and the last one again and again."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "kubectl"
        self.path.write_text(PROGRAM.format(python=sys.executable, folder=str(folder)), encoding="utf-8")
        self.path.chmod(0o755)
        self._folder = folder
        self._rules: list[dict[str, Any]] = []
        self._write()

    def says(self, *words: str, to: object = None, then: tuple[object, ...] = ()) -> None:
        """What calls print that hold all these words: text, data, or an error. What was said last counts first."""
        self._rules.insert(0, {"words": list(words), "answers": [_answer(one) for one in (to, *then)]})
        self._write()

    def asked(self, *words: str) -> list[list[str]]:
        """The calls so far that hold all these words."""
        path = self._folder / "asked"
        calls = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
        return [call for call in calls if all(any(word in given for given in call) for word in words)]

    def _write(self) -> None:
        (self._folder / "rules").write_text(json.dumps(self._rules), encoding="utf-8")


def forbidden(what: str, verb: str = "list") -> Exception:
    """What kubectl says of a right that the user has not."""
    return Exception(FORBIDDEN.format(what, verb, what))


def _answer(said: object) -> dict[str, str]:
    if isinstance(said, Exception):
        return {"out": "", "error": str(said)}
    return {"out": said if isinstance(said, str) else json.dumps(said), "error": ""}
