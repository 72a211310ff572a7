"""What the client is for: attributes of products out of their descriptions, as JSON that fits a schema.

It is also the program of a client pod, which has `vllm_client` and the model's binding and nothing of this repository:
`python -m tests.demo.extraction` here, `python -c` with this file's text there. It prints one line of JSON a product.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, Field

from vllm_client import create_llm_client

if TYPE_CHECKING:
    from vllm_client import VLLMClient

PRODUCTS = (
    "red cotton shirt, size M",
    "Blue leather handbag, large",
    "Black steel water bottle, 750 ml",
    "White ceramic coffee mug, 350 ml",
    "brown leather boots, size 42",
)


class Attributes(BaseModel):
    """What a catalogue wants to know of a product. The shorter its choices, the smaller a model can make them."""

    item: str = Field(max_length=20)
    color: Literal["black", "blue", "brown", "green", "grey", "orange", "pink", "red", "white", "yellow"]
    material: Literal["ceramic", "cotton", "glass", "leather", "linen", "plastic", "silk", "steel", "wool"]
    size: str = Field(max_length=12)


EXAMPLES = (
    ("pink plastic cup, small", Attributes(item="cup", color="pink", material="plastic", size="small")),
    ("orange glass vase, 30 cm", Attributes(item="vase", color="orange", material="glass", size="30 cm")),
)


def messages(product: str) -> list[dict[str, str]]:
    """The question, after two that are answered already: a small model learns more from these than from a rule."""
    asked = [{"role": "system", "content": "Extract the attributes of the product as JSON."}]
    for text, answer in EXAMPLES:
        asked += [{"role": "user", "content": text}, {"role": "assistant", "content": answer.model_dump_json()}]
    return [*asked, {"role": "user", "content": product}]


async def extract(llm: VLLMClient, product: str) -> Attributes:
    """The attributes of one product.

    Raises:
        VLLMError: There is no answer, or it was cut off before it fitted the schema.
    """
    answer = await llm.chat(messages(product), schema=Attributes, temperature=0, max_tokens=80)
    return Attributes.model_validate_json(answer)


async def main() -> None:
    """Ask for all products at once, and print them in their order."""
    async with create_llm_client("vllm") as llm:
        found = await asyncio.gather(*(extract(llm, product) for product in PRODUCTS))
    for product, attributes in zip(PRODUCTS, found, strict=True):
        print(json.dumps({"product": product, "attributes": attributes.model_dump()}))


def read(log: str) -> dict[str, Attributes]:
    """What `main` has printed, by product, out of a pod's log.

    The log also has what the client warns of, which is on the other stream: an engine that took long to answer, say.
    """
    found = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return {one["product"]: Attributes(**one["attributes"]) for one in found}


if __name__ == "__main__":
    asyncio.run(main())
