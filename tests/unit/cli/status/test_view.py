"""How a model is: what the operator told, and what its pods show now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.support import told_models as told
from tests.support.resources import NOW
from vllm_operator.cli.status.progress import Downloaded
from vllm_operator.cli.status.sources import Sources
from vllm_operator.cli.status.text import as_document, model_lines
from vllm_operator.cli.status.view import ModelView, view_of, with_rates
from vllm_operator.diagnosis.engine_status import engine_status

if TYPE_CHECKING:
    from collections.abc import Mapping


def heard(pod: Mapping[str, Any], **changed: Any) -> dict[str, Any]:
    """What its manager says, by the pod's uid."""
    return {pod["metadata"]["uid"]: engine_status({**told.STATUS, **changed})}


def seen(model: Mapping[str, Any], *pods: Mapping[str, Any], **more: Any) -> ModelView:
    """The view of a model whose pods can be read."""
    return view_of(Sources(model, NOW, told.deployment(), tuple(pods), **more))


def test_an_engine_that_loads_is_told_with_its_phase_and_how_much_of_it_is_done() -> None:
    pod = told.running()
    view = seen(told.model(told.LOADING), pod, findings=heard(pod))
    (engine,) = view.engines
    assert (engine.state, engine.phase, engine.detail, engine.node) == (
        *("Starting", "LoadingWeights", "3 of 8 shards", "node-1"),
    )
    assert engine.progress is not None
    assert engine.progress.share == 3 / 8
    assert (view.serving, view.wanted, view.notes) == (0, 1, ())


def test_engines_that_do_not_serve_come_first() -> None:
    view = seen(told.model(told.LOADING, readyReplicas=1), told.serving("a"), told.running("b"), told.serving("c"))
    assert [engine.pod for engine in view.engines] == ["b", "a", "c"]


def test_what_the_pods_show_counts_more_than_an_operator_that_is_away() -> None:
    view = seen(told.model(told.READY, readyReplicas=1), told.crashed())
    assert (view.ready, view.serving, view.engines[0].state) == ("True", 0, "Failing")
    assert view.notes == ("the operator's status says that 1 engines serve, and the pods show 0",)
    (known,) = view.diagnosis
    assert (known.id, known.field, known.value, known.since) == (
        "KvCacheTooSmall",
        "spec.engine.maxModelLen",
        "9392",
        "",
    )


def test_a_failure_has_the_time_at_which_the_operator_first_told_it() -> None:
    diagnosis = {"engine": "qwen-1", "id": "KvCacheTooSmall", "cause": "c", "advice": "a", "since": told.SINCE}
    (known,) = seen(told.model(told.STALLED, diagnosis=[diagnosis]), told.crashed()).diagnosis
    assert (known.since, known.value) == (told.SINCE, "9392")
    (other,) = seen(told.model(told.STALLED, diagnosis=[{**diagnosis, "id": "Other"}]), told.crashed()).diagnosis
    assert (other.id, other.since) == ("KvCacheTooSmall", ""), "of now, and not of before"


def test_a_failure_that_is_over_is_not_told_any_more() -> None:
    diagnosis = {"engine": "qwen-1", "id": "KvCacheTooSmall", "cause": "c", "advice": "a", "since": told.SINCE}
    assert seen(told.model(told.READY, readyReplicas=1, diagnosis=[diagnosis]), told.serving()).diagnosis == ()


def test_where_a_manager_cannot_be_asked_the_operators_words_on_the_same_state_stand_in() -> None:
    pod = told.running()
    sentence = "loads its weights (3 of 8 shards) since 2026-11-22T11:00:30Z"
    engine = {
        "pod": "qwen-1",
        "state": "Starting",
        "since": told.SINCE,
        "phase": "LoadingWeights",
        "sentence": sentence,
    }
    unread = {pod["metadata"]["uid"]: "you may not exec"}
    (shown,) = seen(told.model(told.LOADING, engines=[engine]), pod, unread=unread).engines
    assert (shown.sentence, shown.phase, shown.detail, shown.note) == (
        *(sentence, "LoadingWeights", "3 of 8 shards", "you may not exec"),
    )
    earlier = {**engine, "since": "2026-11-22T10:00:00Z"}
    (stale,) = seen(told.model(told.LOADING, engines=[earlier]), pod, unread=unread).engines
    assert stale.phase == "", "the operator's words are of another time"


