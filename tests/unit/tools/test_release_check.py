"""`make release-check` on copies of what it looks at, sound and broken in one place each."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tools import release_check
from tools.generate import REPOSITORY
from tools.release_check import CHANGELOG, CRD, PAGES, Findings, check, project_version, section

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

VERSION = project_version(REPOSITORY)
TAG = f"v{VERSION}"
CHART = "charts/vllm-operator/Chart.yaml"
PACKAGE = "operator/vllm_operator/__init__.py"


def git(root: Path, *words: str) -> None:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.invalid", "-c", "tag.gpgSign=false"]
    subprocess.run(["git", *identity, *words], cwd=root, check=True, capture_output=True)


def edit(root: Path, path: Path | str, old: str, new: str) -> None:
    """Replace what stands in a file, which has to be there."""
    text = (root / path).read_text(encoding="utf-8")
    assert old in text, f"{path} does not hold {old!r}"
    (root / path).write_text(text.replace(old, new), encoding="utf-8")


def commit(root: Path, message: str) -> None:
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--allow-empty", "--no-verify", "-m", message)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A commit that can be tagged, with a release before it that had the same definition. Nobody changes it."""
    tmp_path = tmp_path_factory.mktemp("sound")
    for name in (*PAGES, CHANGELOG, CRD, "pyproject.toml", CHART, PACKAGE):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, tmp_path / name)
    text = (tmp_path / CHANGELOG).read_text(encoding="utf-8")
    dated = text.replace("## [Unreleased]\n", f"## [Unreleased]\n\n## [{VERSION}] - 2026-11-27\n", 1)
    (tmp_path / CHANGELOG).write_text(dated, encoding="utf-8")
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    commit(tmp_path, "before")
    git(tmp_path, "tag", "v0.0.9")
    commit(tmp_path, "now")
    return tmp_path


