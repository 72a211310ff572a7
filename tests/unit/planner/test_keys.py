"""The first API key: kept once it is made, read from the user's Secret, and never guessed."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.resources import observation, resource
from vllm_operator.api.live import ObjectKey
from vllm_operator.api.names import KEY_ORIGIN
from vllm_operator.api.resource import parse_resource
from vllm_operator.planner import keys
from vllm_operator.render.binding import binding_secret
from vllm_operator.render.surroundings import Surroundings

if TYPE_CHECKING:
    from vllm_operator.planner.plan import Observation

BINDING = ObjectKey("Secret", "qwen-binding")
FRESH = "made-a-moment-ago"
READ: dict[str, Any] = {"keys": [{"name": "team-key", "key": "token"}, {"name": "other", "key": "token"}]}


def encoded(text: str) -> str:
    """As in a Secret."""
    return base64.b64encode(text.encode()).decode()


def raw(**auth: Any) -> dict[str, Any]:
    """A model with that `spec.auth`."""
    return resource(auth=auth) if auth else resource()


def binding(**data: str) -> dict[str, Any]:
    """The live binding Secret."""
    owner = parse_resource(resource()).owner_reference
    metadata = {
        "name": "qwen-binding",
        "namespace": "team",
        "uid": "u",
        "resourceVersion": "1",
    }
    return {"kind": "Secret", "metadata": {**metadata, "ownerReferences": [owner]}, "data": data}


def look(found: dict[str, Any] | None = None, secret: dict[str, Any] | None = None, **auth: Any) -> Observation:
    """What is observed of a model with that `spec.auth`."""
    seen = observation(raw(**auth), {BINDING: found} if found else {})
    return replace(seen, secret=secret, fresh_key=FRESH)


def test_a_model_without_auth_has_no_key_and_reads_no_secret() -> None:
    assert keys.first_key(look()) == keys.FirstKey()
    assert keys.secret_to_read(raw()) is None
    assert not keys.is_generated(raw())


def test_a_generated_key_is_made_once_and_then_kept() -> None:
    assert keys.first_key(look(generate=True)).text == FRESH
    assert keys.first_key(look(binding(VLLM_API_KEY=encoded("first")), generate=True)).text == "first"


@pytest.mark.parametrize(
    "found",
    [
        binding(),
        binding(VLLM_API_KEY=""),
        binding(VLLM_API_KEY="no base64"),
        {**binding(VLLM_API_KEY=encoded("first")), "metadata": {"name": "qwen-binding"}},
    ],
    ids=["no key", "empty", "damaged", "somebody else's"],
)
def test_a_key_that_is_not_there_or_not_ours_is_made_anew(found: dict[str, Any]) -> None:
    assert keys.first_key(look(found, generate=True)).text == FRESH


def test_a_key_that_the_user_named_before_is_not_taken_for_a_generated_one() -> None:
    found = binding(VLLM_API_KEY=encoded("named"))
    found["metadata"]["annotations"] = {KEY_ORIGIN: "named"}
    assert keys.first_key(look(found, generate=True)).text == FRESH


def test_the_binding_says_whether_its_key_was_generated() -> None:
    def origin(**auth: Any) -> str | None:
        rendered = binding_secret(parse_resource(raw(**auth)), Surroundings(api_key="k" if auth else ""))
        found: str | None = rendered["metadata"]["annotations"].get(KEY_ORIGIN)
        return found

    assert origin(generate=True) == "generated"
    assert origin(**READ) == "named"
    assert origin() is None


def test_a_generated_key_comes_before_the_users_and_no_secret_is_read_for_it() -> None:
    assert keys.secret_to_read(raw(generate=True, **READ)) is None
    assert keys.first_key(look(generate=True, **READ)).text == FRESH


def test_the_first_of_the_users_keys_is_read() -> None:
    assert keys.secret_to_read(raw(**READ)) == "team-key"
    assert keys.first_key(look(secret={"data": {"token": encoded("s3cret")}}, **READ)) == keys.FirstKey("s3cret")


@pytest.mark.parametrize(
    ("secret", "problem"),
    [
        (None, "there is no Secret team-key that the operator may read"),
        ({}, "Secret team-key has no key token"),
        ({"data": {"other": ""}}, "Secret team-key has no key token"),
        ({"data": {"token": ""}}, "is empty"),
        ({"data": {"token": encoded("s3cret\n")}}, "such as a line break at its end"),
        ({"data": {"token": encoded("schlüssel")}}, "what no HTTP header can"),
        ({"data": {"token": "/w=="}}, "is empty"),
    ],
    ids=["no Secret", "no data", "no key", "empty", "line break", "not ASCII", "no text"],
)
def test_a_key_that_cannot_be_used_is_told_with_its_path_and_never_shown(
    secret: dict[str, Any] | None, problem: str
) -> None:
    found = keys.first_key(look(secret=secret, **READ))
    assert found.text == ""
    assert found.warning.startswith("spec.auth.keys[0]: ")
    assert problem in found.warning
    assert found.warning.endswith(": clients get no key through the binding")
    assert "s3cret" not in found.warning


def test_no_key_shows_where_an_observation_is_printed() -> None:
    seen = look(secret={"data": {"token": encoded("s3cret")}}, **READ)
    shown = repr((seen, keys.first_key(seen)))
    assert FRESH not in shown
    assert "s3cret" not in shown
    assert encoded("s3cret") not in shown
