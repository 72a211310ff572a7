"""The workflows: linted, pinned, with no more rights than needed; and the files of a release that they publish."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.binaries import ACTIONLINT, ensure_extra
from tests.cluster.paths import REPOSITORY
from tools import release_files
from tools.release_check import project_version
from tools.release_files import write_files

WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))
PROGRAMS = Path(sys.executable).parent
IMAGE = f"registry.example.com/vllm-operator:{project_version(REPOSITORY)}@sha256:{'0' * 64}"


def run(*words: Path | str) -> tuple[int, str]:
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    return done.returncode, done.stdout + done.stderr


def actionlint(*paths: Path) -> tuple[int, str]:
    return run(ensure_extra(ACTIONLINT) / "actionlint", "-no-color", "-shellcheck=", "-pyflakes=", *paths)


def zizmor(*paths: Path) -> tuple[int, str]:
    return run(PROGRAMS / "zizmor", "--offline", "--no-progress", "--quiet", "--persona=pedantic", *paths)


def workflow(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((REPOSITORY / ".github/workflows" / name).read_text(encoding="utf-8"))
    return found


@pytest.mark.programs
def test_actionlint_finds_nothing_and_can_find_something(tmp_path: Path) -> None:
    assert actionlint(*WORKFLOWS) == (0, "")
    broken = (
        WORKFLOWS[0].read_text(encoding="utf-8").replace("runs-on:", "run-on:").replace("github.ref", "github.reff")
    )
    (tmp_path / "broken.yml").write_text(broken, encoding="utf-8")
    code, told = actionlint(tmp_path / "broken.yml")
    assert code == 1
    assert "run-on" in told
    assert "reff" in told


def test_zizmor_finds_nothing_and_can_find_something(tmp_path: Path) -> None:
    code, told = zizmor(REPOSITORY / ".github")
    assert code == 0, told
    (tmp_path / ".github" / "workflows").mkdir(parents=True)
    text = WORKFLOWS[0].read_text(encoding="utf-8")
    broken = re.sub(r"(actions/checkout)@\S+ #.*", r"\1@v6", text).replace(
        "persist-credentials: false", "fetch-depth: 0"
    )
    (tmp_path / ".github" / "workflows" / "broken.yml").write_text(broken, encoding="utf-8")
    code, told = zizmor(tmp_path / ".github")
    assert code != 0
    assert "unpinned-uses" in told
    assert "artipacked" in told


def test_ci_runs_what_any_other_ci_runs() -> None:
    steps = workflow("ci.yml")["jobs"]["test"]["steps"]
    assert steps[-1]["run"] == "bash .ci/run"


def test_only_the_job_that_writes_somewhere_may() -> None:
    release = workflow("release.yml")
    assert release["permissions"] == {}
    given = {name: job["permissions"] for name, job in release["jobs"].items()}
    assert given == {
        "test": {"contents": "read"},
        "check": {"contents": "read"},
        "image": {"contents": "read", "packages": "write", "id-token": "write"},
        "publish": {"contents": "write"},
    }
    assert set(release["jobs"]["image"]["needs"]) == {"test", "check"}


def test_every_target_of_make_that_a_workflow_calls_exists() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in WORKFLOWS)
    targets = set(re.findall(r"run: make ([a-z][a-z-]+)", text))
    made = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {"release-check", "release-files", "sbom"} <= targets <= made


def test_the_size_that_a_release_may_have_is_the_one_that_is_documented() -> None:
    text = (REPOSITORY / ".github/workflows/release.yml").read_text(encoding="utf-8")
    assert '"$bytes" -lt 120000000' in text
    assert "120 MB" in (REPOSITORY / "docs/install.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a release."""
    folder = tmp_path_factory.mktemp("release")
    write_files(folder, IMAGE)
    return folder


def test_a_release_has_all_its_files_with_their_sums(files: Path) -> None:
    version = project_version(REPOSITORY)
    wheel = f"vllm_operator-{version}-py3-none-any.whl"
    sdist = f"vllm_operator-{version}.tar.gz"
    published = {wheel, sdist, "install.yaml", "sbom.cdx.json"}
    assert {path.name for path in files.iterdir()} == published | {"SHA256SUMS", "notes.md"}
    sums = dict(line.split()[::-1] for line in (files / "SHA256SUMS").read_text(encoding="utf-8").splitlines())
    assert sums == {name: hashlib.sha256((files / name).read_bytes()).hexdigest() for name in published}
    with zipfile.ZipFile(files / wheel) as archive:
        names = archive.namelist()
    assert "vllm_operator/controller/app.py" in names
    assert "vllm_client/client.py" in names
    assert not [name for name in names if name.startswith(("tests", "tools"))]
    with tarfile.open(files / sdist) as archive:
        assert not [name for name in archive.getnames() if ".venv" in name or "__pycache__" in name]


def test_its_manifests_name_the_image_by_its_digest(files: Path) -> None:
    documents = list(yaml.safe_load_all((files / "install.yaml").read_text(encoding="utf-8")))
    (deployment,) = [one for one in documents if one["kind"] == "Deployment"]
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == IMAGE
    assert (files / "notes.md").read_text(encoding="utf-8").startswith(f"Image: `{IMAGE}`")


def test_an_image_without_its_digest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"vllm-operator:0\.1\.0.*NAME:TAG@sha256"):
        write_files(tmp_path, "vllm-operator:0.1.0")


def test_the_list_of_packages_has_each_pin_with_its_hashes_and_is_the_same_each_time(
    files: Path, tmp_path: Path
) -> None:
    listed = json.loads((files / release_files.SBOM).read_text(encoding="utf-8"))
    pins = (REPOSITORY / "requirements/operator.txt").read_text(encoding="utf-8")
    wanted = set(re.findall(r"^([\w.-]+)==(\S+)", pins, re.MULTILINE))
    assert listed["bomFormat"] == "CycloneDX"
    assert {(one["name"], one["version"]) for one in listed["components"]} == wanted
    assert "hashes" in json.dumps(listed["components"][0])
    release_files.write_sbom(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (files / release_files.SBOM).read_bytes()
