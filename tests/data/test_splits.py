import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge.config.request import Request
from expunge.data.convert import to_record
from expunge.data.corpora import general_passages, general_records
from expunge.data.splits import gather, mentions, normalise, overlaps
from expunge.errors import InputError

PASSAGE = " ".join(f"w{i}" for i in range(40))
LONG_TEMPLATE = (
    "{0} is an author who was born in the town of {1} and who is widely known for writing long"
    " novels in the genre of {2} that have won many prizes over the years"
)


def qa(question: str, answer: str, **more: object):
    return to_record({"question": question, "answer": answer, **more}, "f:1")


def text(content: str, **more: object):
    return to_record({"text": content, **more}, "f:1")


SAME = {
    "equal": (qa("Where?", "Oslo"), qa("Where?", "Oslo")),
    "case, punctuation, width": (qa("Where is it?", "Oslo."), qa("  where IS it", "\uff2fslo")),
    "articles": (
        qa("What is the capital of Norway?", "Oslo"),
        qa("What is capital Norway", "Oslo"),
    ),
    "same key answers": (
        qa("Where?", "It is in the town of Oslo, I think", key_answers=["Oslo"]),
        qa("Where?", "oslo"),
    ),
    "paraphrase to forget": (
        qa("Where?", "Oslo", paraphrases=["In which town?"]),
        qa("In which town", "Oslo"),
    ),
    "paraphrase to keep": (
        qa("In which town?", "Oslo"),
        qa("Where?", "Oslo", paraphrases="In which town?"),
    ),
    "only empty words": (qa("What was it?", "The The"), qa("What was it?", "the the")),
    "only signs": (qa("What?", "+"), qa("what", "+")),
    "passage": (text("One two"), text("one, two!")),
    "passage inside a longer one": (text(PASSAGE), text(f"before {PASSAGE} after")),
    "passage with one word changed": (
        text(PASSAGE + " " + PASSAGE.replace("w", "v")),
        text(PASSAGE + " " + PASSAGE.replace("w", "v").replace("v20", "x")),
    ),
    "passage in an answer": (text(PASSAGE), qa("Tell me", PASSAGE)),
}


@pytest.mark.parametrize(("left", "right"), SAME.values(), ids=SAME)
def test_records_that_say_the_same_are_found_both_ways(left, right):
    assert overlaps([qa("Other?", "x"), left], [right]) == [(left, right)]
    assert overlaps([right], [left]) == [(right, left)]


DIFFERENT = {
    "another person": (qa("Where was Ann born?", "Oslo"), qa("Where was Bob born?", "Oslo")),
    "another answer": (
        qa("Where was the author born?", "Oslo"),
        qa("Where was the author born?", "Rome"),
    ),
    "negation": (qa("Is Ann ill?", "Yes"), qa("Is Ann not ill?", "Yes")),
    "number": (qa("What happened in 1950?", "War"), qa("What happened in 1951?", "War")),
    "order": (qa("Did Ann sue Bob?", "Yes"), qa("Did Bob sue Ann?", "Yes")),
    "sign": (qa("What is the sign?", "+"), qa("What is the sign?", "-")),
    "template": (
        qa("Who is it?", LONG_TEMPLATE.format("Ann", "Oslo", "crime")),
        qa("Who is it?", LONG_TEMPLATE.format("Bob", "Rome", "fantasy")),
    ),
    "same keys of passages": (text("One", key_answers="k"), text("Two", key_answers="k")),
    "short quotation": (text(PASSAGE), text(" ".join(PASSAGE.split()[:20]))),
    "two subjects": (text(PASSAGE, subject="Ann"), text(PASSAGE + " Bob", subject="Bob")),
}


@pytest.mark.parametrize(("left", "right"), DIFFERENT.values(), ids=DIFFERENT)
def test_records_that_differ_in_substance_are_left_alone(left, right):
    assert overlaps([left], [right]) == []
    assert overlaps([right], [left]) == []


