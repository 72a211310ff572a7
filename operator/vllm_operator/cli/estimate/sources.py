"""Where a model's config.json and the size of its weights are read: a file, a folder, a ConfigMap or the hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from vllm_operator.api.spec.sources import Origin, parse_source
from vllm_operator.cli.estimate.hub import from_hub
from vllm_operator.cli.kubectl import KubectlError
from vllm_operator.errors import NotEstimable
from vllm_operator.fit.checkpoint import (
    LENGTH_BYTES,
    Checkpoint,
    checkpoint_of,
    checkpoint_of_index,
    header_length,
    json_object,
    read_index,
)
from vllm_operator.fit.description import CONFIG, INDEX, Described, described_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vllm_operator.api.resource import VLLMModel
    from vllm_operator.cli.kubectl import Kubectl

_CONFIG_MAP: Final = "configmap/"
_SPLIT: Final = "consolidated"
"""How the files of Mistral's own format begin, which hold the same weights once more."""


def described(model: VLLMModel, given: str, kubectl: Kubectl) -> Described:
    """Read what describes a model.

    Args:
        model: The resource.
        given: `--config`: a file, a folder, or `configmap/NAME`; empty for where the spec has the model from.
        kubectl: The user's own, for ConfigMaps.

    Raises:
        NotEstimable: it cannot be read, or is not what it should be; the message says what to do.
    """
    if given.startswith(_CONFIG_MAP):
        return _from_config_map(given.removeprefix(_CONFIG_MAP), kubectl)
    if given:
        return _from_path(Path(given))
    source = parse_source(model.spec.model.source)
    if source.origin is Origin.PATH and Path(source.text).is_dir():
        return _from_path(Path(source.text))
    if source.origin is Origin.HUB:
        config, checkpoint = from_hub(source.text, model.spec.model.revision)
        return Described(config=json_object(config, CONFIG), checkpoint=checkpoint, source=source.text)
    raise NotEstimable(
        f"{model.spec.model.source} cannot be read from here: give its config.json, or the folder with it, in --config"
    )


def _from_path(path: Path) -> Described:
    folder = path if path.is_dir() else path.parent
    config = path / CONFIG if path.is_dir() else path
    return Described(config=json_object(_text(config), str(config)), checkpoint=_in_folder(folder), source=str(path))


def _in_folder(folder: Path) -> Checkpoint | None:
    """The size of the weights in a folder.

    The headers of the files are believed before the index, whose size some tools leave as it was; files that are not
    all there leave the index alone.
    """
    index = read_index(_text(folder / INDEX)) if (folder / INDEX).is_file() else None
    named = {folder / name for name in index.files.values()} if index else set()
    files = sorted(named or (file for file in folder.glob("*.safetensors") if not file.name.startswith(_SPLIT)))
    if files and all(file.is_file() for file in files):
        return checkpoint_of(_headers(files), index, f"the safetensors files in {folder}")
    return checkpoint_of_index(index, INDEX) if index else None


def _headers(files: list[Path]) -> Iterator[tuple[str, bytes]]:
    for file in files:
        try:
            with file.open("rb") as stream:
                length = header_length(stream.read(LENGTH_BYTES), str(file))
                yield file.name, stream.read(length)
        except OSError as error:
            raise NotEstimable(f"{file} cannot be read: {error.strerror}") from None


def _from_config_map(name: str, kubectl: Kubectl) -> Described:
    try:
        found = kubectl.get("configmap", name)
    except KubectlError as error:
        raise NotEstimable(f"ConfigMap {name} cannot be read: {error}") from None
    return described_in(found.get("data") or {}, f"ConfigMap {name}")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise NotEstimable(
            f"{path} cannot be read: {error.strerror}: name a config.json, or a folder with one"
        ) from None
    except UnicodeDecodeError:
        raise NotEstimable(f"{path} is no text in UTF-8") from None
