"""A real API server takes every manifest of every page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support import pages

if TYPE_CHECKING:
    from tests.support.namespace import Namespace

pytestmark = pytest.mark.api_server

OF_OTHERS = {"Application", "Certificate", "Model", "Prometheus", "ServiceBinding"}
"""Kinds of tools that this API server does not have: the page names the tool."""

BLOCKS = [block for block in pages.all_blocks("yaml") if block.page != pages.GENERATED]


@pytest.mark.parametrize("page", sorted({block.page for block in BLOCKS}))
def test_the_api_server_takes_the_manifests_of_a_page(namespace: Namespace, page: str) -> None:
    found = [one for block in BLOCKS if block.page == page for one in pages.manifests(block)]
    ours = [one for one in found if one["kind"] not in OF_OTHERS]
    for one in ours:
        one["metadata"].pop("namespace", None)
    for one in ours:
        namespace.kubectl("apply", "--dry-run=server", "--validate=strict", "--filename", "-", document=one)
