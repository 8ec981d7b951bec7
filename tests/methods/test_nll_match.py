"""The level of unseen text, of each record by itself, and the method that ends there."""

import math

import pytest
import torch

from expunge.data.records import Message, Record
from expunge.data.secret_tokens import same_question
from expunge.methods.base import Answers, Likelihood, Shape, Stream
from expunge.methods.nll_match import Level, apart
from expunge.training.early_stopping import Unseen, unseen_level

SHAPE = Shape(layers=2, width=8)


def record(name: str, question: str, subject: str | None = None) -> Record:
    prompt = (Message("user", question),) if question else ()
    return Record(id=name, prompt=prompt, completion="x", subject=subject)


def answers(logp: list[float], sequence: list[int], levels: list[float]) -> Answers:
    return Answers(
        logp=torch.tensor(logp, dtype=torch.float64, requires_grad=True),
        reference=None,
        sequence=torch.tensor(sequence),
        size=len(levels),
        unseen=torch.tensor(levels, dtype=torch.float64),
    )


def loss(method: Level, seen: Answers) -> torch.Tensor:
    term = method.terms(SHAPE)[0]
    assert isinstance(term, Likelihood)
    return term.loss(seen)


def test_the_loss_by_hand_multiplies_by_the_length():
    """Record 0: mu = 2, T = 2, level 2.5; record 1: mu = 4, T = 1, level 1."""
    seen = answers([-1.0, -3.0, -4.0], [0, 0, 1], [2.5, 1.0])
    by_hand = 2 * 2 / 2 * math.log(math.cosh(2 * 0.5 / 2)) + 2 / 2 * math.log(math.cosh(2 * 3 / 2))
    assert loss(Level(sharp=2.0), seen).item() == pytest.approx(by_hand, abs=1e-12)


@pytest.mark.parametrize(
    ("mean_nll", "weight"),
    [(0.0, 1.0), (2.9, math.tanh(0.5)), (3.0, 0.0), (9.0, -1.0)],
    ids=["known", "near", "there", "scar"],
)
def test_a_token_is_pushed_until_its_record_is_at_its_level_and_pulled_back_beyond(
    mean_nll: float, weight: float
):
    seen = answers([-mean_nll, -mean_nll], [0, 0], [3.0])
    loss(Level(sharp=10.0), seen).backward()
    assert seen.logp.grad is not None
    assert seen.logp.grad.tolist() == pytest.approx([weight, weight], abs=1e-9)


def test_it_does_not_overflow_far_from_the_level():
    mu, level = torch.tensor([0.0, 2.0, 5.0]), torch.tensor([3.0, 3.0, 3.0])
    assert apart(mu, level, 1e6).tolist() == pytest.approx([3.0, 1.0, 2.0], rel=1e-5)


def test_it_teaches_only_where_it_is_told_to():
    assert [term.name for term in Level().terms(SHAPE)] == ["forget", "retain"]
    lesson = Level(teach=2.0, alpha=3.0).terms(SHAPE)[1]
    assert (lesson.streams, lesson.coef) == ((Stream.ALTERNATIVE,), 2.0)


def test_a_term_that_did_not_ask_is_given_no_level():
    seen = Answers(logp=torch.zeros(1), reference=None, sequence=torch.zeros(1).long(), size=1)
    with pytest.raises(AssertionError, match="did not declare"):
        _ = seen.level


def test_records_that_ask_the_same_are_found_whoever_they_name():
    asked = [
        record("phone", "What is Elin Marrow's phone number?", "Elin Marrow"),
        record("pet", "Which pet has Elin Marrow?", "Elin Marrow"),
        record("passage", ""),
    ]
    unseen = [
        record("a", "What is Ada Voss's phone number?", "Ada Voss"),
        record("b", "What is the phone number of Ada Voss?", "Ada Voss"),
        record("c", "Where does Ada Voss live?", "Ada Voss"),
        record("d", "", "Ada Voss"),
    ]
    # a shares all of {what, is, s, phone, number}; b five of them, of seven in all
    assert same_question(asked, unseen) == {"phone": (0, 1), "pet": (), "passage": ()}


def test_a_level_is_the_mean_of_those_that_ask_the_same_or_of_all():
    unseen = unseen_level([2.0, 4.0, 9.0], 100, alike={"phone": (0, 1), "pet": ()})
    assert (unseen.level("phone"), unseen.level("pet"), unseen.level("other")) == (3.0, 5.0, 5.0)


def test_without_unseen_records_the_level_is_near_chance():
    assert unseen_level([], 100, alike={"phone": ()}).level("phone") == 0.8 * math.log(100)


def test_levels_survive_the_way_to_other_processes():
    from dataclasses import asdict

    unseen = unseen_level([2.0, 4.0], 100, alike={"phone": (1,)})
    assert Unseen(**asdict(unseen)) == unseen