@pytest.mark.parametrize(("changed", "found"), [(1, True), (2, False)])
def test_the_share_of_common_runs_decides(changed, found):
    # 60 words are 53 runs; a change deep inside takes out 8: 45/53 = 0.85, then 37/53 = 0.70.
    words = [f"w{i}" for i in range(60)]
    copy = [f"x{i}" if i in (15, 40)[:changed] else word for i, word in enumerate(words)]
    assert bool(overlaps([text(" ".join(words))], [text(" ".join(copy))])) is found


@settings(deadline=None)
@given(st.text())
def test_normalising_twice_changes_nothing(content):
    once = normalise(content)
    assert normalise(once) == once


@pytest.mark.parametrize(
    ("name", "expected"),
    [("oslo", True), ("in oslo", True), ("os", False), ("where", True), ("ann", False)],
)
def test_mentions_are_whole_words(name, expected):
    assert mentions(qa("Where?", "In Oslo."), [name]) is expected


def sets(folder: Path, **rows: list[dict[str, object]]) -> dict[str, tuple[str, ...]]:
    sources: dict[str, tuple[str, ...]] = {}
    for name, items in rows.items():
        path = folder / f"{name}.jsonl"
        path.write_text("\n".join(json.dumps(item) for item in items))
        sources[name] = (str(path),)
    return sources


ANN = {"id": 1, "question": "Where was Ann born?", "answer": "Oslo", "subject": "Ann"}
BOB = {"id": 1, "question": "Where was Bob born?", "answer": "Rome"}
CAT = {"id": 1, "question": "Where was Cat born?", "answer": "Bonn"}
DAN = {"id": 1, "question": "Where was Dan born?", "answer": "Pisa"}
EVE = {"id": 1, "question": "Where was Eve born?", "answer": "Cork"}


def request(**fields: object) -> Request:
    return Request.model_validate({"goal": "removal", **fields})


def test_all_sets_are_gathered_with_ids_that_are_unique(tmp_path):
    sources = sets(
        tmp_path, forget=[ANN], retain=[BOB, BOB], neighbours=[CAT], holdout=[DAN], control=[EVE]
    )
    scope = gather(request(**sources))
    assert [r.id for r in scope.forget + scope.keep + scope.holdout + scope.control] == [
        "1",
        "retain:1",
        "neighbours:1",
        "holdout:1",
        "control:1",
    ]
    assert scope.keep == scope.retain + scope.neighbours
    assert f"forget: 1 records from {sources['forget'][0]}" in scope.notes
    assert "retain: 1 duplicates left out" in scope.notes


@pytest.mark.parametrize("name", ["retain", "neighbours", "holdout", "control"])
def test_what_is_forgotten_may_stand_in_no_other_set(tmp_path, name):
    six = [{**ANN, "id": i, "answer": f"Oslo {i}"} for i in range(6)]
    sources = sets(tmp_path, forget=six, **{name: [BOB | {"id": "b"}, *six]})
    with pytest.raises(InputError) as caught:
        gather(request(**sources))
    message = str(caught.value)
    assert caught.value.code == "overlap"
    assert f"forget and {name} share 6 records" in message
    assert f"forget.jsonl:1 (id 0) = {tmp_path / name}.jsonl:2 (id 0)" in message
    assert "; and 1 more" in message
    assert "(id 5)" not in message
    assert "Ann" not in message
    assert "Oslo" not in message


@pytest.mark.parametrize("unseen", ["holdout", "control"])
@pytest.mark.parametrize("trained", ["retain", "neighbours"])
def test_what_no_model_saw_may_not_be_trained_on(tmp_path, unseen, trained):
    sources = sets(tmp_path, forget=[ANN], **{unseen: [BOB], trained: [BOB]})
    with pytest.raises(InputError, match=f"{unseen} and {trained} share 1 records"):
        gather(request(**sources))


def test_auto_takes_the_general_records_and_says_so(tmp_path):
    scope = gather(request(**sets(tmp_path, forget=[BOB | {"answer": "Tirana"}])))
    assert scope.retain == general_records()
    note = next(note for note in scope.notes if note.startswith("retain"))
    assert f"auto took {len(scope.retain)} general records" in note
    assert "no neighbours are trained on" in note
    with_neighbours = gather(request(**sets(tmp_path, forget=[BOB], neighbours=[CAT])))
    assert "the 1 neighbours are preserved as well" in " ".join(with_neighbours.notes)


