"""`vllm-check` against the stub engine: what it prints, and the exit code for scripts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from vllm_client.check.__main__ import main

if TYPE_CHECKING:
    from tests.support.servers import EngineServer

NAMES = ["model", "completion", "streaming", "batch"]


@pytest.mark.usefixtures("bound")
def test_a_model_that_answers_passes_every_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--requests", "5", "--concurrency", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [[name, "ok"] for name in NAMES]
    assert "tiny, 4096 tokens of context" in lines[1]
    assert "first text after 0." in lines[3]
    assert "5 answers, 2 at a time: median 0." in lines[4]


@pytest.fixture
def restless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure that may pass is tried again as often as ever, but without the pauses, which grow to 8 s."""
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.0)


def results(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    """What was printed as JSON, by the name of the check."""
    return {found["name"]: found for found in json.loads(capsys.readouterr().out)}


@pytest.mark.parametrize(
    ("faults", "failed", "told"),
    [
        ({"served_names": ["other"]}, "model", "does not serve tiny, but other"),
        ({"fail": {"status": 500, "message": "no template"}}, "completion", "no template"),
        ({"answer": ""}, "completion", "EmptyAnswer"),
    ],
    ids=["another name", "completions fail", "empty answers"],
)
@pytest.mark.usefixtures("restless")
def test_the_first_check_that_fails_says_why_and_the_later_ones_are_not_made(
    bound: EngineServer, capsys: pytest.CaptureFixture[str], faults: dict[str, Any], failed: str, told: str
) -> None:
    bound.faults(**faults)
    assert main(["-o", "json"]) == 1
    found = results(capsys)
    assert found[failed]["passed"] is False
    assert told in found[failed]["detail"]
    assert [found[name]["passed"] for name in NAMES[NAMES.index(failed) + 1 :]] == [None] * (3 - NAMES.index(failed))


def test_missing_settings_are_another_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "Set VLLM_MODEL_NAME" in capsys.readouterr().err


@pytest.mark.parametrize("number", ["0", "x", "100000"])
def test_a_number_that_makes_no_sense_is_refused(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--requests", number])
    assert ended.value.code == 2
    assert "is not a number from 1 to 10000" in capsys.readouterr().err
