"""Extract attributes of products out of their descriptions, as JSON that fits a schema.

python examples/extraction.py

It prints one line of JSON a product. The environment is that of quickstart.py.
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

    item: str = Field(pattern="^[A-Za-z0-9 -]{1,20}$")
    color: Literal["black", "blue", "brown", "green", "grey", "orange", "pink", "red", "white", "yellow"]
    material: Literal["ceramic", "cotton", "glass", "leather", "linen", "plastic", "silk", "steel", "wool"]
    size: str = Field(pattern="^[A-Za-z0-9 ]{1,12}$")


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
    answer = await llm.chat(messages(product), schema=Attributes, temperature=0, max_tokens=120)
    return Attributes.model_validate_json(answer)


async def main() -> None:
    """Ask for all products at once, and print them in their order."""
    async with create_llm_client("vllm") as llm:
        found = await asyncio.gather(*(extract(llm, product) for product in PRODUCTS))
    for product, attributes in zip(PRODUCTS, found, strict=True):
        print(json.dumps({"product": product, "attributes": attributes.model_dump()}))


if __name__ == "__main__":
    asyncio.run(main())
