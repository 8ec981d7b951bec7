"""Loading: Hub id, local folder, GGUF file, or a LoRA adapter over any of these.

GGUF files: converted once to safetensors, then loaded like any other model folder.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils.hub import cached_file

from expunge.data.hub import hub_is_closed
from expunge.errors import ExpungeError, InputError, is_out_of_memory
from expunge.models.guarded import load_guard, require_fitting, rules_digest
from expunge.models.integrity import require_finite, require_same_names, require_whole
from expunge.models.lora import is_plain, merge_saved
from expunge.models.reference import (
    base_of,
    is_guard,
    model_folder,
    no_model,
    not_on_this_machine,
    require_no_guard,
    require_place,
    split_reference,
    split_revision,
    unreadable,
)
from expunge.models.transformer import Network
from expunge.utils.file_names import ADAPTER, CONFIG
from expunge.utils.io import read_json, sha256_file, sha256_json
from expunge.utils.system import cache_folder

Part = TypeVar("Part")


def converted(gguf: Path, cache: Path | None) -> Path:
    """Return the folder of the converted model, converting the file if that was not done.

    Args:
        gguf: The file; its weights are de-quantised to float32.
        cache: Where converted models are kept; None: beside the file.

    Raises:
        InputError: There is no such file, or it is not a GGUF file that transformers can read.
    """
    require_place(str(gguf), offline=True)
    folder = (cache or gguf.parent) / f"{gguf.stem}-{sha256_file(gguf)[:16]}"
    if not (folder / CONFIG).is_file():
        try:
            _convert(gguf, folder)
        except Exception as error:  # a foreign file may raise anything in the libraries
            _require_memory(error)
            raise InputError(
                "unreadable-gguf",
                what=f"{gguf} cannot be converted",
                why=_first_line(error),
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
    try:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        partial.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process converted the same file first
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


_ABSENT = (
    RepositoryNotFoundError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    HFValidationError,
    GatedRepoError,
)

_READ = ("*.safetensors", "adapter_model.*", "*config.json", "tokenizer*", "*.jinja", "*.py")
"""Files that decide what a folder loads as; reports, logs and states of a training do not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """How to load models: device, number format, and what is allowed."""

    device: torch.device
    dtype: torch.dtype
    offline: bool = False
    trust_remote_code: bool = False
    cache: Path | None = None
    """Where converted GGUF files are kept; None: beside the file."""

    @property
    def precision(self) -> str:
        """The number format by its name, such as `bfloat16`."""
        return str(self.dtype).removeprefix("torch.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """A model in evaluation mode with its tokenizer."""

    network: Network
    tokenizer: PreTrainedTokenizerBase
    name: str
    digest: str
    """Of its weights and, behind a guard, of these and the guard's rules: another model."""


def float32_source(device: str, *, offline: bool) -> Source:
    """Return how to load a model that is read and not trained: in float32, GGUF files cached.

    Raises:
        InputError: As `choose_device`.
    """
    return Source(
        device=choose_device(device), dtype=torch.float32, offline=offline, cache=cache_folder()
    )


def choose_device(name: str) -> torch.device:
    """Return the device for `auto`, `cpu`, `cuda` or `mps`.

    Raises:
        InputError: The device was requested and is not available.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.mps.is_available()}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if there[kind]))
    if not there[name]:
        raise InputError(
            "no-device",
            what=f"this machine has no {name} device that PyTorch can use",
            why="either the hardware is missing or this build of PyTorch does not support it",
            fix="leave the device out, or use --set device=cpu",
        )
    return torch.device(name)


def load(reference: str, source: Source) -> Loaded:
    """Load a model for scoring and training.

    Args:
        reference: Hub id (optionally `id@revision`), folder, `.gguf` file, adapter folder,
            `BASE+ADAPTER` where the adapter does not say where its base is, or a run folder of
            `expunge train` or `expunge forget`. Adapters are merged, a base may itself be an
            adapter; a guard stands around the network that comes back.
        source: Device, format and permissions.

    Raises:
        InputError: Nothing loadable is there, or it may not be used.
    """
    tokenizer = load_tokenizer(reference, source)
    model = _load_weights(reference, source)
    require_finite(reference, model)
    model.eval()
    model.requires_grad_(False)
    network = Network(model)
    digest = weights_digest(model.state_dict())
    if is_guard(reference):
        rules = model_folder(reference)
        network.guard = load_guard(rules, source.device)
        require_fitting(network.guard, network, rules)
        digest = guarded_digest(digest, rules)
    return Loaded(network=network, tokenizer=tokenizer, name=reference, digest=digest)


def load_tokenizer(reference: str, source: Source) -> PreTrainedTokenizerBase:
    """Load only the tokenizer, for planning without weights.

    Raises:
        InputError: Nothing loadable is there.
    """
    return _beside_weights(AutoTokenizer.from_pretrained, reference, source)


def load_config(reference: str, source: Source) -> PreTrainedConfig:
    """Load only the configuration, for planning without weights.

    Raises:
        InputError: Nothing loadable is there.
    """
    return _beside_weights(AutoConfig.from_pretrained, reference, source)


def meta_model(config: PreTrainedConfig) -> Any:  # noqa: ANN401 - as `from_config` has it
    """Build the model of a configuration without memory, to count its weights and name its parts.

    Raises:
        InputError: `unreadable-model`: the configuration describes no model.
    """
    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config)
    except Exception as error:  # a foreign value may raise anything in the libraries
        raise unreadable(config.name_or_path or "memory", _first_line(error)) from error


def _beside_weights(loader: Callable[..., Part], reference: str, source: Source) -> Part:
    """Load what lies beside the weights of the lowest base of a reference."""
    base = _bottom(reference)
    name, revision = local_base(base, source)
    try:
        return loader(
            name,
            revision=revision,
            trust_remote_code=source.trust_remote_code,
            local_files_only=source.offline,
        )
    except Exception as error:  # a foreign file may raise anything in the libraries
        _require_memory(error)
        raise _unavailable(base, source, error) from error


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 over names, shapes, formats and bytes of all tensors, in name order."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def digest_of(network: Network) -> str:
    """Return the digest of a network's weights as they are now."""
    return weights_digest(network.model.state_dict())


def guarded_digest(weights: str, folder: Path) -> str:
    """Return the digest of a model behind a guard.

    Args:
        weights: Digest of the model's weights.
        folder: That of the guard.

    Raises:
        InputError: As `load_guard`.
    """
    return sha256_json([weights, rules_digest(folder)])


def files_digest(reference: str, source: Source) -> str:
    """Return a digest of the files that `load` would read, without loading them.

    It costs a fraction of the digest of the weights, and is another one: the same weights in other
    files count as others. A model on the Hub is known by the commit that would be taken.

    Args:
        reference: As for `load`.
        source: Permissions.

    Raises:
        InputError: Nothing is there, or it may not be used.
    """
    if is_guard(reference):
        base = files_digest(base_of(Path(reference)), source)
        return sha256_json([base, rules_digest(model_folder(reference))])
    base, adapter = split_reference(reference)
    if adapter is not None:
        return sha256_json([files_digest(base, source), _folder_digest(adapter)])
    if Path(base).is_dir():
        return _folder_digest(Path(base))
    return sha256_file(Path(base)) if Path(base).is_file() else _commit(base, source)


def _folder_digest(folder: Path) -> str:
    read = {path.name: path for pattern in _READ for path in folder.glob(pattern)}
    return sha256_json({name: sha256_file(path) for name, path in read.items() if path.is_file()})


def _commit(reference: str, source: Source) -> str:
    require_place(reference, offline=source.offline)
    name, revision = split_revision(reference)
    try:
        config = cached_file(name, CONFIG, revision=revision, local_files_only=source.offline)
        if config is None:
            raise OSError("it has no config.json")
    except (OSError, ValueError, *_ABSENT) as error:
        raise _unavailable(reference, source, error) from error
    return Path(config).parent.name  # the cache keeps each commit in a folder of its name


def _bottom(reference: str) -> str:
    """Return the model beneath all adapters of a reference."""
    base, adapter = split_reference(reference)
    return base if adapter is None else _bottom(base)


def _load_weights(reference: str, source: Source) -> PreTrainedModel:
    base, adapter = split_reference(reference)
    if adapter is None:
        return _load_base(base, source)
    return _merge_adapter(_load_weights(base, source), adapter)


def local_base(reference: str, source: Source) -> tuple[str, str]:
    """Return where the files of a model without an adapter are, and the revision to take.

    Args:
        reference: A folder, Hub id or GGUF file, which is converted if that was not done.
        source: Permissions, and where converted files are kept.

    Raises:
        InputError: As `require_place`, or the GGUF file cannot be converted.
    """
    if reference.endswith(".gguf"):
        return split_revision(str(converted(Path(reference), source.cache)))
    require_place(reference, offline=source.offline)
    require_no_guard(Path(reference))
    return split_revision(reference)


def _require_own_kernels(reference: str, source: Source) -> None:
    """Refuse a configuration that names a kernel on the Hub: libraries would fetch and run it."""
    config = load_config(reference, source)
    kinds = ("_attn_implementation", "_experts_implementation")
    named = [str(each) for kind in kinds if (each := getattr(config, kind, None))]
    found = next((each for each in named if "/" in each), None)
    if found is None or source.trust_remote_code:
        return
    raise InputError(
        "code-from-file",
        what=f"the configuration of {reference} names code of the Hub to run: {found}",
        why="whoever wrote that file could so run code on this machine",
        fix="take it out of config.json; if you trust the code, say --set trust_remote_code=true",
    )


def _load_base(reference: str, source: Source) -> PreTrainedModel:
    name, revision = local_base(reference, source)
    _require_own_kernels(reference, source)
    try:
        found: Any = AutoModelForCausalLM.from_pretrained(
            name,
            revision=revision,
            dtype=source.dtype,
            trust_remote_code=source.trust_remote_code,
            local_files_only=source.offline,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # refused below, with their names
        )
    except Exception as error:  # a foreign file may raise anything in the libraries
        _require_memory(error)
        raise _unavailable(reference, source, error) from error
    model, info = found  # the model, and what of its files was not used
    require_whole(reference, info)
    moved: PreTrainedModel = model.to(source.device)  # type: ignore[arg-type]
    return moved


def _merge_adapter(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    try:
        if read_json(folder / ADAPTER).get("megatron_config"):
            raise ValueError("it names code to import, as `megatron_core`")
        if is_plain(folder):
            merge_saved(model, folder)
            return model
        return _merge_special(model, folder)
    except Exception as error:  # a foreign file may raise anything in the libraries
        _require_memory(error)
        raise InputError(
            "adapter-does-not-fit",
            what=f"the adapter {folder} cannot be applied to its base",
            why=_first_line(error),
            fix="name the right base with BASE+ADAPTER, or restore the adapter from its source",
        ) from error


def _merge_special(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Merge an adapter of any other kind than plain LoRA, by PEFT."""
    from peft import PeftModel  # imports for seconds; only special adapters need it
    from peft.utils.save_and_load import get_peft_model_state_dict, load_peft_weights

    # A resized embedding may be saved whole, under the name that it has in the base.
    whole = {f"base_model.model.{name}" for name, _ in model.named_parameters()}
    worn = PeftModel.from_pretrained(model, str(folder))
    expected = get_peft_model_state_dict(worn, save_embedding_layers=False)
    found = load_peft_weights(str(folder), device="cpu")
    require_same_names(folder, expected.keys() - whole, found.keys() - whole)
    return worn.merge_and_unload(safe_merge=True)


def _require_memory(error: Exception) -> None:
    """Let an error pass that says that memory ran out: no file is to blame."""
    if is_out_of_memory(error) or isinstance(error, ExpungeError):
        raise error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _unavailable(reference: str, source: Source, error: Exception) -> InputError:
    if isinstance(error, GatedRepoError) or isinstance(error.__cause__, GatedRepoError):
        return InputError(
            "gated-model",
            what=f"access to {reference} is restricted",
            why="its owners ask for an agreement before download",
            fix="accept it on the model's page and log in with `hf auth login`",
        )
    if Path(reference).exists():
        return unreadable(reference, _first_line(error))
    if source.offline or hub_is_closed():
        return not_on_this_machine(reference)
    return no_model(reference, _first_line(error))
