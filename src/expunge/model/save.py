"""Saving: a loadable model folder; its files are moved into place once all are written."""

import re
import shutil
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from expunge.files import NO_SPACE, disk_full


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write configuration, safetensors weights and tokenizer into `folder`.

    Files of the same names are replaced, others are left alone. If writing fails, for example on a
    full disk, what was in the folder before is untouched.

    Raises:
        ResourceError: The disk is full.
    """
    staging = folder / ".staging"
    shutil.rmtree(staging, ignore_errors=True)
    try:
        model.save_pretrained(staging)
        tokenizer.save_pretrained(staging)
        (staging / "README.md").unlink(missing_ok=True)
        # Safetensors are written for their owner only; what the umask allows, the folder tells.
        mode = staging.stat().st_mode & 0o666
        for path in sorted(staging.iterdir()):
            path.chmod(mode)
            path.replace(folder / path.name)
    except Exception as error:
        if not _is_full(error):
            raise
        raise disk_full(folder) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _is_full(error: Exception) -> bool:
    """Tell whether the disk is full.

    Weights and tokenizers are not written by Python: the number of the system's error is in the
    text only.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in NO_SPACE
    found = re.search(r"os error (\d+)", str(error))
    return found is not None and int(found[1]) in NO_SPACE
