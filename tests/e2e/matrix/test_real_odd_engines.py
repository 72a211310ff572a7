"""Real engines that are odd and sound: a plug-in makes their steps, grammars and event loop as slow as others' are."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.matrix.acts import PATIENT, asking, befallen, everywhere, rested, victims
from tests.e2e.matrix.breaking import Part, make_odd, stopped
from tests.e2e.matrix.conftest import GATES, SQL, UNRESTARTED_SECONDS, WHOLE, WITHDRAWN_SECONDS
from tests.e2e.matrix.findings import both_seen
from tests.e2e.matrix.fleet import pair, wait
from tests.e2e.matrix.told import timelines
from tests.support import images, models

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.matrix.acts import Both
    from tests.e2e.matrix.findings import Seen
    from tests.e2e.matrix.fleet import Pair, Request
    from tests.support.api import Api
    from tests.support.models import EngineChoice
    from tests.support.site import Site

    Report = Callable[[int, Seen, Seen], None]

pytestmark = [pytest.mark.node, pytest.mark.real_vllm]

LOADED_AGAIN_SECONDS = 12.0 if WHOLE else 20.0
"""An adapter that was lost is there again by then, of which an engine is asked every other second."""
LOAD = ("--workers", "2", "--deadline", "20", "--pause", "0.5")
LONG_WORDS, LONG_TOKENS = 100, 200
"""A prompt of so many words has more tokens than that, and those of all others have fewer."""
GRAMMAR_SECONDS = 20
SHORT_GRAMMAR_SECONDS = 1.5
"""On top of what the engine takes by itself: 2.5 in all."""
SCHEMAS = 5
SMALL_SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}


@pytest.fixture
def serving(engines: Pair) -> Iterator[Pair]:
    """The fleets, whole."""
    for fleet in engines.fleets():
        fleet.wait_serving(2)
    yield engines
    print(timelines(engines.gated))


def unharmed(found: Both) -> None:
    """Whether nothing was withdrawn, restarted or lost."""
    assert (found[0].withdrawals, found[0].restarts, found[0].lost) == (0, 0, 0)


def asked_once(fleets: Pair, *options: str) -> Both:
    """What becomes of a request or several that come to idle engines."""
    since = time.monotonic()
    with asking(fleets, "--seconds", "1", "--deadline", "120", *options) as clients:
        return both_seen(fleets, since, [client.all_requests() for client in clients])


def test_21_a_request_that_waits_long_for_its_grammar_alone_harms_no_engine(serving: Pair, report: Report) -> None:
    everywhere(serving, "grammar", seconds=GRAMMAR_SECONDS)
    began = time.monotonic()
    found = asked_once(serving, "--workers", "3", "--extra", json.dumps(structured(SMALL_SCHEMA)))
    everywhere(serving, "grammar")
    report(21, *found)
    assert time.monotonic() - began > GRAMMAR_SECONDS
    unharmed(found)


def test_22_requests_with_slow_grammars_that_come_to_idle_engines_harm_none(
    schema_readers: Pair, report: Report
) -> None:
    everywhere(schema_readers, "grammar", seconds=SHORT_GRAMMAR_SECONDS)
    since = time.monotonic()
    asked: list[list[Request]] = [[] for _ in schema_readers.fleets()]
    for number in range(SCHEMAS):
        extra = json.dumps(structured(big_schema(number)))
        with asking(
            schema_readers, "--seconds", "1", "--deadline", "60", "--workers", "2", "--extra", extra
        ) as clients:
            for requests, client in zip(asked, clients, strict=True):
                requests.extend(client.all_requests())
        wait(3)
    everywhere(schema_readers, "grammar")
    found = both_seen(schema_readers, since, asked)
    report(22, *found)
    unharmed(found)


@pytest.fixture
def schema_readers(serving: Pair, place: Site, api: Api, language: EngineChoice) -> Iterator[Pair]:
    """The real engines; for `make matrix` such with a language model, whose vocabulary is as large as people's are."""
    if not WHOLE:
        yield serving
        return
    with pair(place, api, models.model("talking", language, replicas=2, gates=GATES)) as found:
        for fleet in found.fleets():
            fleet.wait_serving(2)
        wait(3)  # kube-proxy follows the EndpointSlice a moment later
        yield found


def big_schema(number: int) -> dict[str, Any]:
    """A schema that takes a language model's engine a second, and another one for each number: grammars are kept."""
    strings = {f"s{place}": {"type": "string"} for place in range(16)}
    parts = {f"o{number}_{place}": {"type": "object", "properties": strings} for place in range(30)}
    return {"type": "object", "properties": parts}


def structured(schema: dict[str, Any]) -> dict[str, Any]:
    """What a request has beside its prompt, for an answer of that form."""
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "form", "schema": schema}}}


def test_24_an_engine_that_sleeps_has_no_traffic_is_not_restarted_and_is_admitted_anew(
    serving: Pair, report: Report
) -> None:
    site = serving.gated.site
    found = rested(
        serving,
        lambda name: site.post(name, "/sleep?level=1", {}),
        lambda name: site.post(name, "/wake_up", {}),
        "asleep until it is woken up",
        ("--workers", "2", "--pause", "0.5"),
    )
    report(24, *found)
    assert found[0].withdrawn_seconds is not None
    assert found[0].withdrawn_seconds < WITHDRAWN_SECONDS
    assert (found[0].withdrawals, found[0].restarts) == (1, 0)


