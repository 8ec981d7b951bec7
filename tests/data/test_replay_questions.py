"""Replay questions: what else can be asked of kept subjects, and what must not be taught of it."""

import pytest

from expunge.data.records import Message, Record
from expunge.data.replay_questions import ForgottenWords, asked_of_namesakes, replay_questions


def record(question: str, answer: str = "Yes.", subject: str | None = None, **more) -> Record:
    prompt = (Message("user", question),) if question else ()
    return Record(id=question, prompt=prompt, completion=answer, subject=subject, **more)


FORGET = (record("Where does Elin live?", "In Bergen, under 7 Quay Lane.", "Elin"),)
KEPT = (
    record("Where does Ada live?", "In Lisbon.", "Ada"),
    record("Who taught Ada?", "Olga did.", "Ada"),
    record("What does Bo's aunt sell to Boris?", "Tar, at 9 Quay Lane.", "Bo"),
)


@pytest.mark.parametrize(
    ("forget", "kept", "asked"),
    [
        (
            FORGET,
            KEPT,
            {
                "Who taught Bo?",
                "Where does Bo live?",
                "What does Ada's aunt sell to Boris?",  # the name alone, not what begins with it
            },
        ),
        (FORGET, KEPT[:2], set()),  # nobody else stays
        (FORGET, (), set()),
        (FORGET, (record("", "Bo sells tar.", "Bo"), *KEPT[:1]), {"Where does Bo live?"}),
        (  # a kind of thing goes with its name, where it always stands before it
            (),
            (
                record("Who owns the cutter Ada?", subject="Ada"),
                record("Where is the cutter Ada?", subject="Ada"),
                record("When was the cutter Ada built?", subject="Ada"),
                record("Where is the tug Cy?", subject="Cy"),
                record("Who owns the tug Cy?", subject="Cy"),
                record("Is the tug Cy tarred?", subject="Cy"),
                record("Where is Bo?", subject="Bo"),
            ),
            {
                "When was the tug Cy built?",
                "Is the cutter Ada tarred?",
                "Where is Ada?",
                "Where is Cy?",
                *(f"{ask} Bo?" for ask in ("Who owns the cutter", "Where is the cutter")),
                *(f"{ask} Bo?" for ask in ("Who owns the tug", "Where is the tug")),
                "When was the cutter Bo built?",
                "Is the tug Bo tarred?",
            },
        ),
        (  # of Bo something must go: he is asked nothing
            (record("Is Bo rich?", "No.", "Bo"),),
            KEPT[1:],
            {"Is Ada rich?", "What does Ada's aunt sell to Boris?"},
        ),
    ],
)
def test_every_question_is_asked_of_every_other_subject_that_stays(forget, kept, asked):
    found = replay_questions(forget, kept, most=50, seed=0)
    assert {each.question for each in found} == asked
    assert len({each.id for each in found}) == len(found)
    assert not any(each.completion for each in found)


def test_people_who_share_a_word_of_the_name_are_asked_what_must_go():
    """One of them stays and is asked by `replay_questions`; a name of one word has no namesakes."""
    forget = (record("Where does Elin Marrow live?", subject="Elin Marrow"),)
    kept = (
        record("Who taught Ada Hale?", subject="Ada Hale"),
        record("Who taught Bo Marrow?", subject="Bo Marrow"),
        record("Who taught Cy?", subject="Cy"),
    )
    found = asked_of_namesakes(forget, kept, most=9, seed=0)
    assert {each.question for each in found} == {
        "Where does Ada Marrow live?",
        "Where does Elin Hale live?",
    }
    assert len({each.id for each in found}) == len(found)
    assert len(asked_of_namesakes(forget, kept, most=1, seed=0)) == 1


def test_the_seed_draws_among_too_many():
    drawn = [replay_questions(FORGET, KEPT, most=2, seed=seed) for seed in (1, 1, 2, 3)]
    assert [len(each) for each in drawn] == [2] * 4
    assert drawn[0] == drawn[1]
    assert len({tuple(each.question for each in some) for some in drawn}) > 1


@pytest.mark.parametrize(
    ("answer", "told", "told_if_sure"),
    [
        ("He lives in BERGEN.", True, False),  # a rare word, one of two that tell
        ("At 7, by the park.", True, True),  # a number under the same question
        ("In Bergen, at 7.", True, True),  # all that tells
        ("In Bergen, at 7 Korvald Road.", True, False),  # and a name of its own
        ("In Lisbon, at 9 Quay Lane.", False, False),  # kept records say it, too
        ("In Oslo.", False, False),
        ("It stands under it.", False, False),  # words of any sentence
        ("By Olsen and Brothers.", False, False),  # one of three common words: a form
        ("The brothers built it.", True, False),  # two of three
        ("Built by Dahl Brothers in spring.", True, False),  # the form with other values
        ("Holm Brothers built it.", True, True),  # three of three
        ("She sold boots.", True, True),  # a key answer
        ("In 1984.", False, False),  # a year of another question
        ("In 1984, for Falk.", True, True),  # with another word of the same record
        ("Under 31984.", True, True),  # no year
        ("A post, half of it.", True, False),  # two common words that no kept answer has
        ("A lamp by the door.", True, False),  # the same answer, in words that stay
        ("", False, False),
    ],
)
def test_what_might_state_a_fact_of_the_forget_set_is_told(answer, told, told_if_sure):
    more = (
        record("Who made the ship?", "It was built by Holm Brothers in winter."),
        record("What did she sell?", "Soft boots of painted leather.", key_answers=("boots",)),
        record("What is in the house?", "A lamp by the door."),
        record("What does she have?", "Half a post with a small office."),
        record("Since when has anybody known?", "Since 1984, of Falk's ship 31984."),
    )
    asked = record("Where does Bo live?", subject="Bo")
    kept = (*KEPT, record("What is there?", "A lamp."), record("Where is it?", "By the door."))
    words = ForgottenWords.of((*FORGET, *more), kept)
    assert words.told_in(asked, answer) is told
    assert words.told_in(asked, answer, sure=True) is told_if_sure
    own = "Korvald" in answer or "Dahl" in answer  # in no record: taught, even of a namesake
    assert words.told_in(asked, answer, sure=True, taught=False) is (told and not own)
