"""Broken samples that never get into the cluster: what `kubectl apply` prints names field and remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster import ClusterError
from tools.broken_samples import broken_samples

if TYPE_CHECKING:
    from tests.support.namespace import Namespace
    from tools.broken_samples import BrokenSample

pytestmark = pytest.mark.api_server

REFUSED = [one for one in broken_samples() if not one.reason]


@pytest.mark.parametrize("one", REFUSED, ids=lambda one: one.id)
def test_kubectl_apply_names_cause_field_and_remedy(quiet: Namespace, one: BrokenSample) -> None:
    with pytest.raises(ClusterError) as refused:
        quiet.kubectl("apply", "--filename", "-", document=one.document)
    words = " ".join(str(refused.value).split())
    assert [text for text in (*one.says, one.field, one.remedy) if text not in words] == []
