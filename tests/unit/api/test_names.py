"""Names of children: valid wherever Kubernetes puts them, and no two models meet in one."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_operator.api import names

DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
LABEL_VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
ALPHABET = "abcxyz0189"

parts = st.text(ALPHABET + "-", max_size=61).map(lambda middle: f"a{middle}9") | st.text(
    ALPHABET, min_size=1, max_size=3
)
resource_names = st.lists(parts, min_size=1, max_size=4).map(".".join)
"""Names that the API server takes for a custom resource: DNS labels, with dots between them."""


@given(resource_names)
def test_every_name_of_a_child_is_a_dns_label(name: str) -> None:
    instance = names.instance_name(name)
    for child in (instance, names.engines_name(instance), names.client_name(instance)):
        assert DNS_LABEL.fullmatch(child)
        assert len(child) <= 63


@given(resource_names)
def test_every_label_is_one_that_the_api_server_takes(name: str) -> None:
    for value in names.labels(names.instance_name(name), "engine").values():
        assert LABEL_VALUE.fullmatch(value)
        assert len(value) <= 63


@given(st.sets(resource_names, min_size=2, max_size=20))
def test_no_two_models_share_an_instance_name(several: set[str]) -> None:
    assert len({names.instance_name(name) for name in several}) == len(several)


@given(st.from_regex(r"[a-z0-9.-]{56,80}", fullmatch=True), st.data())
def test_long_names_that_differ_in_one_character_do_not_meet(name: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(name) - 1))
    other = name[:place] + ("x" if name[place] != "x" else "y") + name[place + 1 :]
    assert names.instance_name(name) != names.instance_name(other)


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("qwen2.5", "qwen2-5-"),
        ("7b-chat", "m-7b-chat-"),
        ("a" * 56, "a" * 46 + "-"),
        ("0", "m-0-"),
    ],
)
def test_a_name_that_does_not_fit_stays_readable_and_gets_a_hash(name: str, start: str) -> None:
    assert re.fullmatch(re.escape(start) + "[0-9a-f]{8}", names.instance_name(name))


@pytest.mark.parametrize("name", ["qwen", "a", "qwen-2", "a" * 55])
def test_a_name_that_fits_is_kept(name: str) -> None:
    assert names.instance_name(name) == name


def test_the_instance_name_never_changes_between_versions() -> None:
    assert names.instance_name("qwen2.5-72b.instruct") == "qwen2-5-72b-instruct-5a4f12cf"


def test_the_selector_is_name_and_instance_alone_and_part_of_the_labels() -> None:
    selector = names.selector_labels("qwen")
    assert selector == {"app.kubernetes.io/name": "vllm", "app.kubernetes.io/instance": "qwen"}
    assert selector.items() <= names.labels("qwen", "engine").items()
    assert names.selector_text("qwen") == "app.kubernetes.io/instance=qwen,app.kubernetes.io/name=vllm"


def test_what_the_operator_makes_carries_the_label_by_which_it_watches() -> None:
    key, _, value = names.MANAGED_SELECTOR.partition("=")
    assert names.labels("qwen", "engine")[key] == value