def test_26_steps_of_8_seconds_under_load_cost_no_traffic_once_they_are_known(serving: Pair, report: Report) -> None:
    everywhere(serving, "step", seconds=8, computes=True, longer_than=LONG_TOKENS)
    patient = ("--workers", "1", "--deadline", "90", "--pause", "0.5")
    since = time.monotonic()
    with asking(serving, *patient) as usual, asking(serving, *patient, "--prompt-words", str(LONG_WORDS)) as long:
        wait(25)
        known = time.monotonic()
        wait(UNRESTARTED_SECONDS)
        later = serving.gated.diary.withdrawals(known)
        asked = [[*one.requests(), *other.requests()] for one, other in zip(usual, long, strict=True)]
        found = both_seen(serving, since, asked)
    everywhere(serving, "step")
    report(26, *found)
    assert (found[0].restarts, later) == (0, 0)
    assert found[0].withdrawals <= 2, "each may be out for its first one"


def test_27_an_engine_that_compiles_within_a_step_is_not_restarted(serving: Pair, report: Report) -> None:
    site = serving.gated.site
    odd = {"seconds": UNRESTARTED_SECONDS, "compiler": "ptxas", "once": True}
    found = befallen(serving, lambda name: make_odd(site, name, "step", **odd), UNRESTARTED_SECONDS + 10, LOAD)
    report(27, *found)
    assert found[0].restarts == 0


def test_28_an_event_loop_that_is_blocked_for_8_seconds_costs_no_traffic(serving: Pair, report: Report) -> None:
    site = serving.gated.site
    odd = {"seconds": 8, "computes": True, "once": True}
    found = befallen(serving, lambda name: make_odd(site, name, "block", **odd), 20, LOAD)
    report(28, *found)
    unharmed(found)


def test_29_an_engine_whose_event_loop_is_blocked_for_long_is_not_restarted_while_it_computes(
    serving: Pair, report: Report
) -> None:
    site = serving.gated.site
    odd = {"seconds": UNRESTARTED_SECONDS, "computes": True, "once": True}
    found = befallen(serving, lambda name: make_odd(site, name, "block", **odd), UNRESTARTED_SECONDS + 10, LOAD)
    report(29, *found)
    assert found[0].restarts == 0


def test_30_a_slow_first_prompt_after_idling_costs_no_traffic(serving: Pair, report: Report) -> None:
    everywhere(serving, "idle", seconds=6, after=1, computes=True, once=True)
    found = asked_once(serving, "--workers", "4")
    wait(15)
    report(30, *found)
    assert (serving.gated.diary.withdrawals(time.monotonic() - 20), found[0].lost) == (0, 0)
    unharmed(found)


def test_31_a_prompt_that_makes_every_engine_slow_leaves_half_of_them_in(serving: Pair, report: Report) -> None:
    everywhere(serving, "step", seconds=20, computes=True, longer_than=LONG_TOKENS)
    since = time.monotonic()
    found = asked_once(serving, "--workers", "8", "--prompt-words", str(LONG_WORDS))
    everywhere(serving, "step")
    fewest = serving.gated.diary.fewest(since)
    report(31, dataclasses.replace(found[0], note=f"never fewer than {fewest} of 2 in"), found[1])
    assert fewest >= 1
    assert (found[0].restarts, found[0].lost) == (0, 0)


def test_39_an_adapter_that_was_lost_is_loaded_again_and_nobody_is_withdrawn_or_restarted_for_it(
    serving: Pair, report: Report
) -> None:
    names, site = victims(serving), serving.gated.site
    with asking(serving, "--workers", "2", "--pause", "0.5", *PATIENT, model=SQL) as clients:
        wait(2)
        since = time.monotonic()
        for name in names:
            site.post(name, "/v1/unload_lora_adapter", {"lora_name": SQL})
        wait(LOADED_AGAIN_SECONDS + 8)
        asked = [client.requests() for client in clients]
        found = both_seen(serving, since, asked, names)
    for name in names[1:]:  # nobody else loads it
        site.post(name, "/v1/load_lora_adapter", {"lora_name": SQL, "lora_path": images.real_adapter()})
    report(39, *found)
    assert (found[0].withdrawals, found[0].restarts) == (0, 0)
    again = since + LOADED_AGAIN_SECONDS
    assert [one for one in asked[0] if one.began > again and one.trouble] == []
    for without in asked[1:]:
        assert [one for one in without if one.began > again and one.trouble] != []


@pytest.fixture
def several(place: Site, api: Api, real: EngineChoice) -> Iterator[Pair]:
    """An engine each with two API server processes."""
    fields = {"apiServerCount": 2}
    with pair(place, api, models.model("several", real, engine=fields, gates=GATES), compared=WHOLE) as found:
        for fleet in found.fleets():
            fleet.wait_serving(1)
        wait(3)  # kube-proxy follows the EndpointSlice a moment later
        yield found


def test_34_an_engine_of_which_one_api_server_hangs_is_found_by_the_clients_that_it_leaves_unheard(
    several: Pair, report: Report
) -> None:
    names = victims(several)
    with asking(several, "--workers", "4", "--keep", "--pause", "0.1") as clients:
        wait(5)
        processes = [fleet.process(name, Part.ONE_SERVER) for fleet, name in zip(several.fleets(), names, strict=True)]
        with stopped(*processes):
            since = time.monotonic()
            diary = several.gated.diary
            several.gated.site.until("it is out", lambda: diary.withdrawn_at(names[0], since))
            if WHOLE:
                several.gated.wait_back(names[0], since)
            found = both_seen(several, since, [client.requests() for client in clients], names)
    report(34, *found)
    assert found[0].withdrawn_seconds is not None
    assert found[0].withdrawn_seconds < WITHDRAWN_SECONDS
    assert not WHOLE or found[0].restarts == 1
    assert found[1].withdrawals == 0
