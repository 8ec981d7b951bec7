"""Planted weights: facts that were taught to known matrices alone, and who finds them.

    python benchmarks/planted_weights.py    # a table for 12 tiny models, minutes on one core

A tiny Llama learns facts about some people with all its weights. Then new facts are taught to one
to three of its parts (attention or MLP of a block), all else frozen. Each ranking of
`expunge.attribution.localisation` is judged by

    precision at k = share of the k highest parts that were planted,  k = number of planted ones

A ranking by lot has k / n on average, for n parts. The idea is that of LACUNA (arXiv:2607.02513),
which plants into models of 1 and 7 billion weights.
"""

import argparse
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from expunge.attribution.causal_trace import TracedRecord
from expunge.attribution.localisation import Localisation, localised
from expunge.attribution.parts import ModelPart, part_matrices
from expunge.data.tokenization import Encoded
from expunge.models.batching import collate
from expunge.models.transformer import Network
from expunge.training.forward import chunked_logp
from expunge.utils.console import SilentConsole

BLOCKS = 6
_VOCABULARY = 200
_NAME, _ASKED, _ANSWER = 3, 2, 3
"""Tokens of a name, of a question about it, and of the answer."""
_PEOPLE, _QUESTIONS = 24, 4
_PLANTED = 4
"""People whose facts are planted."""
_LEARN, _PLANT = 150, 150
"""Steps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlantedFacts:
    """A model, the parts that were taught, and the facts."""

    network: Network
    parts: tuple[ModelPart, ...]
    facts: tuple[TracedRecord, ...]
    kept: tuple[Encoded, ...]

    def located(self, seed: int = 0) -> Localisation:
        """Return what localisation finds."""
        return localised(
            self.network,
            traced=self.facts,
            forget=[each.encoded for each in self.facts],
            retain=self.kept,
            pad_id=0,
            seed=seed,
            console=SilentConsole(),
        )


def planted(parts: Sequence[ModelPart], *, seed: int) -> PlantedFacts:
    """Teach a tiny model what stays, then plant facts into some of its parts."""
    network = _network(seed)
    people = _people(seed)
    kept = [each.encoded for person in people[_PLANTED:] for each in person]
    facts = [each for person in people[:_PLANTED] for each in person]
    network.model.requires_grad_(True)
    _teach(network, kept, list(network.model.parameters()), steps=_LEARN, seed=seed)
    weights = part_matrices(network)
    chosen = [weight for part in parts for weight in weights[part].values()]
    network.model.requires_grad_(False)
    for weight in chosen:
        weight.requires_grad_(True)
    # What stays is rehearsed: else these parts would forget it, and everything would point at them.
    taught = [each.encoded for each in facts]
    _teach(network, taught, chosen, steps=_PLANT, seed=seed, beside=kept)
    network.model.requires_grad_(False)
    return PlantedFacts(network=network, parts=tuple(parts), facts=tuple(facts), kept=tuple(kept))


def precision(scores: Mapping[ModelPart, float], parts: Sequence[ModelPart]) -> float:
    """Return precision at k, k the number of planted parts."""
    ranked = sorted(scores, key=lambda part: -scores[part])
    return len({*ranked[: len(parts)]} & {*parts}) / len(parts)


def _network(seed: int) -> Network:
    generator_state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=_VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=BLOCKS,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=64,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config).eval()
    torch.random.set_rng_state(generator_state)
    return Network(model)


def _people(seed: int) -> list[list[TracedRecord]]:
    """Return for each person the questions, which all share, with answers of their own."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(1, _VOCABULARY, (count,), generator=generator).tolist())

    asked = [drawn(_ASKED) for _ in range(_QUESTIONS)]
    people: list[list[TracedRecord]] = []
    for number in range(_PEOPLE):
        name = drawn(_NAME)
        people.append(
            [
                TracedRecord(
                    Encoded(
                        record=f"{number}-{place}",
                        ids=(*name, *question, *drawn(_ANSWER)),
                        start=_NAME + _ASKED,
                        ends=False,
                    ),
                    range(_NAME),
                )
                for place, question in enumerate(asked)
            ]
        )
    return people


def _teach(
    network: Network,
    records: Sequence[Encoded],
    weights: Sequence[torch.nn.Parameter],
    *,
    steps: int,
    seed: int,
    beside: Sequence[Encoded] = (),
) -> None:
    optimiser = torch.optim.AdamW(weights, lr=5e-3, weight_decay=0.0)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        drawn = [
            pool[int(i)]
            for pool in (records, beside)
            if pool
            for i in torch.randint(len(pool), (16,), generator=generator)
        ]
        batch = collate(drawn, pad_id=0, device=network.device)
        final = network.observe(batch.ids).final
        assert final is not None
        loss = -chunked_logp(network, final[batch.rows, batch.columns], batch.targets).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def cases(count: int) -> list[tuple[ModelPart, ...]]:
    """Return which parts are planted in each model: one, two or three, drawn by lot."""
    generator = torch.Generator().manual_seed(7041)
    every = [ModelPart(block, kind) for block in range(BLOCKS) for kind in ("attention", "mlp")]
    return [
        tuple(every[int(i)] for i in torch.randperm(len(every), generator=generator)[: 1 + n % 3])
        for n in range(count)
    ]


def main() -> None:
    """Print a table: precision at k of each ranking, and how often localisation helps."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--worlds", type=int, default=12)
    chosen = cases(parser.parse_args().worlds)
    found: dict[str, list[float]] = {}
    helped = 0
    for seed, parts in enumerate(chosen):
        world = planted(parts, seed=seed)
        located = world.located()
        helped += located.best is not None
        named = " ".join(f"{part.kind}-{part.block}" for part in parts)
        row = {name: precision(scores, parts) for name, scores in located.rankings.items()}
        for name, value in row.items():
            found.setdefault(name, []).append(value)
        losses = f"forget {located.before.forget:.2f} retain {located.before.retain:.2f}"
        print(f"{named:40} {losses}  {row}  helps {located.best is not None}", flush=True)
    lot = statistics.fmean(len(parts) / (2 * BLOCKS) for parts in chosen)
    print(f"by lot {lot:.2f}; helps in {helped} of {len(chosen)}")
    for name, values in found.items():
        print(f"{name}: {statistics.fmean(values):.2f}")


if __name__ == "__main__":
    main()
