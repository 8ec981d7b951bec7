"""How cost grows with the forget set, the length of records and the depth of the model.

    python benchmarks/growth.py

A Llama of width 192 with random weights is trained by NPO on records of random tokens, 8 forget and
8 retain records a step, one pass over the forget set. Writes `results/growth.json` after each point
and `results/growth.svg` in the end; points that are there are not measured again.
"""

import argparse
import json
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from matplotlib import pyplot
from transformers import LlamaConfig, LlamaForCausalLM

from expunge.data.tokenization import Encoded
from expunge.methods.npo import NPO
from expunge.models.transformer import Network
from expunge.training.early_stopping import Unseen
from expunge.training.sampler import Streams
from expunge.training.trainer import Trainer, TrainingArgs
from expunge.utils.io import write_json
from timing import Clock

RESULTS = Path(__file__).parent / "results"
VOCABULARY = 4096
BATCH = 8
NEVER = Unseen(mean=float("inf"), low=float("inf"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One run."""

    records: int = 400
    length: int = 48
    """Mean tokens of a record; half of them are scored."""
    layers: int = 6

    @property
    def tokens(self) -> int:
        """Tokens of the forget and the retain records that one pass trains on."""
        return 2 * self.records * self.length


CURVES = {
    "records": [Point(records=n) for n in (100, 300, 1000, 3000, 10000)],
    "length": [Point(records=19200 // n, length=n) for n in (24, 48, 96, 192, 384, 768)],
    "layers": [Point(layers=n) for n in (2, 4, 8, 16, 32)],
}
"""Of `length`, all points have as many tokens."""
AXES: dict[str, tuple[str, Callable[[Point], float]]] = {
    "records": ("forget records", lambda point: point.records),
    "length": ("tokens a record, as many tokens in all", lambda point: point.length),
    "layers": ("blocks", lambda point: point.layers),
}


def model(layers: int) -> Network:
    """Return a small Llama."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=layers,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
    )
    return Network(LlamaForCausalLM(config).eval())


def records(point: Point, seed: int) -> tuple[Encoded, ...]:
    """Return records of random tokens whose lengths vary by a quarter to both sides."""
    draw = random.Random(seed)
    found: list[Encoded] = []
    for index in range(point.records):
        length = draw.randint(3 * point.length // 4, 5 * point.length // 4)
        ids = tuple(draw.choices(range(3, VOCABULARY), k=length))
        found.append(Encoded(record=f"r{index}", ids=ids, start=length // 2, ends=True))
    return tuple(found)


def measured(point: Point) -> float:
    """Return the seconds of one pass over the forget set, references and checks included."""
    streams = Streams(forget=records(point, 1), retain=records(point, 2))
    steps = -(-point.records // BATCH)
    run = Trainer(
        method=NPO(),
        network=model(point.layers),
        streams=streams,
        options=TrainingArgs(lora=None, steps=steps, lr=1e-5, check_every=10 * steps),
        pad_id=2,
    )
    with TemporaryDirectory() as folder:

        def work() -> float:
            run.run(unseen=NEVER, folder=Path(folder), progress=lambda step, text: None)
            return 0.0

        return Clock(torch.device("cpu")).seconds(work, [])


def slopes(seconds: dict[str, float]) -> tuple[float, float]:
    """Return microseconds a token from 100 to 1,000 forget records, and from there to 10,000."""
    at = {point.records: (point.tokens, seconds[str(point.records)]) for point in CURVES["records"]}

    def slope(low: int, high: int) -> float:
        return 1e6 * (at[high][1] - at[low][1]) / (at[high][0] - at[low][0])

    return slope(100, 1000), slope(1000, 10000)


def plot(found: dict[str, dict[str, float]], path: Path) -> None:
    """Draw the three curves."""
    pyplot.rcParams.update({"svg.hashsalt": "growth", "svg.fonttype": "none", "font.size": 9})
    figure, axes = pyplot.subplots(1, 3, figsize=(9, 2.8), layout="constrained")
    for axis, (name, points) in zip(axes, CURVES.items(), strict=True):
        label, of = AXES[name]
        x = [of(point) for point in points]
        y = [found[name][str(int(value))] for value in x]
        axis.plot(x, y, "o-", color="#33658a")
        axis.set(xscale="log", yscale="log", xlabel=label, ylabel="seconds a pass")
        axis.minorticks_off()
        axis.set_xticks(x, [f"{value:,.0f}" for value in x])
        axis.set_ylim(10 ** math.floor(math.log10(min(y))), 10 ** math.ceil(math.log10(max(y))))
        axis.yaxis.set_major_formatter("{x:,.0f}")
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Measure what is missing, then draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=RESULTS)
    out = parser.parse_args().out
    file = out / "growth.json"
    found: dict[str, dict[str, float]] = (
        json.loads(file.read_text())["seconds"] if file.is_file() else {}
    )
    for name, points in CURVES.items():
        for point in points:
            key = str(int(AXES[name][1](point)))
            if key in found.setdefault(name, {}):
                continue
            found[name][key] = measured(point)
            print(name, key, f"{found[name][key]:.2f} s", flush=True)
            write_json(file, {"seconds": found, "threads": torch.get_num_threads()})
    low, high = slopes(found["records"])
    print(f"{low:.1f} us a token up to 1,000 records, {high:.1f} beyond: {high / low - 1:+.1%}")
    plot(found, out / "growth.svg")


if __name__ == "__main__":
    main()
