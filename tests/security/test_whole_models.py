"""Whole models only: a folder that is not the model it describes is refused before any number."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from peft import IA3Config, LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

import tiny
from expunge.errors import InputError
from expunge.methods.guards.base import GuardRules
from expunge.models.guarded import save_guard
from expunge.models.loading import Source, load
from expunge.models.lora import LoraShape, attach, save_adapter
from expunge.models.number_formats import in_stored_format

CPU = Source(device=torch.device("cpu"), dtype=torch.float32, offline=True)
IDS = torch.tensor([[5, 6, 7, 8]])
UP = "model.layers.1.mlp.up_proj.weight"
NORM = "model.norm.weight"
WEIGHTS, ADAPTER = "model.safetensors", "adapter_model.safetensors"


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change of a folder, and what is said of it."""

    what: str
    said: str
    """Words of the message that no other change of the table would bring, if it is read."""
    code: str = "unreadable-model"
    tensors: Callable[[dict], object] = lambda tensors: None
    fields: Callable[[dict], object] = lambda fields: None
    content: bytes | None = None
    """Of the file of weights, instead of tensors."""
    config: str | None = None
    """Text of the configuration, instead of fields."""


def changed(folder: Path, change: Change, weights: str, config: str) -> None:
    """Make a change in a folder."""
    tensors = load_file(folder / weights)
    change.tensors(tensors)
    save_file(tensors, folder / weights, metadata={"format": "pt"})
    if change.content is not None:
        (folder / weights).write_bytes(change.content)
    fields = json.loads((folder / config).read_text())
    change.fields(fields)
    (folder / config).write_text(json.dumps(fields) if change.config is None else change.config)


def nan(name: str) -> Callable[[dict], object]:
    return lambda tensors: tensors[name].view(-1)[3:4].fill_(float("nan"))


HEADER = "its header is not that of a safetensors file"
MODELS = [
    Change(
        what="a tensor is missing", tensors=lambda t: t.pop(UP), code="incomplete-weights", said=UP
    ),
    Change(
        what="a norm is missing",
        tensors=lambda t: t.pop(NORM),
        code="incomplete-weights",
        said=NORM,
    ),
    Change(
        what="a tensor too many",
        tensors=lambda t: t.update({"model.layers.0.more.weight": torch.ones(3)}),
        code="left-over-weights",
        said="no place in the model of config.json: model.layers.0.more.weight",
    ),
    Change(
        what="another shape",
        tensors=lambda t: t.update({NORM: torch.ones(32)}),
        code="misshapen-weights",
        said=f"other shapes than config.json describes: {NORM}",
    ),
    Change(what="NaN", tensors=nan(UP), code="not-a-number", said=UP),
    Change(
        what="an infinity",
        tensors=lambda t: t[NORM][0:1].fill_(float("inf")),
        code="not-a-number",
        said=NORM,
    ),
    Change(
        what="fewer layers in the configuration",
        fields=lambda c: c.update(num_hidden_layers=1),
        code="left-over-weights",
        said="model.layers.1.",
    ),
    Change(
        what="more layers in the configuration",
        fields=lambda c: c.update(num_hidden_layers=3),
        code="incomplete-weights",
        said="random numbers would replace them: model.layers.2.",
    ),
    Change(
        what="a head that is tied no more",
        fields=lambda c: c.update(tie_word_embeddings=False),
        code="incomplete-weights",
        said="lm_head.weight",
    ),
    Change(what="weights cut off", content=b"\xff" * 8 + b"{", said=HEADER),
    Change(what="no weights at all", content=b"", said=HEADER),
    Change(what="weights that are text", content=b"x" * 100, said=HEADER),
    Change(
        what="a width that is a word",
        fields=lambda c: c.update(hidden_size="wide"),
        said="field 'hidden_size'",
    ),
    Change(
        what="code of the Hub",
        fields=lambda c: c.update(attn_implementation="someone/kernel"),
        code="code-from-file",
        said="someone/kernel",
    ),
    Change(what="a negative width", fields=lambda c: c.update(hidden_size=-4), said="-4"),
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model, a GPT-2, a LoRA adapter over the model, and one of PEFT's other kinds."""
    folder = tmp_path_factory.mktemp("models")
    tiny.save(folder / "base", tiny.llama())
    tiny.save(folder / "gpt2", tiny.gpt2())
    network = tiny.network()
    attach(network, LoraShape(rank=2, alpha=4.0), seed=0)
    with torch.no_grad():
        for name, parameter in network.model.named_parameters():
            if name.endswith("lora_B"):
                parameter.normal_(std=0.05)
    shape = LoraShape(rank=2, alpha=4.0)
    save_adapter(network.model, shape, {}, base="../base", folder=folder / "adapter")
    get_peft_model(
        tiny.llama(), LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj"], use_dora=True)
    ).save_pretrained(str(folder / "dora"))
    get_peft_model(
        tiny.llama(),
        IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]),
    ).save_pretrained(str(folder / "ia3"))
    for name in ("dora", "ia3"):
        path = folder / name / "adapter_config.json"
        fields = {**json.loads(path.read_text()), "base_model_name_or_path": "../base"}
        path.write_text(json.dumps(fields))
    return folder


