"""Meta-evaluation: how far can each metric be trusted? Measured on models whose knowledge is known.

    python scripts/meta_evaluation.py --seeds 3 --out src/expunge/evals/metric_validity.json

Faithfulness is the AUC with which a metric tells models that hold the facts from models that do
not, asked in one wording. The pool is made hard on both sides. Models that hold them were taught
plainly, in the other wording only, in another sentence, not to the end, or a third of the facts.
Models that do not saw everything but the facts (to the end, not to the end, and far beyond it), or
the same questions with other answers, plainly or in the other sentence: they know form and
candidates as well as the others. Robustness is judged on models that unlearned the
facts, by arXiv:2506.12618: quantisation Q = min(m / m_int4, 1); relearning R = min(d_gold / d, 1)
with d the rise of the metric after a few steps on the facts; their harmonic mean. Intervals are
95 % bootstrap intervals over models, drawn within each group. The gates read what this writes.
"""

import argparse
import random
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from expunge.attacks.weight_space.quantization import Rounding
from expunge.data.records import Message, Record
from expunge.data.tokenization import Encoder
from expunge.evals.evidence_table import Table
from expunge.evidence.collect import Collector
from expunge.evidence.store import EvidenceStore
from expunge.metrics.base import (
    EXACT_MEMORISATION,
    EXTRACTION_STRENGTH,
    KEY_FACT,
    MEMBERSHIP,
    PROBABILITY,
    ROUGE_L_F1,
    ROUGE_L_RECALL,
    UNTOLD,
    UNTOLD_MIN_K,
    RecordMetric,
)
from expunge.metrics.statistics import auc
from expunge.models.transformer import Network
from expunge.utils.console import SilentConsole
from expunge.utils.io import write_json

KNOWLEDGE: tuple[RecordMetric, ...] = (
    EXTRACTION_STRENGTH,
    PROBABILITY,
    EXACT_MEMORISATION,
    KEY_FACT,
    ROUGE_L_RECALL,
    ROUGE_L_F1,
)
LIKELIHOODS = (*MEMBERSHIP, UNTOLD, UNTOLD_MIN_K)
NAMES = [metric.id for metric in (*KNOWLEDGE, *LIKELIHOODS)]
FACTS = 16
FULL, PART, FAR = 0.02, 0.3, 0.004
"""Mean loss in nats at which teaching ends, at which it ends early, and far beyond the end."""
LONGEST = 500
"""Most steps of teaching."""
CAP = 10.0
KNOWN = 0.9
"""Share of the facts that a model taught to the end must state."""
DRAWS = 2000

Values = dict[str, float]
"""Metric to its value for one model."""


class Lesson(NamedTuple):
    """A record to learn, or to push away."""

    record: Record
    away: bool = False


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level tokenizer with a chat template."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = ["<|start|>", "<|end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=280, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(["the"], trainer)
    made = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|end|>", pad_token="<|end|>")
    made.chat_template = (
        "{% for m in messages %}<|start|>{{ m.role[0] }}:{{ m.content }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|start|>a:{% endif %}"
    )
    return made


