"""Saving: a loadable model folder; its files are moved into place once all are written."""

import shutil
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write configuration, safetensors weights and tokenizer into `folder`.

    Files of the same names are replaced, others are left alone. If writing fails, for example on a
    full disk, what was in the folder before is untouched.
    """
    staging = folder / ".staging"
    shutil.rmtree(staging, ignore_errors=True)
    try:
        model.save_pretrained(staging)
        tokenizer.save_pretrained(staging)
        (staging / "README.md").unlink(missing_ok=True)
        for path in sorted(staging.iterdir()):
            path.chmod(0o644)
            path.replace(folder / path.name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