@pytest.fixture
def models(saved, tmp_path):
    return Path(shutil.copytree(saved, tmp_path / "models"))


def refused(folder: Path, change: Change) -> None:
    with pytest.raises(InputError) as caught:
        load(str(folder), in_stored_format(CPU, str(folder)))
    assert caught.value.code == change.code
    assert change.said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize("change", MODELS, ids=lambda change: change.what)
def test_a_model_that_is_not_whole_is_refused(change, models):
    changed(models / "base", change, WEIGHTS, "config.json")
    refused(models / "base", change)


def exceptions() -> dict[str, tuple[str, Callable[[dict], object]]]:
    """What libraries leave out, or in, on purpose."""
    rope = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)}
    mask = {
        "transformer.h.0.attn.bias": torch.ones(1, 1, 8, 8),
        "transformer.h.0.attn.masked_bias": torch.tensor(-1e4),
    }
    head = "lm_head.weight"
    return {
        "a tied head that is not saved": ("base", lambda t: None),
        "a tied head that is saved": (
            "base",
            lambda t: t.update({head: t["model.embed_tokens.weight"].clone()}),
        ),
        "frequencies of rotations": ("base", lambda t: t.update(rope)),
        "masks of attention": ("gpt2", lambda t: t.update(mask)),
        "names without the prefix": (
            "gpt2",
            lambda t: [t.update({k.removeprefix("transformer."): t.pop(k)}) for k in list(t)],
        ),
    }


@pytest.mark.parametrize("name", exceptions())
def test_what_libraries_leave_out_on_purpose_loads(name, models):
    folder, change = exceptions()[name]
    before = load(str(models / folder), CPU)
    changed(models / folder, Change(what=name, said="", tensors=change), WEIGHTS, "config.json")
    after = load(str(models / folder), CPU)
    assert after.digest == before.digest
    logits = [each.network.model(input_ids=IDS).logits for each in (before, after)]
    assert torch.equal(*logits)


@pytest.mark.parametrize("build", [tiny.bloom, tiny.falcon, tiny.phi, tiny.gemma, tiny.mixtral])
def test_every_architecture_loads_as_it_is_saved(build, tmp_path):
    model = build()
    loaded = load(str(tiny.save(tmp_path / "model", model)), CPU)
    assert torch.equal(loaded.network.model(input_ids=IDS).logits, model(input_ids=IDS).logits)


def halves(tensors: dict, half: str) -> dict:
    return {name: value for name, value in tensors.items() if half in name}


def only(tensors: dict, kept: str) -> None:
    for name in [name for name in tensors if kept not in name]:
        del tensors[name]


def moved(tensors: dict) -> None:
    for name in list(tensors):
        tensors[name.replace("layers.1", "layers.7")] = tensors.pop(name)


def wider(tensors: dict) -> None:
    for name, value in halves(tensors, "q_proj.lora_A").items():
        tensors[name] = torch.cat([value, value], dim=1)


def not_numbers(tensors: dict) -> None:
    for value in halves(tensors, "lora_B").values():
        value.fill_(float("nan"))


