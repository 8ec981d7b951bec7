"""Plain fine-tuning with the engine of unlearning: how originals and golds are made."""

from collections.abc import Sequence
from pathlib import Path

import torch

from expunge.data.records import Record
from expunge.data.tokenization import Encoder
from expunge.methods.finetune import Finetune
from expunge.models.loading import Source, choose_device, load
from expunge.models.lora import save_adapter
from expunge.models.number_formats import in_precision
from expunge.models.saving import save_model
from expunge.training.early_stopping import Unseen
from expunge.training.sampler import Streams
from expunge.training.train_loop import Trained
from expunge.training.trainer import Trainer, TrainingArgs
from expunge.utils.io import write_json

NEVER = Unseen(mean=float("inf"), low=float("inf"))
"""No watchdog: teaching goes on to the end."""


def teach(
    base: str,
    records: Sequence[Record],
    options: TrainingArgs,
    *,
    device: str,
    out: Path,
    max_length: int = 512,
) -> Trained:
    """Fine-tune a model; write it, or its adapter in PEFT's format, and how it was made.

    A killed teaching goes on from its last checkpoint; one that has ended is not repeated.

    Args:
        base: Reference of the model to start from.
        records: What it is taught.
        options: How; with LoRA only the adapter is written, in bfloat16.
        device: `auto`, `cpu`, `cuda` or `mps`.
        out: Folder of the result.
        max_length: Longest record in tokens; longer passages are split.
    """
    source = Source(device=choose_device(device), dtype=torch.float32)
    loaded = load(base, in_precision(source, "auto", base))
    encoder = Encoder(loaded.tokenizer, max_length=max_length)
    records = encoder.split_long(records)
    run = Trainer(
        method=Finetune(),
        network=loaded.network,
        streams=Streams(forget=tuple(encoder.encode(r) for r in records), retain=()),
        options=options,
        pad_id=encoder.pad_id,
    )
    total = run.total

    def progress(step: int, text: str) -> None:
        print(f"\r{out.name} {step}/{total} {text}", end="", flush=True)

    done, weights = run.run(unseen=NEVER, folder=out / "checkpoints", progress=progress)
    model = loaded.network.model
    if weights.lora is None:
        run.finish(weights)
        save_model(model, loaded.tokenizer, out)
    else:
        masters = {name: value.to(torch.bfloat16) for name, value in weights.masters.items()}
        save_adapter(model, weights.lora, masters, base=Path(base).name, folder=out)
    made = {
        "base": base,
        "records": len(records),
        "options": options.model_dump(mode="json"),
        "steps": done.steps,
    }
    losses = [[point.step, point.values["nll"]] for point in done.curve[:: max(1, total // 50)]]
    write_json(out / "made.json", {**made, "seconds": round(done.seconds, 1), "losses": losses})
    print(f"\n{out.name}: {done.steps} steps, {done.seconds:.0f} s, {done.curve[-1].values}")
    return done
