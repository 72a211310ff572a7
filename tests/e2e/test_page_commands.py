"""The commands of the pages for people who look after models are run as they stand there, on a model that serves.

Only names are filled in. What cannot be run here, and which test runs it, stands in `ELSEWHERE`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
import yaml

from tests.cluster.paths import REPOSITORY
from tests.support import models, pages
from tests.support.servers import free_port

if TYPE_CHECKING:
    from tests.support.models import EngineChoice
    from tests.support.site import Site

pytestmark = pytest.mark.node

MODEL: Final = "qwen"
OTHER_NAMES: Final = re.compile(r"\b(?:NAME|qwen-7b|llama)\b(?![-.])")
OURS: Final = frozenset({"kubectl", "grep", "export", "for", "break", "python", "./load-test"})
ELSEWHERE: Final = {
    "kubectl apply -f manifests/samples": "tests/e2e/test_bare_cluster.py, tests/contract/test_samples.py",
    "kubectl apply --server-side -f -": "tests/e2e/test_bare_cluster.py",
    "kubectl apply --server-side -f install.yaml": "the same, by a pipe",
    "kubectl apply --server-side -k": "tests/contract/test_install.py",
    "kubectl apply --server-side -f https://": "tests have no such network; tests/support/lws.py has the kind",
    "kubectl delete vllmmodels --all": "tests/e2e/test_bare_cluster.py",
    "kubectl delete crd": "tests/e2e/test_bare_cluster.py",
    "kubectl wait --for=delete deployments,configmaps": "tests/e2e/test_bare_cluster.py",
    "kubectl vllm import": "tests/unit/cli/importing",
    "kubectl vllm estimate": "tests/unit/cli/estimate",
    "kubectl wait --for=condition=AdaptersLoaded": "tests/e2e/test_adapters.py",
    "python -m": "programs of the repository for those who work on it",
}
RANKS: Final = (("annotate", "undo", "restart"), ("patch",), ("label",), ("delete",))
"""Commands that change the model, in the order in which they leave something to the next ones."""
NO_FORMER_LIFE: Final = re.compile(r"previous terminated container .* not found")
SECONDS: Final = 300.0
WATCHED_SECONDS: Final = 8
UNTIL_FORWARDED: Final = "until command grep -q Forwarding forwarded; do sleep 0.1; done"
BEGIN: Final = """
set -euo pipefail
grep() { command grep "$@" || test $? = 1; }
trap 'for job in $(jobs -p); do kill $job; done' EXIT
"""
"""A search that finds nothing is no fault, and what was put into the background ends with the script."""


@dataclass(frozen=True)
class Script:
    """The commands of a block that can be run here."""

    where: str
    text: str
    rank: int

    @property
    def replaces_engines(self) -> bool:
        """Whether the model serves again a while later."""
        return self.rank == 1 or (self.rank == 0 and "kubectl scale" in self.text)


def scripts() -> list[Script]:
    """Of all blocks; those last whose commands change the model. Translations have the same blocks (a test says so)."""
    found = []
    for block in pages.all_blocks("sh", "console"):
        if block.mark.startswith(("<!-- other tools -->", "<!-- file ")) or "zh-TW" in block.page:
            continue
        lines = [line for line in logical_lines(block) if runs_here(line)]
        if any(words[:1] == ["kubectl"] for line in lines for words in pages.simple_commands(line)):
            found.append(Script(str(block), "\n".join(lines), rank("\n".join(lines))))
    return sorted(found, key=lambda script: script.rank)


def logical_lines(block: pages.Block) -> list[str]:
    """The lines that a shell would read; of a session at a terminal what was typed."""
    lines = block.text.replace("\\\n", " ").splitlines()
    if block.language == "console":
        return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return lines


def runs_here(line: str) -> bool:
    """Whether all commands of a line are those of who looks after models, and none is run by another test."""
    commands = [" ".join(words) for words in pages.simple_commands(line)]
    return all(
        command.partition(" ")[0] in OURS and not any(command.startswith(begins) for begins in ELSEWHERE)
        for command in commands
    )


def rank(text: str) -> int:
    """0 for what leaves the model as it is."""
    found = (number for number, words in enumerate(RANKS, 1) for word in words if re.search(rf"\b{word}\b", text))
    return max(found, default=0)


def test_what_is_run_elsewhere_stands_on_a_page() -> None:
    shown = [" ".join(words) for _, words in pages.commands()]
    assert [begins for begins in ELSEWHERE if not any(command.startswith(begins) for command in shown)] == []


class Reader:
    """Somebody who copies commands out of pages, in a checkout, with the site's namespace as the usual one."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site, self.folder = site, folder
        for name in ("charts", "examples", "manifests"):
            (folder / name).symlink_to(REPOSITORY / name)
        (folder / "load-test").write_text("#!/bin/sh\n", encoding="utf-8")
        (folder / "load-test").chmod(0o755)
        config = yaml.safe_load(site.cluster.kubeconfig.read_text(encoding="utf-8"))
        for context in config["contexts"]:
            context["context"]["namespace"] = site.name
        (folder / "kubeconfig").write_text(yaml.safe_dump(config), encoding="utf-8")
        path = os.pathsep.join((str(Path(sys.executable).parent), site.cluster.env["PATH"]))
        self.env = {**site.cluster.env, "PATH": path, "KUBECONFIG": str(folder / "kubeconfig")}

    def filled(self, text: str) -> str:
        """Commands with the names of what is there; a watch ends, and a port is one that is free."""
        text = OTHER_NAMES.sub(MODEL, text)
        text = re.sub(r"\b(?:NAMESPACE|TEAM)\b", self.site.name, text)
        if re.search(r"\bPOD\b", text):
            text = re.sub(r"\bPOD\b", self.site.pods(MODEL)[0]["metadata"]["name"], text)
        port = free_port()
        text = text.replace("8000:8000 &", f"{port}:8000 >forwarded & {UNTIL_FORWARDED}")
        text = text.replace("localhost:8000", f"localhost:{port}")
        return re.sub(
            r"^(.* --watch)\b.*$", rf"timeout {WATCHED_SECONDS} \1 || test $? = 124", text, flags=re.MULTILINE
        )

    def run(self, script: str) -> str:
        """What went wrong; empty where nothing did."""
        words = ["bash", "-c", BEGIN + self.filled(script)]
        done = subprocess.run(
            words, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        fault = "" if done.returncode == 0 else f"{done.returncode}: {done.stdout[-1500:]}{done.stderr[-1500:]}"
        return "" if NO_FORMER_LIFE.search(done.stderr) else fault


def make_history(site: Site, stub: EngineChoice) -> None:
    """A model with four revisions, of which the newest serves."""
    site.apply(models.model(MODEL, stub, replicas=0))
    for number, sequences in enumerate((16, 32, 64), 1):
        wait_revisions(site, number)
        site.patch(MODEL, {"engine": {"maxNumSeqs": sequences}})
    wait_revisions(site, 4)
    site.patch(MODEL, {"replicas": 1})
    site.wait_ready(MODEL, 240)


def wait_revisions(site: Site, count: int) -> None:
    """Until the model has so many revisions."""
    kind = "controllerrevisions"
    site.until(f"{count} revisions", lambda: len(site.list(kind, instance=MODEL)) == count)


def test_every_command_of_the_pages_does_what_it_should_on_a_model_that_serves(
    site: Site, stub: EngineChoice, tmp_path: Path
) -> None:
    make_history(site, stub)
    reader = Reader(site, tmp_path)
    faults = {}
    for script in scripts():
        faults[script.where] = reader.run(script.text)
        if script.replaces_engines:
            faults[f"after {script.where}"] = reader.run(f"kubectl vllm rollout status {MODEL} --timeout 4m")
    told = [f"{where}: {fault}" for where, fault in faults.items() if fault]
    assert told == [], "\n".join(told)
    assert len(faults) > 40
