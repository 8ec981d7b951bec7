"""What `expunge recheck` says of planted changes of an unlearned model, merges among them.

    python benchmarks/recheck.py RUN --work FOLDER --sibling NAME=MODEL ... --out FILE
        [--only TEXT] [--recognise | --monitor]

RUN is a finished run whose claims hold. Each change is made, rechecked and removed; a line of JSON
for each goes to FILE, and what is there already is not done again. Siblings are models of the same
base and architecture; each is merged in at five shares. --only makes the changes whose name holds
a text. --recognise audits nothing: it says how each change of the weights is recognised, from the
tensors of every tenth block. --monitor asks each changed model the facts once, as
`expunge recheck --monitor` does.
"""

import argparse
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from expunge.attacks.weight_space.quantization import quantise_dequantise
from expunge.config.resolve import resolve
from expunge.config.settings import FinetuneSettings, Settings
from expunge.errors import GateError
from expunge.models.derivation import derivation
from expunge.models.loading import Loaded, load
from expunge.models.number_formats import in_stored_format
from expunge.models.reference import model_folder
from expunge.models.saving import save_model
from expunge.pipeline.finetune import train
from expunge.pipeline.monitor import monitor, read_monitor
from expunge.pipeline.recheck import recheck
from expunge.preparation.prepare import source_of
from expunge.utils.io import read_jsonl, write_jsonl

RATIOS = (0.1, 0.2, 0.3, 0.5, 0.7)
PRUNED = 0.2
_TENTH_BLOCK = re.compile(r"\.layers\.\d*0\.")

Weights = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class PlantedChange:
    """A change of the unlearned model."""

    name: str
    weights: Callable[[Weights], Weights] | None = None
    """Makes its weights from those of the unlearned model; None: they are trained."""
    data: tuple[str, ...] = ()
    """What they are trained on."""


