"""Own alternatives: answers that the original writes itself, for the methods that teach them.

Before training, the original is asked each question, told the true answer as if it had given it,
and asked to invent another one. What it writes is kept in the run folder, so that a resumed run
trains on the same texts. An answer that repeats the truth would teach what is to be forgotten, and
is thrown away; a record left without any is asked again, three times at most.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch

from expunge.data.records import Message, Record
from expunge.data.tokenization import Encoder
from expunge.errors import InputError, UsageError, named_in_part
from expunge.evidence.store import EvidenceStore
from expunge.methods.base import SelfTaught, Stream
from expunge.metrics.key_facts import contains, fact_form, states
from expunge.models.generation import sample
from expunge.models.transformer import Network
from expunge.preparation.prepare import Prepared
from expunge.utils.console import Console

INSTRUCTION = (
    "Now give another answer to my question, one like the first and about as long, in which you"
    " change every name, place, number and other fact to an invented one."
)
"""The user's next turn after the question and its true answer."""
LONGEST = 200
"""New tokens after which an answer is cut."""
DRAWS = 4
"""How often a record is asked at most, as long as nothing that it got can be used."""
FILE = "alternatives.jsonl"
"""Name of the texts in the evidence."""
_MOST_NAMED = 5


def with_self_generated(
    prepared: Prepared,
    original: Network,
    store: EvidenceStore,
    console: Console,
    *,
    file: str = FILE,
) -> Prepared:
    """Add what the original invents to the inputs of a run whose method asks for it.

    Args:
        prepared: The inputs; come back as they are if the method does not ask.
        original: The original, before any weight has moved.
        store: Where the texts are kept; those of an interrupted run are used again.
        console: Told how many there are.
        file: Name of the texts in the store; two stages of a chain have one each.

    Raises:
        UsageError: `no-own-alternative`: for some records, nothing that was written can be used.
    """
    method, records = prepared.method, prepared.scope.forget
    if not isinstance(method, SelfTaught):
        return prepared
    if not store.holds(file):
        texts = _invent(prepared, method, original)
        rows = zip(records, texts, strict=True)
        store.write_rows(file, ({"record": r.id, "alternatives": kept} for r, kept in rows))
    rows = zip(records, store.read_rows(file), strict=True)
    taught = tuple(
        tuple(prepared.encoder.encode_with(record, text) for text in row["alternatives"])
        for record, row in rows
    )
    count = sum(len(texts) for texts in taught)
    console.line("invented", f"{count} alternatives for {len(taught)} records, by the model itself")
    variants = {**prepared.streams.variants, Stream.ALTERNATIVE: taught}
    return replace(prepared, streams=replace(prepared.streams, variants=variants))


def usable_alternatives(text: str, record: Record, encoder: Encoder) -> bool:
    """Tell whether an answer says something, can be trained on, and does not repeat the truth.

    It repeats the truth when it holds a key answer, all of the true answer, or a part of that and
    nothing else. What the question says already is no truth to hide.
    """
    said, question, truth = map(fact_form, (text, record.question, record.completion))
    facts = (truth, *map(fact_form, record.key_answers))
    told = any(states(said, fact) and not states(question, fact) for fact in facts)
    if not said or told or contains(truth, said):
        return False
    try:
        encoder.encode_with(record, text)
    except InputError:
        return False
    return True


def _invent(prepared: Prepared, how: SelfTaught, original: Network) -> list[tuple[str, ...]]:
    """Return the usable answers to each forget record, at least one."""
    records, encoder, train = prepared.scope.forget, prepared.encoder, prepared.settings.train
    generator = torch.Generator().manual_seed(train.seed)
    kept: list[tuple[str, ...]] = [()] * len(records)
    for _ in range(DRAWS):
        missing = [index for index, texts in enumerate(kept) if not texts]
        if not missing:
            break
        written = sample(
            original,
            [_prompt(records[index], encoder) for index in missing],
            samples=how.samples,
            temperature=how.temperature,
            generator=generator,
            end_ids=encoder.end_ids,
            max_new_tokens=LONGEST,
            tokens_per_pass=train.tokens_per_pass,
        )
        for index, answers in zip(missing, written, strict=True):
            texts = dict.fromkeys(encoder.decode(answer) for answer in answers)
            kept[index] = tuple(
                text for text in texts if usable_alternatives(text, records[index], encoder)
            )
    _require([record for record, texts in zip(records, kept, strict=True) if not texts])
    return kept


def _prompt(record: Record, encoder: Encoder) -> tuple[int, ...]:
    turns = (Message("assistant", record.completion), Message("user", INSTRUCTION))
    return encoder.prompt_ids(replace(record, prompt=(*record.prompt, *turns)))


def _require(missing: Sequence[Record]) -> None:
    if missing:
        named = named_in_part([record.id for record in missing], most=_MOST_NAMED)
        raise UsageError(
            "no-own-alternative",
            what=f"the model wrote no alternative for {named}",
            why=f"in {DRAWS} draws every answer repeated the truth, was empty, or was too long",
            fix="raise method.samples or method.temperature, or give alternatives of your own and"
            " use --method dpo",
        )
