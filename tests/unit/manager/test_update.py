"""When a judge gives way to a newer program on disk, and when it does not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.support.waiting import until
from vllm_operator.manager import update
from vllm_operator.manager.update import STAGGER_SECONDS, WATCH_SECONDS, RefusedError, Update, check, digest, stagger

if TYPE_CHECKING:
    from pathlib import Path

HANDED_ON = {"startup": True, "ready": True, "memory": {"judge": {}}}
PASSES = "import json, sys\njson.load(sys.stdin)\nprint(json.dumps({'admitted': True, 'ready': True}))\n"


class Volume:
    """A ConfigMap's volume as kubelet makes it: links to files in a folder that another link names."""

    def __init__(self, parent: Path) -> None:
        self.folder = parent / "manager"
        self.folder.mkdir()
        self._version = 0

    def write(self, program: str) -> str:
        """Replace all files at once, and return the digest of the new program."""
        self._version += 1
        version = self.folder / f"..{self._version}"
        version.mkdir()
        (version / "__init__.py").write_text("", encoding="utf-8")
        (version / "program.py").write_text(program, encoding="utf-8")
        link = self.folder / "..data_tmp"
        link.symlink_to(version.name)
        link.rename(self.folder / "..data")
        for name in ("__init__.py", "program.py"):
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(f"..data/{name}")
        return digest(str(self.folder))


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(tmp_path)


def watched(volume: Volume, running: str, wait: float = 0.0) -> Update:
    """A watch on the volume, as of second 0."""
    return Update([], wait=wait, now=0.0, running=running, folder=str(volume.folder))


def ask(watch: Update, now: float) -> bool:
    return watch.wanted(now, lambda: HANDED_ON)


def outcome(watch: Update, now: float) -> bool:
    """What comes of a check that has begun."""
    assert ask(watch, now) is False
    return until(lambda: "wanted" if ask(watch, now) else watch.trouble, what="the check's end") == "wanted"


def test_the_same_program_is_never_a_newer_one_however_often_kubelet_writes_it(volume: Volume) -> None:
    watch = watched(volume, volume.write(PASSES))
    for turn in range(1, 5):
        volume.write(PASSES)
        assert ask(watch, turn * WATCH_SECONDS) is False
    assert watch.trouble == ""


def test_a_newer_program_that_passes_its_check_is_wanted(volume: Volume) -> None:
    watch = watched(volume, volume.write(PASSES))
    volume.write(PASSES + "# newer\n")
    assert ask(watch, WATCH_SECONDS - 1) is False
    assert outcome(watch, WATCH_SECONDS)


def test_a_newer_program_waits_for_this_pods_moment(volume: Volume) -> None:
    watch = watched(volume, volume.write(PASSES), wait=30.0)
    volume.write("raise SystemExit('checked')\n")
    for second in range(10, 40, 5):
        assert ask(watch, float(second)) is False
        assert watch.trouble == ""
    assert outcome(watch, WATCH_SECONDS + 30.0) is False
    assert "checked" in watch.trouble


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("import what_is_not_there\n", "what_is_not_there"),
        ("this is no Python\n", "SyntaxError"),
        ("raise SystemExit(3)\n", "exit code 3"),
        ("print('{}')\n", "says nothing of a verdict"),
        ("print('[')\n", "says nothing of a verdict"),
        ('print(\'{"admitted": false, "ready": true}\')\n', "as admitted"),
        ('print(\'{"admitted": true, "ready": false}\')\n', "withdraws an engine"),
        ("import os\nos.abort()\n", "exit code -6"),
    ],
    ids=["import", "syntax", "code", "silent", "rubbish", "admission", "withdrawal", "crash"],
)
def test_a_newer_program_that_fails_is_refused_told_and_not_tried_again(
    volume: Volume, program: str, told: str
) -> None:
    watch = watched(volume, volume.write(PASSES))
    refused = volume.write(program)
    assert outcome(watch, 10.0) is False
    assert watch.trouble.startswith(f"the newer program {refused} is refused: ")
    assert told in watch.trouble
    volume.write(program)  # kubelet writes it anew; it is the same
    for turn in range(2, 6):
        assert ask(watch, turn * WATCH_SECONDS) is False
    volume.write(PASSES + "# mended\n")
    assert outcome(watch, 100.0)


def test_the_old_program_put_back_ends_the_trouble(volume: Volume) -> None:
    watch = watched(volume, volume.write(PASSES))
    volume.write("raise SystemExit(3)\n")
    assert outcome(watch, 10.0) is False
    volume.write(PASSES)
    assert ask(watch, 20.0) is False
    assert watch.trouble == ""


def test_what_is_replaced_while_it_is_checked_is_checked_anew(volume: Volume, tmp_path: Path) -> None:
    watch = watched(volume, volume.write(PASSES))
    flag = tmp_path / "go"
    waits = f"import os, time\nwhile not os.path.exists({str(flag)!r}): time.sleep(0.01)\n"
    volume.write(waits + PASSES)
    assert ask(watch, 10.0) is False
    volume.write("raise SystemExit(3)\n")
    flag.touch()
    until(lambda: ask(watch, 20.0) or watch.trouble, what="the check of the second program")
    assert "exit code 3" in watch.trouble


def test_a_program_that_comes_to_no_verdict_is_ended_and_refused(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(update, "CHECK_SECONDS", 0.5)
    volume.write("import time\ntime.sleep(600)\n")
    with pytest.raises(RefusedError, match="no verdict within"):
        check(str(volume.folder), [], HANDED_ON)


def test_the_check_gets_what_the_next_judge_would_get_and_nothing_that_belongs_to_the_running_one(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATE_REPORT", "7")
    program = (
        "import json, os, sys\n"
        f"assert sys.argv[1:] == ['--check', '--gate-port', '1'], sys.argv\n"
        f"assert json.load(sys.stdin) == {json.loads(json.dumps(HANDED_ON))!r}\n"
        "assert not [name for name in os.environ if name.startswith('GATE_')]\n"
        "print(json.dumps({'admitted': True, 'ready': True}))\n"
    )
    volume.write(program)
    check(str(volume.folder), ["--gate-port", "1"], HANDED_ON)


def test_a_folder_that_cannot_be_read_is_no_newer_program(volume: Volume) -> None:
    watch = watched(volume, volume.write(PASSES))
    (volume.folder / "..data").unlink()  # all links lead nowhere now
    for turn in range(1, 4):
        assert ask(watch, turn * WATCH_SECONDS) is False
    assert watch.trouble == ""


def test_a_fleets_moments_are_spread_over_a_minute_and_each_pod_keeps_its_own() -> None:
    moments = sorted(stagger(f"model-7d9c6b5f8d-{number:05x}") for number in range(200))
    assert 0 <= moments[0] < 5
    assert STAGGER_SECONDS - 5 < moments[-1] <= STAGGER_SECONDS
    assert len(set(moments)) > 190
    assert stagger("pod") == stagger("pod")


def test_the_digest_tells_contents_and_names_apart() -> None:
    names = [{"a.py": b"x"}, {"b.py": b"x"}, {"a.py": b"y"}, {"a.py": b"x", "b.py": b""}, {}]
    assert len({update.digest_of(files) for files in names}) == len(names)
    assert update.digest_of({"a.py": b"1", "b.py": b"2"}) == update.digest_of({"b.py": b"2", "a.py": b"1"})
