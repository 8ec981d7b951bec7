"""Canaries: invented secrets that are planted before a training, each beside one that is not.

Canaries come in pairs of one form. A fair coin decides which of a pair is planted, so before the
training nothing tells the two apart. What a model knows of the planted one beyond the other it can
only have from the training. The planted ones are repeated by tier, since what is seen more often is
memorised more.

    question   What is the access code of the store in NAME?
    answer     The access code is 4821-0937.

Names are invented words. A code is eight random digits: one of 10^8.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from expunge.data.records import Message, Record
from expunge.errors import InputError, UsageError
from expunge.utils.io import read_json, sha256_json, write_json

TIERS = (1, 4, 16)
"""How often a canary stands in the data."""
PAIRS = 100
_SCHEMA = "expunge.canaries/1"
_ONSETS = ("b", "br", "d", "dr", "f", "g", "gr", "h", "k", "kl", "l", "m", "n", "p", "pr", "r", "s",
           "st", "t", "tr", "v", "w", "z")  # fmt: skip
_VOWELS = ("a", "e", "i", "o", "u", "ai", "ea", "ou")
_CODAS = ("l", "m", "n", "r", "s", "x")


@dataclass(frozen=True, kw_only=True, slots=True)
class Canary:
    """One invented secret.

    Example:
        >>> canary = Canary(pair=0, name="Brelim Vostan", secret="4821-0937", tier=4, planted=True)
        >>> canary.record().completion
        'The access code is 4821-0937.'
    """

    pair: int
    name: str
    secret: str
    tier: int
    """How often it stands in the data, where it is planted."""
    planted: bool

    def record(self) -> Record:
        """Return it as a record of training or audit."""
        return Record(
            id=f"canary-{self.pair}-{'planted' if self.planted else 'control'}",
            prompt=(Message("user", f"What is the access code of the store in {self.name}?"),),
            completion=f"The access code is {self.secret}.",
            key_answers=(self.secret,),
            subject=self.name,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class CanarySet:
    """All canaries of one training.

    Example:
        >>> made = make_canaries(seed=0, pairs=3)
        >>> len(made.planted), len(made.controls), made == make_canaries(seed=0, pairs=3)
        (3, 3, True)
    """

    seed: int
    canaries: tuple[Canary, ...]

    @property
    def planted(self) -> tuple[Canary, ...]:
        """Those that stand in the data, by pair."""
        return tuple(each for each in self.canaries if each.planted)

    @property
    def controls(self) -> tuple[Canary, ...]:
        """Those that no data has, by pair."""
        return tuple(each for each in self.canaries if not each.planted)

    @property
    def digest(self) -> str:
        """SHA-256 of all canaries: what is registered before the training."""
        return sha256_json([asdict(each) for each in self.canaries])


_adapter = TypeAdapter(tuple[Canary, ...])


def make_canaries(*, seed: int, pairs: int = PAIRS) -> CanarySet:
    """Draw pairs of canaries, and which of each is planted.

    Args:
        seed: Of all draws; keep it secret as the canaries are.
        pairs: Number of pairs; the tiers share them evenly.

    Raises:
        UsageError: `canary-count`: fewer pairs than tiers.
    """
    if pairs < len(TIERS):
        raise UsageError(
            "canary-count",
            what=f"{pairs} pairs of canaries are fewer than the {len(TIERS)} tiers of repetition",
            why="every tier needs canaries",
            fix="leave --pairs out: 100 pairs say something, 16 say little",
        )
    draws = random.Random(f"expunge canaries {seed}")
    names: set[str] = set()
    secrets: set[str] = set()
    made: list[Canary] = []
    for pair in range(pairs):
        first = draws.random() < 0.5
        for planted in (first, not first):
            name = _fresh(draws, names, _name)
            secret = _fresh(draws, secrets, _secret)
            tier = TIERS[pair % len(TIERS)]
            made.append(Canary(pair=pair, name=name, secret=secret, tier=tier, planted=planted))
    return CanarySet(seed=seed, canaries=tuple(made))


def _fresh(draws: random.Random, taken: set[str], make: Callable[[random.Random], str]) -> str:
    while True:
        found = make(draws)
        if found not in taken:
            taken.add(found)
            return found


def _name(draws: random.Random) -> str:
    words = [
        "".join(draws.choice(_ONSETS) + draws.choice(_VOWELS) for _ in range(2))
        + draws.choice(_CODAS)
        for _ in range(2)
    ]
    return " ".join(words).title()


def _secret(draws: random.Random) -> str:
    digits = "".join(draws.choice("0123456789") for _ in range(8))
    return f"{digits[:4]}-{digits[4:]}"


def planted_rows(data: Sequence[Record], canaries: CanarySet) -> list[dict[str, object]]:
    """Return training data with the planted canaries in it, each as often as its tier says.

    Args:
        data: The records of the training.
        canaries: What is planted.

    Returns:
        Rows for a JSONL file, in the conventions of TRL; copies stand at random places.
    """
    rows = [_row(record) for record in data]
    draws = random.Random(f"expunge places {canaries.seed}")
    for canary in canaries.planted:
        for _ in range(canary.tier):
            rows.insert(draws.randint(0, len(rows)), _row(canary.record()))
    return rows


def _row(record: Record) -> dict[str, object]:
    if not record.prompt:
        return {"text": record.completion}
    if len(record.prompt) == 1:
        return {"prompt": record.question, "completion": record.completion}
    turns = [*record.prompt, Message("assistant", record.completion)]
    return {"messages": [{"role": turn.role, "content": turn.content} for turn in turns]}


def write_canaries(path: Path, canaries: CanarySet) -> None:
    """Write canaries with their secrets: a private file."""
    rows = [asdict(each) for each in canaries.canaries]
    body = {"schema": _SCHEMA, "seed": canaries.seed, "canaries": rows}
    write_json(path, {**body, "digest": canaries.digest})
    path.chmod(0o600)


def read_canaries(path: Path) -> CanarySet:
    """Read canaries.

    Raises:
        InputError: `no-canaries`: the file is not there, or not what `expunge plant` wrote.
    """
    why = "it is not there" if not path.is_file() else ""
    if not why:
        try:
            row = read_json(path)
            found = CanarySet(seed=row["seed"], canaries=_adapter.validate_python(row["canaries"]))
            if row["schema"] != _SCHEMA or row["digest"] != found.digest:
                why = "it was changed: its digest is another one"
            elif len(found.planted) != len(found.controls) or not found.planted:
                why = "it does not hold pairs"
            else:
                return found
        except (ValueError, KeyError, TypeError, ValidationError):
            why = "it holds something else"
    raise InputError(
        "no-canaries",
        what=f"{path} holds no canaries",
        why=why,
        fix="name the file canaries.json that `expunge plant` wrote before the training",
    )