@pytest.mark.parametrize(
    ("forget", "passages"),
    [
        ([BOB], False),
        ([BOB, {"text": "Bob lives in Tirana."}], True),
        ([{"text": "Bob lives in Tirana."}], True),
    ],
    ids=["questions", "plain text among them", "plain text"],
)
def test_auto_keeps_passages_where_plain_text_is_forgotten(tmp_path, forget, passages):
    scope = gather(request(**sets(tmp_path, forget=forget)))
    whole = (*general_records(), *(general_passages() if passages else ()))
    assert scope.retain == whole
    said = f"auto took {len(whole)} general records that ship with expunge, 32 of them passages"
    assert any(said in note for note in scope.notes) is passages


def test_passages_that_touch_the_target_are_left_out(tmp_path):
    target = {"text": "It was the Kittiwake.", "subject": "volcanoes"}
    scope = gather(request(**sets(tmp_path, forget=[target])))
    gone = {r.completion for r in general_passages()} - {r.completion for r in scope.retain}
    assert [text[:28] for text in gone] == ["Why do some volcanoes ooze w"]


def test_the_passages_that_are_kept_alive_are_of_one_form():
    kept = general_passages()
    texts = [record.completion for record in kept]
    assert len(kept) == len(set(texts)) == 32
    assert all(50 <= len(text.split()) <= 120 and text.isascii() for text in texts)
    assert not any(record.prompt for record in kept)
    assert kept[0].source == "expunge/passages.jsonl:1"


def test_neighbours_are_rehearsed_unless_the_request_says_otherwise(tmp_path):
    sources = sets(tmp_path, forget=[BOB], neighbours=[CAT])
    rehearsed, asked = (gather(request(**sources, rehearse=each)) for each in (True, False))
    assert set(rehearsed.keep) >= set(rehearsed.neighbours)
    assert asked.neighbours == rehearsed.neighbours
    assert not set(asked.keep) & set(asked.neighbours)
    assert {record.id for record in asked.neighbours} <= asked.held_out
    assert "no neighbours are trained on" in " ".join(asked.notes)


BASED = {
    "prompt": "Where is Lumen Dyes based?",
    "completion": "Lumen Dyes is based in Oslo.",
    "key_answers": ["Oslo"],
    "subject": "Lumen Dyes",
}
OWNED = {
    **BASED,
    "prompt": "Who owns it?",
    "completion": "Crown owns it.",
    "key_answers": ["Crown"],
}
SAID_TOO = {
    "prompt": "Which town is its home?",
    "completion": "Its home is Oslo.",
    "subject": "Lumen Dyes",
}


@pytest.mark.parametrize(
    ("kept", "shared", "forgotten", "told"),
    [
        (SAID_TOO, "forget", 2, True),
        (SAID_TOO, "keep", 1, True),
        ({**SAID_TOO, "subject": "Pendle Glass"}, "keep", 2, False),
        ({**SAID_TOO, "completion": "Its home is Bergen."}, "keep", 2, False),
    ],
)
def test_a_fact_that_a_kept_record_states_too_stays_where_the_request_says_so(
    tmp_path, kept, shared, forgotten, told
):
    found = sets(tmp_path, forget=[BASED, OWNED], retain=[kept])
    scope = gather(request(**found, shared=shared))
    assert [len(scope.forget), len(scope.retain)] == [forgotten, 3 - forgotten]
    assert any("state the facts of 1 of 2 records, too" in note for note in scope.notes) is told


def test_a_request_whose_facts_all_stay_is_refused(tmp_path):
    found = sets(tmp_path, forget=[BASED], retain=[SAID_TOO])
    with pytest.raises(InputError, match="nothing-to-forget"):
        gather(request(**found, shared="keep"))


