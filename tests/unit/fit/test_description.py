"""A model's description in a ConfigMap: what is written is what is read."""

from __future__ import annotations

import json

import pytest

from tests.support.configs import TINY
from vllm_operator.errors import NotEstimable
from vllm_operator.fit.checkpoint import Checkpoint
from vllm_operator.fit.description import CONFIG, INDEX, Described, data_of, described_in


@pytest.mark.parametrize("width", [None, 4])
@pytest.mark.parametrize("names", [frozenset[str](), frozenset({"lm_head.weight", "model.norm.weight"})])
def test_what_is_written_is_read(names: frozenset[str], width: int | None) -> None:
    checkpoint = Checkpoint(total_bytes=7, source="a file", names=names, float_bytes=width)
    found = described_in(data_of(Described(config=TINY, checkpoint=checkpoint, source="a")), "ConfigMap a")
    assert found.config == TINY
    assert found.checkpoint == Checkpoint(
        total_bytes=7, source=f"{INDEX} of ConfigMap a", names=names, float_bytes=width
    )


def test_without_a_size_there_is_no_index() -> None:
    data = data_of(Described(config=TINY, checkpoint=None, source="a"))
    assert list(data) == [CONFIG]
    assert described_in(data, "a").checkpoint is None


def test_a_model_with_very_many_tensors_stays_below_what_a_config_map_holds() -> None:
    names = frozenset(f"model.layers.{layer}.mlp.experts.{expert}.w" for layer in range(61) for expert in range(768))
    data = data_of(Described(config=TINY, checkpoint=Checkpoint(total_bytes=7, source="a", names=names), source="a"))
    assert json.loads(data[INDEX]) == {"metadata": {"total_size": 7}}
    assert len(json.dumps(data)) < 2**20


def test_a_config_map_without_the_key_says_what_makes_one_that_has() -> None:
    with pytest.raises(NotEstimable, match=r"ConfigMap a has no key config\.json: `kubectl vllm estimate -f"):
        described_in({}, "ConfigMap a")
