"""Work that takes long, done piece by piece, so that everything else of the process has its turn between them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from vllm_operator.api.resource import is_parsed, parse_resource
from vllm_operator.errors import InvalidSpec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vllm_operator.api.live import LiveObject


async def parse_in_turns(models: Iterable[LiveObject]) -> None:
    """Read the resources that were not read before, and let everything else have its turn after each.

    A large chat template takes half a second: a namespace with many of them, read at one go, would keep the operator
    from answering /healthz, and kubelet would restart it.
    """
    for model in models:
        if not is_parsed(model.body):
            with contextlib.suppress(InvalidSpec):  # told in the status of that model
                parse_resource(model.body)
            await asyncio.sleep(0)
