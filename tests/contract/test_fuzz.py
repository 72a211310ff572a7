"""Wrong resources by the thousand: each is refused with the field's name, or taken and rendered; nothing is raised.

`kubectl vllm render` takes and refuses the same ones without a cluster.

FUZZ_RESOURCES says how many (`make fuzz` takes 10,000), FUZZ_SEED which ones.
"""

from __future__ import annotations

import io
import json
import os
import random
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest
import yaml

from tests.support.api import Api
from tests.support.mutations import mutated
from tests.support.specs import chosen
from vllm_operator.api import json_text
from vllm_operator.api.resource import parse_resource
from vllm_operator.cli.documents import RefusedError, read
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


GO_EXPONENT: Final = 1e21

POD_FAULT: Final = "makes a pod that no API server takes"
"""What render says of a pod that the API server only sees when the operator makes it."""


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
    found = mutated({**document, "metadata": {"name": "fuzzed", "namespace": "default"}}, chance)
    return {**found, "spec": sent(found["spec"])}


def sent(value: Any) -> Any:
    """A value as kubectl sends it: Go writes whole numbers without a point, and the largest with an exponent."""
    if isinstance(value, dict):
        return {name: sent(item) for name, item in value.items()}
    if isinstance(value, list):
        return list(map(sent, value))
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < GO_EXPONENT else value


def named(verdict: str, message: str) -> Outcome:
    """A refusal, which has to name a field."""
    return Outcome(verdict, "" if FIELD.search(message) else f"{verdict} without a field: {message}")


def followed(stored: dict[str, Any]) -> Outcome:
    """What the operator makes of a resource that the API server takes."""
    try:
        json_text.dumps(children(parse_resource(stored)))
    except InvalidSpec as error:
        return named("refused by the operator", str(error))
    return Outcome("rendered")


def rendered(document: dict[str, Any]) -> str:
    """What `kubectl vllm render` says against a resource; nothing where it takes it."""
    try:
        read(["-"], "default", io.StringIO(json.dumps(document)))
    except RefusedError as error:
        return "; ".join(error.args)
    return ""


def outcome(api: Api, number: int) -> Outcome:
    """What becomes of one resource: the same here and there."""
    try:
        document = resource(number)
        answer, told = api.try_model(document), rendered(document)
        found = named("refused", answer.refusal) if answer.refusal else followed(answer.body)
        if found.fault or POD_FAULT in told or (found.verdict == "rendered") == (not told):
            return found
        return Outcome(found.verdict, f"{found.verdict}: {answer.refusal[:500]}\n  but render: {told or 'takes it'}")
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
