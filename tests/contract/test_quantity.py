"""Our canonical text of a quantity is the real API server's."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from vllm_operator.api.quantity import MILLI, canonical, quantity

if TYPE_CHECKING:
    from tests.cluster import OwnCluster

pytestmark = pytest.mark.api_server

HOW_MANY = 400
SUFFIXES = [
    "",
    "n",
    "u",
    "m",
    "k",
    "M",
    "G",
    "T",
    "P",
    "E",
    "Ki",
    "Mi",
    "Gi",
    "Ti",
    "Pi",
    "Ei",
    "e3",
    "E-3",
    "e+4",
    "e-20",
]
TELLING = [
    "0",
    "00",
    "0.0Gi",
    "0.5",
    "1.500",
    "+1",
    "01Mi",
    "1.",
    ".5",
    "0.1n",
    "1.1Ki",
    "9Ei",
    "100E",
    "8Ki",
    "1025Gi",
]


def texts() -> list[str]:
    """Quantities of every length and family, always the same ones."""
    chance = random.Random(20)  # noqa: S311 # chosen numbers, no secrets

    def digits(most: int) -> str:
        return str(chance.randrange(10 ** chance.randint(1, most))) + "0" * chance.choice([0, 0, 1, 3])

    numbers = [
        chance.choice(["", "", "+", "0"]) + digits(12) + chance.choice(["", "", ".", "." + digits(9)])
        for _ in range(HOW_MANY)
    ]
    return TELLING + [number + chance.choice(SUFFIXES) for number in numbers]


def known(text: str) -> bool:
    """Whether the API server has a suffix for it: from 1000E on it drops the magnitude."""
    return quantity(text) < 10**21


def deployment(quantities: list[str]) -> dict[str, Any]:
    """A Deployment with each of them as a resource and as the size of a volume."""
    containers = [
        {"name": f"c{number}", "image": "x", "resources": {"limits": {"cpu": text}}}
        for number, text in enumerate(quantities)
    ]
    volumes = [{"name": f"v{number}", "emptyDir": {"sizeLimit": text}} for number, text in enumerate(quantities)]
    labels = {"app": "quantities"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": containers, "volumes": volumes}}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "quantities"}, "spec": spec}


def returned(api_server: OwnCluster, quantities: list[str]) -> tuple[list[str], list[str]]:
    """What the API server makes of them as resources, and as sizes of volumes."""
    dry_run = ["apply", "--server-side", "--dry-run=server", "--output", "json", "--filename", "-"]
    pods = json.loads(api_server.kubectl(*dry_run, input=json.dumps(deployment(quantities))))["spec"]["template"][
        "spec"
    ]
    resources = [container["resources"]["limits"]["cpu"] for container in pods["containers"]]
    return resources, [volume["emptyDir"]["sizeLimit"] for volume in pods["volumes"]]


def test_the_api_server_returns_our_canonical_text(api_server: OwnCluster) -> None:
    written = [text for text in texts() if known(text)]
    assert len(written) > HOW_MANY * 3 // 4
    resources, sizes = returned(api_server, written)
    ours = [(text, canonical(text, MILLI), canonical(text)) for text in written]
    assert ours == list(zip(written, resources, sizes, strict=True))
    assert [quantity(text, MILLI) for text in written] == [quantity(text, MILLI) for text in resources]
    assert [quantity(text) for text in written] == [quantity(text) for text in sizes]


def test_the_canonical_text_comes_back_as_it_is_whatever_its_magnitude(api_server: OwnCluster) -> None:
    written = [canonical(text, MILLI) for text in [*texts(), "1000E", "10000E", "999999E"]]
    assert returned(api_server, written) == (written, written)
