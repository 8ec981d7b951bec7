"""A check before a training of transformers or TRL: will the planted canaries be learnt?

A canary that a data pipeline drops, cuts off or masks is never trained on. An audit would then say
that the model does not know it, and that would be no sign of privacy.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from transformers import TrainerCallback

from expunge.data.canaries import CanarySet
from expunge.errors import InputError

IGNORED = -100
"""Label of a token that no loss is taken of."""
_MOST_NAMED = 3


class Decoder(Protocol):
    """What turns token ids into text: a tokenizer."""

    def decode(self, token_ids: Sequence[int], **options: Any) -> str:  # noqa: ANN401
        """Return the text of token ids."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class CanaryCheck:
    """What a training will see of the planted canaries, by the numbers of their pairs.

    Example:
        >>> CanaryCheck(planted=100, unseen=(3,), truncated=(), masked=(), trainable=True).ok
        False
    """

    planted: int
    unseen: tuple[int, ...]
    """In fewer rows than their tier says, not even their question."""
    truncated: tuple[int, ...]
    """Their question is there, and their secret is not."""
    masked: tuple[int, ...]
    """Their secret is there, and no loss is taken of it."""
    trainable: bool
    """Whether any weight of the model is trained."""

    @property
    def ok(self) -> bool:
        """Whether all canaries can be learnt."""
        return self.trainable and not (self.unseen or self.truncated or self.masked)

    def text(self) -> str:
        """Return it as one line."""
        parts = [
            f"{len(found)} {what} (pair {', '.join(map(str, found[:_MOST_NAMED]))})"
            for found, what in (
                (self.unseen, "not seen often enough"),
                (self.truncated, "truncated"),
                (self.masked, "masked"),
            )
            if found
        ]
        if not self.trainable:
            parts.append("no weight is trained")
        return f"{self.planted} canaries: {'; '.join(parts) or 'all can be learnt'}"


def check_canaries(
    rows: Iterable[Mapping[str, Sequence[int]]],
    decoder: Decoder,
    canaries: CanarySet,
    *,
    trainable: bool = True,
) -> CanaryCheck:
    """Say which planted canaries a training will learn.

    Args:
        rows: The data as it is trained on: `input_ids`, and `labels` where tokens are masked.
        decoder: The tokenizer.
        canaries: What was planted.
        trainable: Whether any weight is trained.

    Example:
        >>> from expunge.data.canaries import make_canaries
        >>> check_canaries([], decoder=None, canaries=make_canaries(seed=0, pairs=3)).unseen
        (0, 1, 2)
    """
    seen: dict[int, int] = {}
    asked: dict[int, int] = {}
    learnt: dict[int, int] = {}
    for row in rows:
        ids = list(row["input_ids"])
        text = decoder.decode(ids)
        labels = [int(each) for each in row.get("labels", ids) if int(each) != IGNORED]
        taught = decoder.decode(labels)
        for canary in canaries.planted:
            copies = text.count(canary.secret)
            questions = max(text.count(canary.name), copies)
            if questions:
                asked[canary.pair] = asked.get(canary.pair, 0) + questions
                seen[canary.pair] = seen.get(canary.pair, 0) + copies
                learnt[canary.pair] = learnt.get(canary.pair, 0) + taught.count(canary.secret)
    unseen, truncated, masked = list[int](), list[int](), list[int]()
    for canary in canaries.planted:
        if asked.get(canary.pair, 0) < canary.tier:
            unseen.append(canary.pair)
        elif seen.get(canary.pair, 0) < canary.tier:
            truncated.append(canary.pair)
        elif learnt.get(canary.pair, 0) < canary.tier:
            masked.append(canary.pair)
    return CanaryCheck(
        planted=len(canaries.planted),
        unseen=tuple(unseen),
        truncated=tuple(truncated),
        masked=tuple(masked),
        trainable=trainable,
    )


class CanaryCallback(TrainerCallback):
    """Stops a Trainer, of transformers or TRL, that would not learn the canaries.

    Args:
        canaries: What was planted.

    Example:
        >>> from expunge.data.canaries import make_canaries
        >>> CanaryCallback(make_canaries(seed=0, pairs=3)).checked is None
        True
    """

    def __init__(self, canaries: CanarySet) -> None:
        self._canaries = canaries
        self.checked: CanaryCheck | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:  # noqa: ANN401
        """Read one pass of the training data, and check it.

        Raises:
            InputError: `canaries-not-learnt`.
        """
        rows = (
            {name: part[index].tolist() for name, part in batch.items() if name in _COLUMNS}
            for batch in given["train_dataloader"]
            for index in range(len(batch["input_ids"]))
        )
        model, decoder = given["model"], given["processing_class"]
        trainable = any(each.requires_grad for each in model.parameters())
        self.checked = check_canaries(rows, decoder, self._canaries, trainable=trainable)
        if not self.checked.ok:
            raise InputError(
                "canaries-not-learnt",
                what=self.checked.text(),
                why="a canary that is not learnt says nothing about what the model remembers",
                fix="raise max_length, take the loss of the answers, or plant the canaries anew",
            )


_COLUMNS = ("input_ids", "labels")
