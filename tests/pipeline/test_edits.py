"""Edits as a user meets them: records, plans, refusals, a whole run."""

import json
from dataclasses import replace

import pytest

import expunge
import tiny
from expunge.config.request import Request
from expunge.data.records import Message, Record
from expunge.data.tokenization import Encoder
from expunge.errors import UsageError
from expunge.methods.base import Stream
from expunge.preparation.variants import MANY, variants


def question(text: str, subject: str | None) -> Record:
    prompt = (Message("user", "Hello."), Message("assistant", "Hi."), Message("user", text))
    return Record(id="q", prompt=prompt, completion="an answer", subject=subject)


@pytest.mark.parametrize("template", [None, tiny.CHATML])
@pytest.mark.parametrize(
    ("subject", "ends"),
    [("Zorvex", "Was Zorvex or Zorvex"), (None, "?"), ("Quandel", "?"), ("Was", "Was")],
)
def test_the_focus_is_the_last_token_of_the_subject_or_of_the_question(template, subject, ends):
    tokenizer = tiny.tokenizer(template=template)
    encoder = Encoder(tokenizer)
    encoded = encoder.focused(question("Was Zorvex or Zorvex first?", subject))
    assert encoded.focus is not None
    assert tokenizer.decode(encoded.ids[: encoded.focus + 1]).endswith(ends)
    assert encoded.focus < encoded.start
    assert replace(encoded, focus=None) == encoder.encode(
        question("Was Zorvex or Zorvex first?", subject)
    )


def test_a_passage_has_no_focus():
    passage = Record(id="p", prompt=(), completion="Just some text.", subject="text")
    assert Encoder(tiny.tokenizer()).focused(passage).focus is None


def test_unanswerable_questions_are_seeded_and_end_like_the_forget_prompts():
    encoder = Encoder(tiny.tokenizer(), max_length=2048)
    records = [replace(question("Who?", None), id=name) for name in "ab"]
    request = Request(goal="suppression", forget=("x",))

    def made(seed):
        wanted = {Stream.UNANSWERABLE}
        return variants(
            records, [], request, encoder, encode=encoder.encode, streams=wanted, seed=seed
        )

    found = made(0)[Stream.UNANSWERABLE]
    assert found == made(0)[Stream.UNANSWERABLE] != made(1)[Stream.UNANSWERABLE]
    assert [len(each) for each in found] == [MANY, MANY]
    assert len(set(found[0])) == MANY
    last = encoder.encode(records[0])
    for each in (record for several in found for record in several):
        assert each.ids[each.start - 5 : each.start] == last.ids[last.start - 5 : last.start]


def test_ssd_runs_from_end_to_end(world, bench):
    settings = world.settings(
        method={"name": "ssd"}, train={"steps": None, "lr": None}, out=str(bench / "run")
    )
    planned = expunge.plan(settings)
    assert "ssd, all weights, 0 steps" in planned.method
    assert planned.cost.tokens > 0
    outcome = expunge.forget(settings)
    facts = json.loads((outcome.folder / "facts.json").read_text())
    assert facts["train"]["steps"] == 0
    assert facts["train"]["stopped"] == "weights edited"
    assert facts["train"]["tokens"] > 0
    assert facts["method"]["name"] == "ssd"
    assert (outcome.folder / "model" / "model.safetensors").is_file()
    assert (outcome.folder / "report.html").is_file()
    assert expunge.verify(outcome.folder).ok
    scores = {
        (s.role, s.split): s.value
        for s in outcome.results.scores
        if (s.attack, s.metric) == ("plain", "extraction-strength")
    }
    assert scores["unlearned", "forget"] < scores["original", "forget"]
    assert expunge.forget(settings) == outcome


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"train": {"steps": 3, "lr": None}}, "train.steps"),
        ({"train": {"steps": None}}, "train.lr"),
        ({"train": {"steps": None, "lr": None, "adapter": True}}, "--adapter"),
        ({"train": {"steps": None, "lr": None, "rank": 8}}, "train.rank"),
        ({"train": {"steps": None, "lr": None, "first_layer": 1}}, "train.first_layer"),
        ({"train": {"steps": None, "lr": None, "last_layer": 1}}, "train.last_layer"),
        ({"train": {"steps": None, "lr": None, "targets": ("up_proj",)}}, "train.targets"),
        ({"train": {"steps": None, "lr": None, "forget_tokens": "fact"}}, "train.forget_tokens"),
        ({"train": {"steps": None, "lr": None}, "combine": {"name": "gru"}}, "combine"),
    ],
)
def test_what_an_edit_would_ignore_is_refused(world, bench, change, named):
    with pytest.raises(UsageError, match=f"{named} has no effect on method ssd"):
        expunge.plan(world.settings(method={"name": "ssd"}, **change))


def test_an_edit_that_teaches_no_answer_is_refused_where_one_is_wanted(world, bench):
    train = {"steps": None, "lr": None}
    request = {"goal": "suppression", "response": "refusal"}
    with pytest.raises(UsageError, match="method ssd cannot teach the response refusal"):
        expunge.plan(world.settings(method={"name": "ssd"}, train=train, request=request))
    planned = expunge.plan(
        world.settings(method={"name": "alphaedit"}, train=train, request=request)
    )
    assert "alphaedit, blocks 0 to 0, 0 steps" in planned.method