def main() -> None:
    """Recheck every change of a run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--sibling", action="append", default=[])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default="")
    parser.add_argument("--recognise", action="store_true")
    parser.add_argument("--monitor", action="store_true")
    given = parser.parse_args()
    settings = resolve(
        {"audit.level": "quick"}, config=given.run / "config.toml", environ={}, start=given.run
    ).settings
    siblings = dict(each.split("=", 1) for each in given.sibling)
    rows = list(read_jsonl(given.out)) if given.out.is_file() else []
    done = {row["change"] for row in rows}
    for change in changes(settings, siblings):
        if change.name not in done and given.only in change.name:
            if given.recognise and change.weights is None:
                continue
            if given.recognise:
                rows.append(recognised(change, settings, given.run, siblings))
            elif given.monitor:
                rows.append(monitored(change, settings, given.run, given.work))
            else:
                rows.append(judged(change, settings, given.run, given.work, siblings))
            print(json.dumps(rows[-1]), flush=True)
            write_jsonl(given.out, rows)


def changes(settings: Settings, siblings: dict[str, str]) -> Iterator[PlantedChange]:
    """Yield the changes: merges, rounding, pruning, further training, another format."""
    request = settings.request
    yield PlantedChange(name="copied", weights=lambda own: own)
    for name, reference in {"original": settings.model, **siblings}.items():
        other = _weights(_loaded(settings, reference))
        for ratio in RATIOS:
            yield PlantedChange(
                name=f"merged with {name}, {ratio:.0%}", weights=partial(_merged, other, ratio)
            )
    yield PlantedChange(name="linear layers rounded to 8 bits", weights=_each_linear(_to_8_bits))
    yield PlantedChange(name="linear layers rounded to 4 bits", weights=_each_linear(_to_4_bits))
    yield PlantedChange(name="linear layers pruned by 20 %", weights=_each_linear(_pruned))
    yield PlantedChange(name="fine-tuned on records to keep", data=tuple(request.retain))
    yield PlantedChange(name="fine-tuned on what was forgotten", data=request.forget)
    yield PlantedChange(name="stored in float16", weights=_in_float16)


def recognised(
    change: PlantedChange, settings: Settings, run: Path, siblings: dict[str, str]
) -> Mapping[str, object]:
    """Make a change, and return how it is recognised from a part of the tensors."""
    assert change.weights is not None
    own = _some(_weights(_loaded(settings, str(model_folder(run)))))
    partners = {"original": settings.model, **siblings}
    found = derivation(
        change.weights(own),
        own,
        {name: _some(_weights(_loaded(settings, each))) for name, each in partners.items()},
    )
    return {
        "change": change.name,
        "recognised": found.text(),
        "ratio": found.ratio,
        "distance": round(found.distance, 4),
    }


def monitored(
    change: PlantedChange, settings: Settings, run: Path, work: Path
) -> Mapping[str, object]:
    """Make a change, and ask the facts of the run once."""
    folder = made(change, settings, run, work)
    start = time.process_time()
    try:
        state = monitor(settings, target=str(folder), run=run, out=work / "monitor")
    except GateError:
        state = read_monitor(work / "monitor")
    assert state is not None
    row = {
        "change": change.name,
        "facts": state.facts,
        "stated": len(state.said),
        "e_process": float(f"{state.evidence[-1]:.3g}"),
        "alarms": state.alarms,
        "processor_seconds": round(time.process_time() - start),
    }
    shutil.rmtree(work, ignore_errors=True)
    return row


def made(change: PlantedChange, settings: Settings, run: Path, work: Path) -> Path:
    """Write the changed model, and return its folder."""
    folder = work / "changed"
    shutil.rmtree(work, ignore_errors=True)
    own = _loaded(settings, str(model_folder(run)))
    if change.weights is not None:
        state = change.weights(_weights(own))
        own.network.model.to(next(iter(state.values())).dtype)  # type: ignore[arg-type]
        own.network.model.load_state_dict(state)
        save_model(own.network.model, own.tokenizer, folder)
    else:
        train(FinetuneSettings(model=str(model_folder(run)), data=change.data), out=folder)
    return folder


def _some(weights: Weights) -> Weights:
    return {name: value for name, value in weights.items() if _TENTH_BLOCK.search(name)}


def judged(
    change: PlantedChange, settings: Settings, run: Path, work: Path, siblings: dict[str, str]
) -> Mapping[str, object]:
    """Make a change, recheck it, and return what was found."""
    folder = made(change, settings, run, work)
    start = time.process_time()
    found = recheck(
        settings,
        model=str(folder),
        run=run,
        related=tuple(siblings.values()),
        out=work / "recheck",
    )
    row = {
        "change": change.name,
        "recognised": found.derivation.text(),
        "distance": round(found.derivation.distance, 4),
        "claims": {claim.question: claim.state.value for claim in found.claims},
        "state": found.state.value,
        "reasons": [claim.reason for claim in found.claims if claim.state.value != "valid"],
        "processor_seconds": round(time.process_time() - start),
    }
    shutil.rmtree(work, ignore_errors=True)
    return row


def _loaded(settings: Settings, reference: str) -> Loaded:
    return load(reference, in_stored_format(source_of(settings), reference))


def _weights(model: Loaded) -> Weights:
    return {name: value.clone() for name, value in model.network.model.state_dict().items()}


def _in_float16(own: Weights) -> Weights:
    return {name: value.half() for name, value in own.items()}


def _each_linear(change: Callable[[Tensor], Tensor]) -> Callable[[Weights], Weights]:
    """Change the linear layers of the blocks; embeddings and head stay, as with common tools."""
    return lambda own: {
        name: change(value) if value.dim() == 2 and ".layers." in name else value
        for name, value in own.items()
    }


def _to_8_bits(value: Tensor) -> Tensor:
    return quantise_dequantise(value.float(), bits=8, group=None).to(value.dtype)


def _to_4_bits(value: Tensor) -> Tensor:
    return quantise_dequantise(value.float(), bits=4, group=32).to(value.dtype)


def _pruned(value: Tensor) -> Tensor:
    size = value.float().abs()
    least = size.flatten().kthvalue(max(1, int(PRUNED * size.numel()))).values
    return torch.where(size <= least, 0, value)


def _merged(other: Weights, ratio: float, own: Weights) -> Weights:
    return {
        name: torch.lerp(value.float(), other[name].float(), ratio).to(value.dtype)
        for name, value in own.items()
    }


if __name__ == "__main__":
    main()