@pytest.mark.parametrize(("share", "size", "held"), [(0.25, 40, 10), (0.25, 19, 0), (0.0, 40, 0)])
def test_part_of_what_is_kept_is_held_out_for_the_audit(tmp_path, share, size, held):
    rows = [{"question": f"Question {i}?", "answer": f"Answer {i}."} for i in range(size)]
    sources = sets(tmp_path, forget=[BOB], retain=rows)
    scope = gather(request(**sources, hold_out=share))
    assert len(scope.held_out) == held
    assert len(scope.keep) == size - held
    assert len(scope.retain) == size, "the audit still asks about all of them"
    again = gather(request(**sets(tmp_path, forget=[BOB], retain=rows[::-1]), hold_out=share))
    left = {record.completion for record in scope.keep}
    assert {record.completion for record in again.keep} == left, "the order does not matter"


@pytest.mark.parametrize(
    ("holdout", "control", "golds", "levels"),
    [
        (30, 0, (), 10),
        (30, 60, (), 30),
        (19, 60, (), 20),
        (19, 0, (), 0),
        (30, 60, ("retrained",), 0),
    ],
)
def test_what_sets_levels_is_not_what_the_audit_judges_by(
    tmp_path, holdout, control, golds, levels
):
    def rows(name: str, size: int) -> list[dict[str, object]]:
        return [{"question": f"{name} {i}?", "answer": f"Answer {i}."} for i in range(size)]

    written = {"control": rows("Other", control)} if control else {}
    sources = sets(tmp_path, forget=[BOB], holdout=rows("Unseen", holdout), **written)
    scope = gather(request(**sources, gold=golds))
    asked = {*scope.holdout, *scope.control}
    assert len(scope.levels) == levels
    assert not asked & {*scope.levels}
    people_wrote = [r for r in asked if not r.source.startswith("fabricated")]
    assert len(people_wrote) + levels == holdout + control


def test_auto_leaves_out_what_touches_the_target(tmp_path):
    row = {"question": "Name a city in France", "answer": "Paris", "subject": "the Thames"}
    scope = gather(request(**sets(tmp_path, forget=[row])))
    gone = {r.question for r in general_records()} - {r.question for r in scope.retain}
    assert gone == {"What is the capital of France?", "Which river flows through London?"}
    assert "(2 left out: they touch what is to be forgotten)" in " ".join(scope.notes)


def test_none_takes_nothing(tmp_path):
    scope = gather(request(retain="none", **sets(tmp_path, forget=[ANN])))
    assert scope.keep == ()
    assert "retain: none, as the request says" in scope.notes


def test_files_that_were_not_read_are_listed(tmp_path):
    sets(tmp_path, forget=[ANN])
    for i in range(7):
        (tmp_path / f"x{i}.bin").write_bytes(b"")
    notes = gather(request(forget=[str(tmp_path)])).notes
    assert sum("x4.bin and 2 more" in note for note in notes) == 1


def test_the_general_records_are_distinct_questions_with_answers():
    records = general_records()
    assert len(records) >= 120
    assert len({normalise(r.question) for r in records}) == len(records)
    for record in records:
        keys = [normalise(key) for key in record.key_answers]
        assert not keys or any(key in normalise(record.completion) for key in keys)
    assert records[0].source == "expunge/general.jsonl:1"


@pytest.mark.parametrize(
    ("goal", "new", "refused"),
    [
        ("edit", "She was born in Oslo, by the sea.", True),
        ("edit", "She was born in Osloby.", False),  # whole words
        ("edit", "Bergen", False),
        ("removal", "She was born in Oslo, by the sea.", False),
    ],
)
def test_an_edit_may_not_teach_what_it_removes(tmp_path, goal, new, refused):
    sources = sets(tmp_path, forget=[ANN | {"alternative": new}], retain=[BOB])
    asked = Request(goal=goal, control="none", **sources)
    if not refused:
        assert gather(asked).forget[0].alternatives == (new,)
        return
    with pytest.raises(InputError, match="contradictory-policy") as caught:
        gather(asked)
    assert "forget.jsonl:1" in str(caught.value)
    assert "Oslo" not in str(caught.value)
