"""The words of the command in each language; they are data, in `texts.yaml`.

What is quoted (conditions, kubelet, the scheduler, logs) stays in the words in which it was said.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final

import yaml
from pydantic import TypeAdapter

from vllm_operator.diagnosis.signatures import ENGLISH, Language

_FILE: Final = "texts.yaml"

Texts = dict[Language, str]
_ALL: Final = TypeAdapter(dict[str, dict[str, Texts]])


@cache
def texts() -> dict[str, dict[str, Texts]]:
    """All texts, by their kind and their name."""
    return _ALL.validate_python(yaml.safe_load(files(__package__).joinpath(_FILE).read_text(encoding="utf-8")))


def text(kind: str, name: str, language: Language = ENGLISH, /, **values: object) -> str:
    """A text with its values filled in.

    Raises:
        KeyError: there is no such text, or it names another value.
    """
    return texts()[kind][name][language].format_map(values)


def text_or(otherwise: str, kind: str, name: str, language: Language = ENGLISH) -> str:
    """A text; another one where it is none that is known here, such as the phase of a newer manager."""
    found = texts()[kind].get(name)
    return found[language] if found else otherwise
