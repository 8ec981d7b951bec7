"""Peak memory of a step with all weights of a model of 1.2 billion, without one.

    python benchmarks/one_billion.py --base FOLDER --shared ../shared

NPO on TOFU's forget10, 32 forget and 32 retain records, on the shape of Llama-3.2-1B with random
weights. Counted are the bytes of live tensors (`live.py`), which are the same on every device: a
runtime and what an allocator cannot use come on top. The peer's step is run whole, on tensors that
have a shape and no values. Ours reads values on its way, so that it is run for real with one, two
and three blocks; every further block adds the same, which the third one confirms, and sixteen are
what follows. The result goes into docs/results/engine.md.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from engine_page import publish
from expunge.data.tokenization import Encoder
from expunge.methods.base import Shape, Stream, Term
from expunge.methods.npo import NPO
from expunge.models.transformer import Network
from expunge.optim.optimizers.adamw import AdamW
from expunge.planning.memory import GIB, measure
from expunge.training.forward import TermEvaluator
from expunge.training.reference_model import precompute
from expunge.training.sampler import BatchIndices, Streams
from expunge.training.trainable_weights import everything
from expunge.utils.io import write_json
from live import live
from peer import Peer, collated
from sides import MODES, PAD, TOKENS_PER_PASS, our_step, planned_peak
from testbed import order_of, streams

RESULT = Path(__file__).parent / "results" / "one_billion.json"
BLOCKS = 16
RECORDS = 32
BAR = 0.6
START = "<!-- measured: benchmarks/one_billion.py -->\n"


class Format(NamedTuple):
    """How numbers are kept on both sides."""

    name: str
    ours: torch.dtype
    """Of our model; what trains has masters in float32."""
    autocast: bool
    """Whether the peer, whose weights are float32, computes in bfloat16."""


FORMATS = (Format("bf16", torch.bfloat16, True), Format("fp32", torch.float32, False))


def shape(blocks: int) -> LlamaConfig:
    """Return Llama-3.2-1B with so many blocks."""
    return LlamaConfig(
        vocab_size=128256,
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=blocks,
        num_attention_heads=32,
        num_key_value_heads=8,
        tie_word_embeddings=True,
    )


def peer_peak(blocks: int, data: Streams, draw: BatchIndices, *, autocast: bool) -> int:
    """Return the most bytes that are alive in two steps of the peer."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        model, reference = (LlamaForCausalLM._from_config(shape(blocks)) for _ in range(2))
        reference.requires_grad_(False)
        peer, trained = Peer(model, reference), list(model.parameters())
        optimiser = torch.optim.AdamW(trained, lr=1e-5, foreach=False)
        forget, retain = (
            collated(data.drawn(stream, draw), PAD, torch.device("cpu"))
            for stream in (Stream.FORGET, Stream.RETAIN)
        )
        with live(*model.state_dict().values(), *reference.state_dict().values()) as counted:
            for _ in range(2):
                with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                    loss = peer.npo(forget, retain)
                loss.backward()
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
        return counted.peak


def our_peak(blocks: int, data: Streams, draw: BatchIndices, dtype: torch.dtype) -> int:
    """Return the most bytes that are alive in one of our steps, with moments of one before it."""
    torch.manual_seed(0)
    network = Network(LlamaForCausalLM._from_config(shape(blocks), dtype=dtype).eval())
    weights = everything(network)
    masters, terms = weights.masters, terms_of(blocks)
    optimiser = AdamW().make(masters, 1e-5, 0.0)
    with live(*network.model.state_dict().values(), *masters.values()) as counted:
        for master in masters.values():
            master.grad = torch.zeros_like(master)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        pools = {s: list(data.drawn(s, draw)) for s in (Stream.FORGET, Stream.RETAIN)}
        references = precompute(network, terms, pools, pad_id=PAD, tokens_per_pass=TOKENS_PER_PASS)
        observer = TermEvaluator(
            network=network, terms=terms, streams=data, references=references, pad_id=PAD
        )
        our_step(observer, weights, optimiser, draw)
    return counted.peak


def terms_of(blocks: int) -> tuple[Term, ...]:
    """Return the terms of NPO."""
    config = shape(blocks)
    return NPO().terms(Shape(layers=blocks, width=config.hidden_size, vocabulary=config.vocab_size))


def measured(data: Streams, form: Format) -> dict[str, float]:
    """Return GB of both sides."""
    order = replace(order_of(data), forget_batch=RECORDS, retain_batch=RECORDS)
    draw = order.draw(0)
    one, two, three = (our_peak(blocks, data, draw, form.ours) / 1e9 for blocks in (1, 2, 3))
    expected = 2 * two - one
    print(f"{form.name}: {one:.3f}, {two:.3f}, {three:.3f} GB with 1, 2, 3 blocks", flush=True)
    assert abs(three / expected - 1) < 0.005, f"three blocks hold {three} GB, not {expected}"
    whole = three + (BLOCKS - 3) * (three - one) / 2
    size = measure(shape(BLOCKS))
    planned = GIB * planned_peak(
        terms_of(BLOCKS), data, order, size, MODES["all"], size.total, form.ours
    )
    peer = peer_peak(BLOCKS, data, draw, autocast=form.autocast) / 1e9
    return {
        "peer": peer,
        "expunge": whole,
        "planned": planned / 1e9,
        "blocks": [one, two, three],
        "ratio": whole / peer,
    }


def section(found: dict[str, dict[str, float]]) -> str:
    """Return the table of docs/results/engine.md."""
    lines = [
        f"| live tensors at the peak, GB | peer | expunge | planned | ratio | bar: {BAR} |",
        "|---|---|---|---|---|---|",
    ]
    names = {"bf16": "bf16, masters in float32", "fp32": "float32"}
    for name, row in found.items():
        met = "met" if row["ratio"] <= BAR else "not met"
        lines.append(
            f"| {names[name]} | {row['peer']:.1f} | {row['expunge']:.1f} | {row['planned']:.1f} "
            f"| {row['ratio']:.2f} | {met} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, write and publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", required=True, help="folder of SmolLM2-135M-Instruct")
    parser.add_argument("--shared", type=Path, required=True, help="folder with data/")
    parser.add_argument("--formats", nargs="*", default=[form.name for form in FORMATS])
    given = parser.parse_args()
    data = streams(given.shared, Encoder(AutoTokenizer.from_pretrained(given.base)))
    found = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    for form in FORMATS:
        if form.name in given.formats:
            found[form.name] = measured(data, form)
            write_json(RESULT, found)
    print(section(found))
    publish(section(found), start=START)


if __name__ == "__main__":
    main()