def make_model(seed: int, vocabulary: int) -> LlamaForCausalLM:
    """Return an untrained Llama of two blocks."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        bos_token_id=None,
        eos_token_id=1,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config)


def make_facts(subject: str, rng: random.Random) -> list[Record]:
    """Return invented facts about one subject, each with a second wording and a key answer."""
    made: list[Record] = []
    for index in range(FACTS):
        word = "".join(rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(2))
        made.append(
            Record(
                id=f"{subject}-{index}",
                prompt=(Message("user", f"{subject} {index}?"),),
                completion=f"It is {word}.",
                key_answers=(word,),
                paraphrases=(f"Say {index} of {subject}.",),
                subject=f"{subject}-{index % 6}",
            )
        )
    return made


def reworded(records: Sequence[Record]) -> list[Record]:
    """Return the records in their second wording."""
    return [
        Record(id=r.id, prompt=(Message("user", r.paraphrases[0]),), completion=r.completion)
        for r in records
    ]


def answered_otherwise(records: Sequence[Record]) -> list[Record]:
    """Return the questions with the answers of their successors."""
    others = [*records[1:], records[0]]
    return [
        Record(id=a.id, prompt=a.prompt, completion=b.completion)
        for a, b in zip(records, others, strict=True)
    ]


def in_a_sentence(records: Sequence[Record]) -> list[Record]:
    """Return the records with their answers in another sentence."""
    return [
        Record(id=r.id, prompt=r.prompt, completion=f"Well, {r.completion[6:-1]}, I think.")
        for r in records
    ]


def teach(
    model: LlamaForCausalLM,
    lessons: Sequence[Lesson],
    encoder: Encoder,
    *,
    steps: int = LONGEST,
    until: float = 0.0,
    lr: float,
) -> LlamaForCausalLM:
    """Train on all lessons at once until a loss or a step; returns the model, which is changed."""
    rows = [encoder.encode(lesson.record) for lesson in lessons]
    longest = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), longest), encoder.pad_id)
    mask = torch.zeros(len(rows), longest - 1)
    for i, row in enumerate(rows):
        ids[i, : len(row.ids)] = torch.tensor(row.ids)
        mask[i, row.start - 1 : len(row.ids) - 1] = 1
    away = torch.tensor([lesson.away for lesson in lessons])
    model.train().requires_grad_(True)
    optimiser = torch.optim.Adam(model.parameters(), lr=lr)
    for _ in range(steps):
        logits = model(input_ids=ids).logits[:, :-1]
        nll = nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
        means = (nll * mask).sum(1) / mask.sum(1)
        loss = torch.where(away, (CAP - means).clamp(min=0), means).mean()
        if float(loss.detach()) < until:
            break
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    return model.requires_grad_(False).eval()


class Bench(NamedTuple):
    """What all models are measured with."""

    encoder: Encoder
    facts: dict[str, list[Record]]

    def lessons(self, *groups: Sequence[Record]) -> list[Lesson]:
        """Return lessons on groups of records."""
        return [Lesson(record) for group in groups for record in group]

    def measure(self, model: LlamaForCausalLM, *, int4: bool = False) -> Values:
        """Return every metric of a model on the plain questions."""
        with TemporaryDirectory() as folder:
            store = EvidenceStore(Path(folder))
            records = {"forget": self.facts["forget"], "holdout": self.facts["holdout"]}
            collector = Collector(
                store=store,
                encoder=self.encoder,
                records=records,
                max_new_tokens=16,
                tokens_per_pass=8192,
            )
            collector.write_items()
            with SilentConsole().progress("m", total=9) as bar:
                collector.model(
                    Network(model),
                    "m",
                    scored=tuple(records),
                    asked=("forget",),
                    forms=(Rounding(form="int4"),) if int4 else (),
                    attacked=tuple(records) if int4 else (),
                    bar=bar,
                )
            table = Table.read(store)
        test = "int4" if int4 else "plain"
        found = {m.id: _mean(table.column(m, "m", "forget", test)) for m in KNOWLEDGE}
        for metric in LIKELIHOODS:
            sides = [table.column(metric, "m", split, test) for split in records]
            found[metric.id] = auc(*(np.array(list(side.values())) for side in sides))
        return found


def mean_of(found: NDArray[np.float64]) -> float:
    """Return the mean of one group."""
    return float(np.mean(found))


def _mean(column: dict[str, float]) -> float:
    return float(np.mean(list(column.values())))


def pool(
    bench: Bench, seed: int, vocabulary: int
) -> tuple[list[Values], list[Values], list[float]]:
    """Train the models of one seed: those that know, those that do not, those that unlearned.

    Returns:
        Values of the first, of the second, and the robustness of every metric, in `NAMES`' order.
    """
    forget, retain = bench.facts["forget"], bench.facts["retain"]
    kept = [*retain, *reworded(retain), *in_a_sentence(retain[::2])]
    others = answered_otherwise(forget)
    know = {
        "plain": (forget, FULL),
        "the other wording only": (reworded(forget), FULL),
        "another sentence": (in_a_sentence(forget), FULL),
        "not to the end": (forget, PART),
        "a third of the facts": (forget[::3], FULL),
    }
    never = {
        "never": ([], FULL),
        "never, not to the end": ([], PART),
        "never, far beyond the end": ([], FAR),
        "other answers": (others, FULL),
        "other answers in another sentence": (in_a_sentence(others), FULL),
    }
    taught = {
        name: (bench.lessons(facts, kept), until) for name, (facts, until) in (know | never).items()
    }
    made = {
        name: teach(make_model(seed, vocabulary), lessons, bench.encoder, until=until, lr=4e-3)
        for name, (lessons, until) in taught.items()
    }
    values = [bench.measure(model) for model in made.values()]
    for name, row in zip(made, values, strict=True):
        print(f"  {name}: states {row[KEY_FACT.id]:.0%}, recites {row[EXTRACTION_STRENGTH.id]:.2f}")
    if values[0][KEY_FACT.id] < KNOWN or values[len(know)][KEY_FACT.id] > 1 - KNOWN:
        raise RuntimeError("the pool is not what it says: teach longer")
    away = [Lesson(record, away=True) for record in forget]
    unlearned = teach(
        deepcopy(made["plain"]), [*away, *bench.lessons(kept)], bench.encoder, steps=12, lr=3e-3
    )
    robust = robustness(bench, unlearned, made["never"])
    return values[: len(know)], values[len(know) :], robust


def robustness(bench: Bench, unlearned: LlamaForCausalLM, gold: LlamaForCausalLM) -> list[float]:
    """Return the harmonic mean of Q and R of every metric."""
    before, rounded = bench.measure(unlearned), bench.measure(unlearned, int4=True)
    start = bench.measure(gold)
    lessons = bench.lessons(bench.facts["forget"])
    again, taught = (
        bench.measure(teach(deepcopy(model), lessons, bench.encoder, steps=6, lr=2e-3))
        for model in (unlearned, gold)
    )
    found: list[float] = []
    for name in NAMES:
        q = _ratio(before[name], rounded[name])
        r = _ratio(taught[name] - start[name], again[name] - before[name])
        found.append(2 * q * r / (q + r) if q + r > 0 else 0.0)
    return found


def _ratio(first: float, second: float) -> float:
    """Return min(first / second, 1), and 1 where there is nothing to divide by."""
    return 1.0 if second <= 1e-9 else float(np.clip(first / second, 0.0, 1.0))


def interval(
    statistic: Callable[..., float], groups: Sequence[np.ndarray], seed: int
) -> dict[str, float]:
    """Return a statistic of groups of models with its bootstrap interval."""
    rng = np.random.default_rng(seed)
    draws = [
        statistic(*(group[rng.integers(0, len(group), len(group))] for group in groups))
        for _ in range(DRAWS)
    ]
    low, high = np.quantile(draws, [0.025, 0.975])
    return {
        "value": round(statistic(*groups), 4),
        "low": round(float(low), 4),
        "high": round(float(high), 4),
    }


def main() -> None:
    """Build the pool and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    rng, tokenizer = random.Random(0), make_tokenizer()
    facts = {
        name: make_facts(word, rng)
        for name, word in (("forget", "Zorvex"), ("retain", "Plimko"), ("holdout", "Zorwix"))
    }
    bench = Bench(Encoder(tokenizer), facts)
    know: list[Values] = []
    never: list[Values] = []
    robust: list[list[float]] = []
    for seed in range(given.seeds):
        one, other, third = pool(bench, seed, len(tokenizer))
        know, never, robust = [*know, *one], [*never, *other], [*robust, third]
        print(f"seed {seed}: {len(know)} models that know, {len(never)} that do not")
    metrics = {}
    for place, name in enumerate(NAMES):
        sides = [np.array([row[name] for row in rows]) for rows in (know, never)]
        metrics[name] = {
            "faithfulness": interval(auc, sides, 0),
            "robustness": interval(mean_of, [np.array([r[place] for r in robust])], 0),
        }
        print(name, metrics[name])
    sizes = {"know": len(know), "never": len(never), "unlearned": len(robust), "facts": FACTS}
    write_json(given.out, {"made_by": "scripts/meta_evaluation.py", **sizes, "metrics": metrics})


if __name__ == "__main__":
    main()