FITS = "adapter-does-not-fit"
ADAPTERS = [
    Change(what="empty", tensors=lambda t: t.clear(), code=FITS, said="holds no tensor"),
    Change(what="one half", tensors=lambda t: only(t, "lora_A"), code=FITS, said="one half"),
    Change(what="other half", tensors=lambda t: only(t, "lora_B"), code=FITS, said="one half"),
    Change(what="another rank", fields=lambda c: c.update(r=8), code=FITS, said="has rank 2 and 2"),
    Change(what="rank 0", fields=lambda c: c.update(r=0), code=FITS, said="says 0"),
    Change(
        what="a rank that is a word", fields=lambda c: c.update(r="two"), code=FITS, said="says two"
    ),
    Change(what="no rank", fields=lambda c: c.pop("r"), code=FITS, said="no rank"),
    Change(what="another base", tensors=wider, code=FITS, said="for weights of shape"),
    Change(
        what="a block that the base lacks", tensors=moved, code=FITS, said="no layer model.layers.7"
    ),
    Change(
        what="a block less", tensors=lambda t: only(t, "layers.0"), code=FITS, said="of block 1"
    ),
    Change(what="NaN", tensors=not_numbers, code=FITS, said="not numbers"),
    Change(
        what="another type", fields=lambda c: c.update(peft_type="IA3"), code=FITS, said=".ia3_l"
    ),
    Change(
        what="no known type", fields=lambda c: c.update(peft_type="MAGIC"), code=FITS, said="MAGIC"
    ),
    Change(what="weights cut off", content=b"\x10\0\0\0\0\0\0\0{", said=HEADER),
    Change(
        what="code to import",
        fields=lambda c: c.update(megatron_config={"x": 1}, megatron_core="payload"),
        code=FITS,
        said="names code to import",
    ),
    Change(what="no JSON", config="rank 16", said="not JSON that names a base"),
    Change(what="a list", config="[]", said="not JSON that names a base"),
    Change(
        what="no base", fields=lambda c: c.update(base_model_name_or_path=None), said="names no"
    ),
    Change(
        what="itself as base",
        fields=lambda c: c.update(base_model_name_or_path="."),
        said="this adapter itself",
    ),
    Change(
        what="a circle",
        fields=lambda c: c.update(base_model_name_or_path="../circle"),
        said="one that lies over it",
    ),
]


@pytest.mark.parametrize("change", ADAPTERS, ids=lambda change: change.what)
def test_an_adapter_that_is_not_whole_is_refused(change, models):
    load(str(models / "adapter"), CPU)  # as it is, nothing is refused
    (models / "circle").mkdir()
    (models / "circle" / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": "../adapter"})
    )
    changed(models / "adapter", change, ADAPTER, "adapter_config.json")
    refused(models / "adapter", change)


@pytest.mark.parametrize(
    ("kind", "part"), [("dora", "lora_magnitude_vector"), ("dora", "lora_A"), ("ia3", "layers.1")]
)
def test_an_adapter_of_another_kind_is_whole_as_well(kind, part, models):
    load(str(models / kind), CPU)
    path = models / kind / ADAPTER
    tensors = load_file(path)
    gone = next(name for name in tensors if part in name)
    save_file({k: v for k, v in tensors.items() if k != gone}, path, metadata={"format": "pt"})
    with pytest.raises(InputError, match=f"{kind} misses {re.escape(gone)}\n"):
        load(str(models / kind), CPU)


def guarded(folder: Path) -> Path:
    rules = GuardRules(reply=(5, 6), blocked=frozenset({(7, 8)}))
    save_guard(rules, folder, base="../base", method="ngram_block", parameters={})
    return folder


@pytest.mark.parametrize("field", [{"blocked": [[7, 999]]}, {"reply": "no"}, {"reply": [-1]}])
def test_a_guard_that_is_not_for_the_model_is_refused(field, models):
    path = guarded(models / "guard") / "guard.json"
    load(str(models / "guard"), CPU)
    told = json.loads(path.read_text())
    path.write_text(json.dumps({**told, "rules": {**told["rules"], **field}}))
    with pytest.raises(InputError, match="guard-does-not-fit"):
        load(str(models / "guard"), CPU)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"base_model_name_or_path": 3}'])
def test_a_guard_that_does_not_parse_is_refused(text, models):
    folder = guarded(models / "guard")
    load(str(folder), CPU)
    (folder / "guard.json").write_text(text)
    with pytest.raises(InputError, match=r"guard\.json"):
        load(str(folder), CPU)


def test_an_adapter_beside_weights_is_refused(models):
    """Libraries would load the base that it names, and not the weights that lie there."""
    shutil.copy(models / "adapter" / "adapter_config.json", models / "gpt2")
    with pytest.raises(InputError, match="lies beside weights"):
        load(str(models / "gpt2"), CPU)


@pytest.mark.parametrize("text", [None, "{", '{"rules": {}}'])
def test_a_guard_beside_weights_is_not_passed_over(text, models):
    """Whoever put it there meant it to act, and it would not."""
    guarded(models / "base")
    if text is not None:
        (models / "base" / "guard.json").write_text(text)
    with pytest.raises(InputError, match="lies beside weights"):
        load(str(models / "base"), CPU)
