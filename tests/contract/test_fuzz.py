"""Wrong resources by the thousand: each is refused with the field's name, or taken and rendered; nothing is raised.

FUZZ_RESOURCES says how many (`make fuzz` takes 10,000), FUZZ_SEED which ones.
"""

from __future__ import annotations

import json
import os
import random
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson
import pytest
import yaml

from tests.support.api import Api
from tests.support.mutations import mutated
from tests.support.specs import chosen
from vllm_operator.api.resource import parse_resource
from vllm_operator.errors import InvalidSpec
from vllm_operator.render.children import children

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster import OwnCluster

pytestmark = pytest.mark.api_server

HOW_MANY: Final = int(os.environ.get("FUZZ_RESOURCES", "2000"))
SEED: Final = int(os.environ.get("FUZZ_SEED", "4"))
CONNECTIONS: Final = 4

SAMPLES: Final = [
    document
    for path in sorted((Path(__file__).parent.parent.parent / "manifests" / "samples").glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
    if document["kind"] == "VLLMModel"
]

FIELD: Final = re.compile(r"\bspec([.\[]|: |$)")
"""The path of a field in a message."""


class Outcome(NamedTuple):
    """What became of a resource."""

    verdict: str
    fault: str = ""
    """What is wrong with us."""


@pytest.fixture(scope="module")
def api(with_crd: OwnCluster) -> Iterator[Api]:
    """The API server over HTTP."""
    found = Api(with_crd.kubeconfig)
    yield found
    found.close()


def resource(number: int) -> dict[str, Any]:
    """A resource that went wrong, always the same one for a number."""
    chance = random.Random(f"{SEED}/{number}")  # noqa: S311 # chosen changes, no secrets
    spec = chance.choice(SAMPLES)["spec"] if chance.random() < 0.3 else chosen(chance)
    document = {"apiVersion": "vllm.echo-roots.io/v1alpha1", "kind": "VLLMModel", "spec": spec}
    return mutated({**document, "metadata": {"name": "fuzzed", "namespace": "default"}}, chance)


def named(verdict: str, message: str) -> Outcome:
    """A refusal, which has to name a field."""
    return Outcome(verdict, "" if FIELD.search(message) else f"{verdict} without a field: {message}")


def followed(stored: dict[str, Any]) -> Outcome:
    """What the operator makes of a resource that the API server takes."""
    try:
        orjson.dumps(children(parse_resource(stored)))
    except InvalidSpec as error:
        return named("refused by the operator", str(error))
    return Outcome("rendered")


def outcome(api: Api, number: int) -> Outcome:
    """What becomes of one resource."""
    try:
        answer = api.try_model(resource(number))
        if answer.refusal:
            return named("refused", answer.refusal)
        return followed(answer.body)
    except Exception as error:  # noqa: BLE001 # that nothing is raised is what is tested
        return Outcome("raised", repr(error))


def test_every_wrong_resource_is_refused_by_field_or_rendered(api: Api) -> None:
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        outcomes = list(pool.map(lambda number: outcome(api, number), range(HOW_MANY)))
    faults = [
        f"{number}: {found.fault}\n  {json.dumps(resource(number)['spec'])[:2000]}"
        for number, found in enumerate(outcomes)
        if found.fault
    ]
    assert not faults, f"{len(faults)} of {HOW_MANY}, for example\n" + "\n".join(faults[:5])
    verdicts = Counter(found.verdict for found in outcomes)
    assert verdicts["refused"] > HOW_MANY // 4
    assert verdicts["rendered"] > HOW_MANY // 20