def test_where_pods_cannot_be_read_the_operator_tells() -> None:
    engine = {"pod": "qwen-1", "state": "Failing", "since": told.SINCE, "sentence": "cannot start"}
    model = told.model(told.STALLED, engines=[engine], readyReplicas=0)
    view = view_of(Sources(model, NOW, gaps=("the pods: you may not list them",)))
    assert [(one.pod, one.state, one.sentence) for one in view.engines] == [("qwen-1", "Failing", "cannot start")]
    assert view.notes == ("the pods: you may not list them",)
    assert view.stalled


def test_a_model_that_no_operator_has_looked_at_is_told_as_such() -> None:
    view = seen(told.model())
    assert (view.ready, view.reason, view.engines) == ("Unknown", "", ())
    assert view.notes == ("no operator has written a status of this model yet",)
    behind = told.model(told.READY, observedGeneration=0)
    assert seen(behind).notes == ("the operator has not followed generation 1 of the spec yet",)


def test_a_rate_needs_two_looks_at_the_same_pod() -> None:
    pod = told.running()
    uid = pod["metadata"]["uid"]
    phase = {"name": "Downloading", "detail": "1 of 4 files", "since": told.SINCE}
    looks = [
        view_of(
            Sources(
                told.model(told.LOADING), NOW, None, (pod,), findings=heard(pod, phase=phase), downloaded={uid: one}
            )
        )
        for one in (Downloaded(1000, 10.0), Downloaded(21000, 20.0))
    ]
    assert [engine.bytes_per_second for engine in with_rates(looks[1], None).engines] == [None]
    assert [engine.bytes_per_second for engine in with_rates(looks[1], looks[0]).engines] == [2000]


def test_nothing_that_is_quoted_holds_a_secret_or_writes_to_the_terminal() -> None:
    planted = "hf_abcdefghijklmnop1234"
    pod = told.crashed(line=f"RuntimeError: \x1b[31mbad token {planted}")
    warnings = [f"token {planted}\x07"]
    model = told.model(told.conditions(Ready=("False", "A", f"password=hunter2hunter2 {planted}")), warnings=warnings)
    shown = repr(seen(model, pod, gaps=(f"the claims: {planted}",)))
    assert planted not in shown
    assert "hunter2" not in shown
    assert "\\x1b" not in shown
    assert "\\x07" not in shown


def test_how_far_a_claim_is_filled_is_told_before_the_engines() -> None:
    entry = {
        "job": "prefetch-model-1",
        "source": "org/model",
        "revision": "v2",
        "state": "Downloading",
        "bytesDone": 5 * 2**30,
        "bytesTotal": 20 * 2**30,
        "bytesPerSecond": 100 * 2**20,
        "secondsLeft": 154,
    }
    gated = {"job": "b", "source": "org/adapter", "state": "Waiting", "reason": "Gated", "message": "accept them"}
    view = seen(told.model(told.LOADING, prefetch=[entry, gated]))
    lines = [line.text for line in model_lines(view)]
    (head,) = [number for number, line in enumerate(lines) if line.startswith("DOWNLOAD")]
    assert lines[head + 1].split() == [
        *("org/model@v2", "Downloading", "25%", "5.0", "GiB", "of", "20.0", "GiB", "100.0", "MiB/s", "2", "min", "-")
    ]
    assert "Gated: accept them" in lines[head + 2]
    assert as_document(view)["downloads"][0]["secondsLeft"] == 154
