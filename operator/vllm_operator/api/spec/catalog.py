"""`spec.catalog`: what the model is good for, so that applications choose by need and not by name.

Nothing of it reaches the engines: it is written to the ConfigMap `vllm-catalog` of the namespace.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints

from vllm_operator.api.base import Model
from vllm_operator.api.spec.scalars import SET, LabelKey, LabelValue

DEFAULT_WEIGHT: Final = 100

Language = Annotated[
    str, StringConstraints(min_length=2, max_length=35, pattern=r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$")
]
"""A BCP 47 language tag, such as `en`, `zh-TW` or `zh-Hant`; RFC 5646 recommends room for 35 characters."""

Task = Annotated[
    str, StringConstraints(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$")
]


Complexity = Literal["simple", "medium", "complex"]
"""How hard a request is, from the easiest to the hardest."""


class Catalog(Model):
    """What the model is good for; written to the ConfigMap `vllm-catalog`, and never to the engines."""

    languages: Annotated[list[Language], Field(max_length=32)] | None = Field(
        default=None,
        description="Languages that it is for, as BCP 47 tags such as `en` or `zh-TW`; other languages then go to "
        "other models. Default: any.",
        json_schema_extra=SET,
    )
    complexity: Annotated[list[Complexity], Field(max_length=3)] | None = Field(
        default=None,
        description="How hard the requests are that it is for. A request of another tier still comes here where no "
        "model is for that tier. Default: any.",
        json_schema_extra=SET,
    )
    tasks: Annotated[list[Task], Field(max_length=32)] | None = Field(
        default=None,
        description="What it is for, in words of your own such as `extraction` or `chat`; other tasks then go to other "
        "models. Default: any.",
        json_schema_extra=SET,
    )
    labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=16)] | None = Field(
        default=None, description="Whatever else applications choose by: they get only models that have what they name."
    )
    weight: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=DEFAULT_WEIGHT, description="Of models that suit a request equally well, the heaviest is chosen."
    )
