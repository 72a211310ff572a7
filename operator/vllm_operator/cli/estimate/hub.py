"""The Hugging Face hub, read by the user's machine with the user's own token, mirror and cache."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vllm_operator.errors import NotEstimable
from vllm_operator.fit.checkpoint import Checkpoint, checkpoint_of_index, read_index

if TYPE_CHECKING:
    from types import ModuleType

_CONFIG: Final = "config.json"
_INDEX: Final = "model.safetensors.index.json"
_SINGLE: Final = "model.safetensors"
_WIDTHS: Final = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_WITHOUT: Final = (
    "is on the Hugging Face hub, and the package that reads it is not installed: pip install 'vllm-operator[hub]', or "
    f"load its {_CONFIG} yourself and give it with --config"
)


def from_hub(name: str, revision: str | None) -> tuple[str, Checkpoint | None]:
    """The config.json of a model, as text, and the size of its weights; None where the hub does not tell it.

    A few small files are loaded and kept in the user's cache of the hub, and of the weights the header alone.

    Raises:
        NotEstimable: it cannot be had; the message says why, and what to do.
    """
    try:
        import huggingface_hub as hub  # noqa: PLC0415 # an extra: whoever gives --config needs none
    except ImportError:
        raise NotEstimable(f"{name} {_WITHOUT}") from None
    try:
        config = Path(hub.hf_hub_download(name, _CONFIG, revision=revision)).read_text(encoding="utf-8")
        return config, _checkpoint(hub, name, revision)
    except (
        hub.errors.HfHubHTTPError,
        hub.errors.LocalEntryNotFoundError,
        hub.errors.HFValidationError,
        OSError,
    ) as error:
        raise NotEstimable(f"{name}{_at(revision)} cannot be read from the hub: {_reason(hub, error)}") from None


def _checkpoint(hub: ModuleType, name: str, revision: str | None) -> Checkpoint | None:
    """The size of the weights: of several files by their index, of a single one by its header."""
    try:
        index = Path(hub.hf_hub_download(name, _INDEX, revision=revision)).read_text(encoding="utf-8")
    except hub.errors.EntryNotFoundError:
        return _single(hub, name, revision)
    return checkpoint_of_index(read_index(index), f"{_INDEX} of {name}")


def _single(hub: ModuleType, name: str, revision: str | None) -> Checkpoint | None:
    try:
        found = hub.HfApi().parse_safetensors_file_metadata(name, _SINGLE, revision=revision)
    except (hub.errors.EntryNotFoundError, hub.errors.SafetensorsParsingError):
        return None
    return _of_header(found, f"{_SINGLE} of {name}")


def _of_header(found: Any, source: str) -> Checkpoint:
    """What the header of a single file says."""
    sizes = {name: end - begin for name, tensor in found.tensors.items() for begin, end in (tensor.data_offsets,)}
    floats = {_WIDTHS[tensor.dtype] for tensor in found.tensors.values() if tensor.dtype in _WIDTHS}
    return Checkpoint(
        total_bytes=sum(sizes.values()),
        source=source,
        names=frozenset(sizes),
        float_bytes=floats.pop() if len(floats) == 1 else None,
    )


def _reason(hub: ModuleType, error: Exception) -> str:
    """Why, and what to do; the hub's own words are many lines, with addresses in them."""
    errors = hub.errors
    if isinstance(error, errors.GatedRepoError):
        return "it is gated: accept its licence there, and log in with `hf auth login` or set HF_TOKEN"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "there is no such model, or it is private: check spec.model.source, and log in with `hf auth login`"
    if isinstance(error, errors.RevisionNotFoundError):
        return "it has no such revision: check spec.model.revision"
    if isinstance(error, errors.LocalEntryNotFoundError):
        return (
            f"the hub does not answer, or HF_HUB_OFFLINE is set: load its {_CONFIG} yourself and give it with --config"
        )
    if isinstance(error, errors.EntryNotFoundError):
        return f"it has no {_CONFIG}: give one with --config"
    lines = str(error).splitlines()
    return f"{lines[0] if lines else type(error).__name__}: try again later, or give a {_CONFIG} with --config"


def _at(revision: str | None) -> str:
    return f" at {revision}" if revision else ""