@pytest.fixture
def root(sound: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(sound, tmp_path / "root")


def problems(root: Path, tag: str = TAG, *, committed: bool = True) -> list[str]:
    if committed:
        commit(root, "broken")
    return found(root, tag).problems


def found(root: Path, tag: str = TAG) -> Findings:
    wanted = {path: (REPOSITORY / path).read_text(encoding="utf-8") for path in (CRD, PAGES[-1])}
    return check(root, tag, wanted)


def test_what_is_sound_can_be_tagged_and_stays_so_with_its_tag(root: Path) -> None:
    assert found(root, "") == Findings()
    git(root, "tag", TAG)
    assert found(root) == Findings()


@pytest.mark.parametrize(
    ("path", "old", "new", "told"),
    [
        ("pyproject.toml", f'version = "{VERSION}"', 'version = "9.9.9"', f"{CHART}: version is {VERSION}, and pyproj"),
        ("pyproject.toml", f'version = "{VERSION}"', 'version = "9.9.9rc1"', "pyproject.toml: version 9.9.9rc1 is not"),
        (CHART, f"\nversion: {VERSION}", "\nversion: 9.9.9", f"{CHART}: version is 9.9.9"),
        (CHART, f"appVersion: {VERSION}", "appVersion: 9.9.9", f"{CHART}: appVersion is 9.9.9"),
        (PACKAGE, f'"{VERSION}"', '"9.9.9"', f"{PACKAGE}: __version__ is 9.9.9"),
        (PACKAGE, "__version__ =", "version =", f"{PACKAGE}: __version__ is missing"),
        ("README.md", f"vllm-operator:{VERSION} .", "vllm-operator:9.9.9 .", "README.md: names the image of 9.9.9"),
        ("docs/install.md", f"newTag: {VERSION}", "newTag: 9.9.9", "docs/install.md: names the image of 9.9.9"),
        ("README.zh-TW.md", "vllm-operator:", "operator:", "README.zh-TW.md: names no image"),
        ("dist/install.yaml", f"image: vllm-operator:{VERSION}", "image: vllm-operator:9.9.9", "run make generate"),
        (CHANGELOG, f"## [{VERSION}] -", "## [9.9.9] -", f"add ## [{VERSION}] - YYYY-MM-DD"),
        (CHANGELOG, "- 2026-11-27", "", f"## [{VERSION}] : write ## [X.Y.Z] - YYYY-MM-DD"),
        (CHANGELOG, "## [Unreleased]\n", "## [Unreleased]\n- More.\n", "entries stand below [Unreleased]"),
        (CRD, "shortNames:", "shortnames:", f"{CRD}: is not what `make generate` writes"),
    ],
)
def test_each_fault_is_told_with_its_place_and_its_remedy(root: Path, path: str, old: str, new: str, told: str) -> None:
    edit(root, path, old, new)
    assert any(told in problem for problem in problems(root)), problems(root)
    assert all(re.match(r"^[\w./-]+.*: .+: .+", problem) for problem in problems(root))


def test_a_tag_of_another_version_is_refused(root: Path) -> None:
    assert problems(root, "v9.9.9") == [
        f"tag v9.9.9: pyproject.toml has version {VERSION}: tag v{VERSION}, or set the version"
    ]


def test_what_is_not_committed_is_told(root: Path) -> None:
    (root / "new.txt").write_text("new", encoding="utf-8")
    assert problems(root, committed=False) == ["new.txt: is not committed: commit it, or take it away"]


def test_a_field_that_the_last_release_had_and_this_one_has_not(root: Path) -> None:
    before = (root / CRD).read_text(encoding="utf-8")
    git(root, "checkout", "--quiet", "v0.0.9")
    edit(
        root,
        CRD,
        "                  replicas:\n" if "                  replicas:\n" in before else "replicas:",
        "copies:",
    )
    commit(root, "an older release")
    git(root, "tag", "--force", "v0.0.9")
    git(root, "checkout", "--quiet", "-B", "main")
    (root / CRD).write_text(before, encoding="utf-8")
    told = problems(root)
    assert any("copies: is gone since v0.0.9: bring it back" in problem for problem in told), told


def test_without_a_release_before_it_the_definition_is_compared_with_nothing_and_that_is_said(root: Path) -> None:
    git(root, "tag", "--delete", "v0.0.9")
    git(root, "tag", TAG)
    assert found(root).problems == []
    assert found(root).notices == [
        "git has no tag of a release before this one: the definition was compared with nothing"
    ]


def test_a_newer_tag_on_another_branch_is_not_the_release_before(root: Path) -> None:
    git(root, "checkout", "--quiet", "-b", "other")
    commit(root, "other")
    git(root, "tag", "v0.0.10")
    git(root, "checkout", "--quiet", "main")
    assert release_check.last_release(root) == "v0.0.9"


def test_tags_are_sorted_as_versions(root: Path) -> None:
    git(root, "tag", "v0.0.10")
    assert release_check.last_release(root) == "v0.0.10"


def test_many_findings_of_one_kind_are_counted(root: Path) -> None:
    for number in range(12):
        (root / f"{number}.txt").write_text("new", encoding="utf-8")
    told = problems(root, committed=False)
    assert len(told) == 9
    assert told[-1].startswith("and 4 more")


def test_a_section_of_the_change_log_ends_at_the_next_one() -> None:
    text = "# Log\n\n## [Unreleased]\n\n## [0.2.0] - 2026-12-01\n\n### Added\n\n- A.\n\n## [0.1.0] - 2026-11-27\n- B.\n"
    assert section(text, "[Unreleased]").strip() == ""
    assert section(text, "[0.2.0]").strip() == "### Added\n\n- A."
    assert section(text, "[0.1.0]").strip() == "- B."


def test_the_program_prints_problems_and_fails(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run: Callable[[], int] = release_check.main
    monkeypatch.setattr(release_check, "REPOSITORY", root)
    monkeypatch.setattr(release_check, "generated", dict)
    monkeypatch.setattr("sys.argv", ["release_check"])
    assert run() == 0
    assert capsys.readouterr().out == f"version {VERSION} can be tagged: git tag -a v{VERSION} -m v{VERSION}\n"
    monkeypatch.setattr("sys.argv", ["release_check", "--tag", "v9.9.9"])
    assert run() == 1
    assert capsys.readouterr().out.startswith("problem: tag v9.9.9: ")
