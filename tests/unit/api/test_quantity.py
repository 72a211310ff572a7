"""Quantities: what they are worth, and what the API server makes of their text."""

from __future__ import annotations

import decimal
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_operator.api.quantity import MILLI, canonical, quantity


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("0.5", "500m"),
        ("1024Mi", "1Gi"),
        ("1e3", "1k"),
        ("1E3", "1000"),
        ("1", "1000m"),
        (4, "4"),
        ("1.5Gi", "1536Mi"),
        ("+1", "1"),
        (" 1 ", "1"),
        ("1.", "1"),
        (".5", "500m"),
        ("1000000n", "1m"),
        ("0.1n", "1n"),
        ("1.0000000000000000000000000000000000001", "1000000001n"),
        ("-0.1n", "-1n"),
        ("9Ei", "9223372036854775807"),
        ("-9Ei", "-9223372036854775807"),
        ("1E", "1000P"),
    ],
)
def test_different_texts_have_one_value(one: str | int, other: str) -> None:
    assert quantity(one) == quantity(other)


@pytest.mark.parametrize(
    ("one", "other"), [("1G", "1Gi"), ("1m", "1M"), ("1", "0"), ("1n", "2n"), ("100E", "101E"), ("1", "-1")]
)
def test_different_values_differ(one: str, other: str) -> None:
    assert quantity(one) != quantity(other)


def test_a_larger_step_rounds_away_from_zero() -> None:
    assert quantity("1500u", MILLI) == Decimal("0.002")
    assert quantity("-1500u", MILLI) == Decimal("-0.002")


CANONICAL = [
    ("0.5", "500m"),
    (".5", "500m"),
    ("1024Mi", "1Gi"),
    ("1500Mi", "1500Mi"),
    ("1000m", "1"),
    ("1.0", "1"),
    (4, "4"),
    (4000, "4k"),
    ("00", "0"),
    ("-0", "0"),
    ("0Gi", "0"),
    ("1e3", "1e3"),
    ("1E3", "1E3"),
    ("1e2", "100"),
    ("12e5", "1200e3"),
    ("1e-20", "1e-9"),
    ("0.1Gi", "107374182400m"),
    ("1.5Gi", "1536Mi"),
    ("0.5Ki", "512"),
    ("2048Ki", "2Mi"),
    ("-2048Ki", "-2Mi"),
    ("0.1n", "1n"),
    ("100E", "100E"),
    ("9Ei", "9223372036854775807"),
    ("+1", "+1"),
    ("1.500", "1.500"),
    ("01Mi", "01Mi"),
    (" 1 ", "1"),
]


@pytest.mark.parametrize(("text", "kept"), CANONICAL)
def test_the_text_is_what_the_api_server_returns(text: str | int, kept: str) -> None:
    assert canonical(text) == kept


@pytest.mark.parametrize(("text", "kept"), [("0.1n", "1m"), ("1500u", "2m"), ("1e-20", "1e-3"), ("1.000001", "1001m")])
def test_resources_are_rounded_up_to_thousandths(text: str, kept: str) -> None:
    assert canonical(text, MILLI) == kept


@pytest.mark.parametrize(("text", "kept"), [("1000E", "1e21"), ("10000E", "10e21")])
def test_beyond_all_suffixes_the_magnitude_is_kept(text: str, kept: str) -> None:
    assert canonical(text) == kept


suffixes = ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "e2", "E-3", "e+4"]
texts = st.from_regex(r"[+-]?([0-9]{1,22}\.?[0-9]{0,12}|\.[0-9]{1,12})", fullmatch=True).flatmap(
    lambda number: st.sampled_from(suffixes).map(lambda suffix: number + suffix)
)


@given(texts, st.sampled_from([MILLI, Decimal("1e-9")]))
def test_the_canonical_form_has_the_same_value_and_stays(text: str, step: Decimal) -> None:
    kept = canonical(text, step)
    assert quantity(kept, step) == quantity(text, step)
    assert canonical(kept, step) == kept


@pytest.mark.parametrize("text", ["", "four", "1e1.5", "1ki", "Gi", "1e", ".", "NaN", "1_000", "1 Gi", "--1"])
def test_what_is_no_quantity_is_refused_in_words(text: str) -> None:
    with pytest.raises(decimal.InvalidOperation, match="is no quantity: write a number such as"):
        quantity(text)
    with pytest.raises(decimal.InvalidOperation, match="is no quantity"):
        canonical(text)


def test_a_number_beyond_all_bounds_is_refused_at_once() -> None:
    with pytest.raises(decimal.Overflow):
        canonical("1e999999999")
