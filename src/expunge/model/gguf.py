"""GGUF files: converted once to safetensors, then loaded like any other model folder."""

import os
import shutil
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from expunge.errors import InputError
from expunge.files import sha256_file


def converted(gguf: Path, cache: Path | None) -> Path:
    """Return the folder of the converted model, converting the file if that was not done.

    Args:
        gguf: The file; its weights are de-quantised to float32.
        cache: Where converted models are kept; None: beside the file.

    Raises:
        InputError: There is no such file, or it is not a GGUF file that transformers can read.
    """
    if not gguf.is_file():
        raise InputError(
            "no-model",
            what=f"there is no file {gguf}",
            why="a reference that ends in .gguf must be a file on this machine",
            fix="check the path",
        )
    folder = (cache or gguf.parent) / f"{gguf.stem}-{sha256_file(gguf)[:16]}"
    if not (folder / "config.json").is_file():
        try:
            _convert(gguf, folder)
        except (ValueError, KeyError, NotImplementedError, RuntimeError) as error:
            raise InputError(
                "unreadable-gguf",
                what=f"{gguf} cannot be converted",
                why=(str(error).splitlines() or [type(error).__name__])[0][:200],
                fix="give a GGUF file of an architecture that transformers supports",
            ) from error
    return folder


def _convert(gguf: Path, folder: Path) -> None:
    where, name = str(gguf.parent), gguf.name
    tokenizer = AutoTokenizer.from_pretrained(where, gguf_file=name)
    model = AutoModelForCausalLM.from_pretrained(where, gguf_file=name, dtype=torch.float32)
    # transformers marks the model as quantised although its weights are plain numbers now.
    vars(model)["hf_quantizer"] = None
    del vars(model.config)["quantization_config"]
    partial = folder.with_name(f".{folder.name}.{os.getpid()}")
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    try:
        partial.rename(folder)
    except OSError:  # another process converted the same file first
        shutil.rmtree(partial, ignore_errors=True)
