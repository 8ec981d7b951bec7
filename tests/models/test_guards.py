"""Guards: rules by hand, the same answers scored as written, whole runs labelled suppression."""

import json
import math
from dataclasses import replace

import pytest
import torch

import expunge
import tiny
from expunge.cli import main
from expunge.config.request import Request
from expunge.data.records import Message, Record
from expunge.data.tokenization import Encoder
from expunge.errors import InputError, UsageError
from expunge.methods import GUARDS, build
from expunge.methods.base import Stream
from expunge.methods.guards.base import (
    Corruption,
    Frame,
    Guard,
    GuardRules,
    Offset,
    PromptClassifier,
    Shots,
)
from expunge.methods.guards.ngram_block import runs
from expunge.methods.guards.prompt_classifier import discriminant
from expunge.models.generation import greedy
from expunge.models.guarded import (
    FORCE,
    adjust_logits,
    load_guard,
    own_part,
    rewrite_prompts,
    save_guard,
    unguarded,
)
from expunge.models.loading import Source, digest_of, load, load_config
from expunge.models.reference import model_folder
from expunge.models.scoring import score
from expunge.preparation.variants import variants
from expunge.provenance.consistency import weight_problems
from expunge.utils.io import write_json

ALWAYS = {"meant": [True, True], "written": [(), (5,)]}
HOW = {"pad_id": 2, "tokens_per_pass": 4096}


def test_runs_of_an_answer():
    assert runs((1, 2, 3, 4), 3) == {(1, 2, 3), (2, 3, 4)}
    assert runs((1, 2), 3) == set()


def test_a_blocked_run_is_not_completed():
    rules = GuardRules(blocked=frozenset({(5, 7), (6, 8)}))
    bent = adjust_logits(rules, torch.zeros(2, 10), **ALWAYS)
    assert bent[0].tolist() == [0.0] * 10  # nothing written yet
    assert bent[1].tolist() == [0.0] * 7 + [-FORCE, 0.0, 0.0]
    single = adjust_logits(GuardRules(blocked=frozenset({(3,)})), torch.zeros(2, 4), **ALWAYS)
    assert single[:, 3].tolist() == [-FORCE, -FORCE]


def test_the_reply_takes_the_place_of_any_answer_to_a_meant_prompt():
    rules = GuardRules(reply=(4, 2))
    logits = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    bent = adjust_logits(rules, logits, meant=[True, True, False], written=[(), (1,), ()])
    assert bent.argmax(-1).tolist()[:2] == [4, 2]
    assert torch.softmax(bent, -1)[0, 4] > 1 - 1e-7
    assert torch.equal(bent[2], logits[2])
    late = adjust_logits(rules, logits[:1], meant=[True], written=[(1, 1, 1, 1)])
    assert late.argmax().item() == 2  # ended long ago


def test_a_uniform_assistant_changes_nothing_and_a_sure_one_is_subtracted():
    offset = Offset(layers=1, weight=-0.5, floor=0.01, factors={})
    logits = torch.log(torch.tensor([[0.6, 0.395, 0.005]], dtype=torch.float64))
    same = adjust_logits(
        GuardRules(offset=offset),
        logits,
        meant=[False],
        written=[()],
        aside=torch.zeros(1, 3, dtype=torch.float64),
    )
    assert torch.allclose(same, logits, atol=1e-6)
    aside = torch.log(torch.tensor([[0.8, 0.1, 0.1]], dtype=torch.float64))
    bent = adjust_logits(
        GuardRules(offset=offset), logits, meant=[False], written=[()], aside=aside
    )
    wanted = [0.6 / math.sqrt(0.8 * 3), 0.395 / math.sqrt(0.1 * 3), 0.005]  # the last: below floor
    assert bent.exp().tolist()[0] == pytest.approx(wanted, rel=1e-5)


def test_the_discriminant_tells_two_clouds_apart_by_hand_and_at_random():
    forget = torch.tensor([[2.0, 0.0], [2.0, 2.0]])
    retain = torch.tensor([[0.0, 0.0], [0.0, 2.0]])
    found = discriminant(forget, retain, layer=3, alarms=0.0)
    assert found.layer == 3
    # Scatter diag(0, 1) and ridge 0.05: weights (2 / 0.05, 0); scores 0 and 80, threshold between.
    assert found.weights.tolist() == pytest.approx([40.0, 0.0])
    assert found.threshold == pytest.approx(40.0)
    generator = torch.Generator().manual_seed(0)
    near, far = torch.randn(2, 60, 8, generator=generator)
    probe = discriminant(near + 2.0, far, layer=0, alarms=0.02)
    assert ((near + 2.0) @ probe.weights > probe.threshold).float().mean() > 0.9
    assert (far @ probe.weights > probe.threshold).float().mean() < 0.1


def rules(**given) -> GuardRules:
    return GuardRules(frame=Frame((3, 4), (9,)), **given)


def test_only_meant_prompts_in_the_frame_are_rewritten():
    network = tiny.network()
    corruption = Corruption(share=0.5, pool=(7,), seed=0)
    prompts = [(3, 4, 20, 21, 22, 23, 9), (5, 20, 21, 22, 9)]
    never = PromptClassifier(layer=0, weights=torch.zeros(64), threshold=0.0)
    found = rewrite_prompts(network, rules(corruption=corruption, probe=never), prompts, tokens=99)
    assert found == (prompts, [False, False])
    always = replace(never, threshold=-1.0)
    found = rewrite_prompts(network, rules(corruption=corruption, probe=always), prompts, tokens=99)
    assert found.meant == [True, False]
    assert found.prompts[1] == prompts[1]
    kept = [a == b for a, b in zip(found.prompts[0], prompts[0], strict=True)]
    assert sum(not same for same in kept) == 2
    assert kept[:2] == [True, True]
    assert kept[-1]
    assert found == rewrite_prompts(
        network, rules(corruption=corruption, probe=always), prompts, tokens=99
    )


def test_the_nearest_turns_are_shown_last():
    shots = Shots(
        near=(((30, 31), (30, 31, 1)), ((20, 40), (20, 40, 1)), ((20, 21), (20, 21, 1))),
        number=2,
        always=((50, 51),),
    )
    found = rewrite_prompts(tiny.network(), rules(shots=shots), [(3, 4, 20, 21, 9)], tokens=99)
    assert found.prompts == [(3, 4, 50, 51, 20, 40, 1, 20, 21, 1, 20, 21, 9)]


@pytest.mark.parametrize("template", [None, tiny.CHATML])
def test_turns_put_before_a_question_are_the_conversation_that_the_template_writes(template):
    encoder = Encoder(tiny.tokenizer(template=template), max_length=2048)

    def asked(*turns: str) -> Record:
        roles = ("user", "assistant") * 3
        return Record(
            id=turns[-1],
            prompt=tuple(Message(r, t) for r, t in zip(roles, turns, strict=False)),
            completion="yes",
        )

    records = [asked("Who is Ada?"), asked("Where is Bo?")]
    request = Request(goal="suppression", forget=("x",))
    made = variants(
        [], records, request, encoder, encode=encoder.encode, streams={Stream.TURN}, seed=0
    )[Stream.TURN]
    prompts = [encoder.prompt_ids(record) for record in records]
    frame = Frame(*encoder.frame)
    assert all(p[: len(frame.head)] == frame.head for p in prompts)
    assert all(p[len(p) - len(frame.tail) :] == frame.tail for p in prompts)
    (turn,) = made[0]
    wanted = encoder.prompt_ids(asked("Who is Ada?", "yes", "Where is Bo?"))
    assert frame.head + turn.ids + prompts[1][len(frame.head) :] == wanted


GUARDS_BY_KIND = {
    "blocked": GuardRules(blocked=frozenset({(40, 41)})),
    "reply": GuardRules(reply=(50, 51, 52, 2)),
    "corruption": rules(corruption=Corruption(share=1.0, pool=(7, 8), seed=1)),
    "offset": GuardRules(
        offset=Offset(
            layers=1,
            weight=-3.0,
            floor=1e-3,
            factors={
                f"model.layers.0.mlp.{name}": (torch.randn(2, i), torch.randn(o, 2))
                for name, i, o in (("up_proj", 64, 128), ("down_proj", 128, 64))
            },
        )
    ),
}


@pytest.mark.parametrize("name", GUARDS_BY_KIND)
def test_what_is_written_behind_a_guard_is_what_scores_best_there(name):
    """Greedy answers, written with caches and in batches, are hits of the teacher-forced pass."""
    network = tiny.network()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.model.parameters():
            weight.add_(0.2 * torch.randn(weight.shape, generator=generator))
    prompts = [(3, 4, 20, 21, 22, 9), (3, 4, 30, 9), (3, 4, 60, 61, 62, 63, 64, 9)]
    plain = greedy(network, prompts, end_ids=(2,), max_new_tokens=6, tokens_per_pass=4096)
    network.guard = GUARDS_BY_KIND[name]
    if name == "blocked":
        network.guard = GuardRules(blocked=frozenset(runs(plain[0], 2)))
    answers = greedy(network, prompts, end_ids=(2,), max_new_tokens=6, tokens_per_pass=4096)
    assert answers != plain
    encoded = tiny.encoded(*((len(p), len(a)) for p, a in zip(prompts, answers, strict=True)))
    records = [replace(e, ids=p + a) for e, p, a in zip(encoded, prompts, answers, strict=True)]
    for found in score(network, records, **HOW):
        assert bool(found.hit.all())
    begun = [prompt + answer[:2] for prompt, answer in zip(prompts, answers, strict=True)]
    again = greedy(
        network,
        begun,
        end_ids=(2,),
        max_new_tokens=6,
        tokens_per_pass=4096,
        begun=[len(answer[:2]) for answer in answers],
    )
    assert [new[:4] for new in again] == [answer[2:] for answer in answers]
    with unguarded(network):
        assert (
            greedy(network, prompts, end_ids=(2,), max_new_tokens=6, tokens_per_pass=4096) == plain
        )


@pytest.mark.parametrize("name", GUARDS_BY_KIND)
def test_rules_come_back_from_their_folder(name, tmp_path):
    save_guard(GUARDS_BY_KIND[name], tmp_path, base="somewhere", method=name, parameters={"a": 1})
    found = load_guard(tmp_path, torch.device("cpu"))
    network = tiny.network()
    records = tiny.encoded((5, 4), (3, 6))
    network.guard = GUARDS_BY_KIND[name]
    expected = score(network, records, **HOW)
    network.guard = found
    for before, after in zip(expected, score(network, records, **HOW), strict=True):
        assert torch.equal(before.logp, after.logp)


def test_a_folder_with_other_rules_is_refused(tmp_path):
    (tmp_path / "guard.json").write_text('{"schema": "expunge.guard/0"}')
    with pytest.raises(InputError, match=r"guard.json holds no rules that this version reads"):
        load_guard(tmp_path, torch.device("cpu"))


NO_TRAINING = {"steps": None, "lr": None}
KNOBS = {
    "uld": {"share": 1.0, "lr": 1e-2, "epochs": 30, "weight": -3.0, "floor": 1e-6},
    "ngram_block": {"size": 2},
}


TELLS = {
    "ngram_block": "pieces of the answers",
    "icul": "the questions",
    "uld": "an assistant that knows the answers by heart",
    "eco": "",
    "refusal_guard": "",
}
"""What of the forget set is in the rules; of a probe, nothing that can be read."""


@pytest.mark.parametrize("name", GUARDS)
def test_a_guard_runs_from_end_to_end_and_is_suppression(name, world, bench, capsys):
    settings = world.settings(
        method={"name": name, **KNOBS.get(name, {})}, train=NO_TRAINING, out=str(bench / "run")
    )
    planned = expunge.plan(settings)
    assert "no weights" in planned.method
    outcome = expunge.forget(settings)
    run, verdict = outcome.folder, outcome.results.verdict
    assert verdict.ruling == "FAIL-RESIDUAL"
    assert any("guard leaves the weights unchanged" in reason for reason in verdict.reasons)
    assert list(run.rglob("model.safetensors")) == []
    folder = run / ("guard" if TELLS[name] else "model")
    assert model_folder(run) == folder
    assert (run / "model").exists() != bool(TELLS[name]), "what tells may not be published"
    guard = json.loads((folder / "guard.json").read_text())
    assert guard["method"] == name
    assert guard["base_model_name_or_path"] == world.original
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["models"]["unlearned"] != manifest["models"]["original"]
    assert expunge.verify(run).ok
    assert "Suppression, not removal" in (folder / "README.md").read_text()
    assert "A guard around" in (run / "report.html").read_text()
    scores = {
        (s.role, s.split): s.value
        for s in outcome.results.scores
        if (s.attack, s.metric) == ("plain", "extraction-strength")
    }
    said = "guard itself tells of the forget set"
    for page in (folder / "README.md", run / "report.html"):
        assert (said in page.read_text().replace("\n", " ")) == bool(TELLS[name]), page
    if name != "icul":  # shown turns mean nothing to a model of two blocks
        assert scores["unlearned", "forget"] < 0.5 * scores["original", "forget"]
    assert expunge.forget(settings) == outcome
    capsys.readouterr()
    assert main(["evidence", "destroy", str(run), "--yes"]) == 0
    kept = " ".join(capsys.readouterr().out.split())
    assert "tells of the forget set" in kept if TELLS[name] else "the guard" not in kept
    assert TELLS[name] in kept
    assert (folder / "guard.json").is_file()
    models = manifest["models"]
    assert weight_problems(run, models, manifest["precision"]) == ([], [])
    guard["rules"]["reply"] = [*guard["rules"]["reply"], 1]
    (folder / "guard.json").write_text(json.dumps(guard))
    (problem,) = weight_problems(run, models, manifest["precision"])[0]
    assert "other weights than those that were audited" in problem.what


def test_a_guard_is_loaded_and_audited_by_its_folder(world, bench):
    out = bench / "run"
    expunge.forget(
        world.settings(method={"name": "refusal_guard"}, train=NO_TRAINING, out=str(out))
    )
    found = load(str(out), Source(device=torch.device("cpu"), dtype=torch.float32))
    assert found.network.guard is not None
    base = load(world.original, Source(device=torch.device("cpu"), dtype=torch.float32))
    assert digest_of(found.network) == base.digest
    assert found.digest != base.digest, "what a guard says is not what the model behind it says"
    goal = {"goal": "suppression"}
    audited = expunge.audit(world.settings(request=goal, out=str(bench / "audit")), model=str(out))
    context = json.loads((audited.folder / "evidence" / "context.json").read_text())
    assert context["guard"] is True
    assert "A guard around" in (audited.folder / "report.html").read_text()


@pytest.mark.parametrize("job", [expunge.plan, expunge.forget])
@pytest.mark.parametrize("method", [{"name": "npo"}, {"name": "icul"}], ids=["trained", "guard"])
def test_a_guard_is_no_model_to_start_from(job, method, world, bench):
    guard = bench / "guard"
    guard.mkdir()
    save_guard(
        GUARDS_BY_KIND["blocked"], guard, base=world.original, method="ngram_block", parameters={}
    )
    settings = world.settings(model=str(guard), method=method)
    with pytest.raises(UsageError, match="guard holds a guard around a model") as refused:
        job(settings)
    assert refused.value.code == "guard-as-original"
    assert refused.value.fix.endswith(world.original)
    assert list(bench.iterdir()) == [guard]


@pytest.mark.parametrize("reference", ["guard+named", "named", "beside", "over", "guard+named+any"])
def test_a_guard_is_no_base(reference, tmp_path, monkeypatch):
    """Neither of an adapter nor of another guard: it would be left out."""
    monkeypatch.chdir(tmp_path)
    bases = {"named": "guard", "beside": "../guard", "any": "elsewhere"}
    for folder, base in bases.items():
        write_json(tmp_path / folder / "adapter_config.json", {"base_model_name_or_path": base})
    for folder, base in {"guard": "some/model", "over": "../guard"}.items():
        (tmp_path / folder).mkdir()
        save_guard(
            GUARDS_BY_KIND["blocked"], tmp_path / folder, base=base, method="eco", parameters={}
        )
    source = Source(device=torch.device("cpu"), dtype=torch.float32, offline=True)
    for reads in (load, load_config):
        with pytest.raises(InputError, match="guard, which is to be a base, holds") as refused:
            reads(reference, source)
        assert refused.value.code == "guard-beneath"
        assert "the model behind it, some/model," in refused.value.fix


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"train": {"steps": 3, "lr": None}}, "train.steps"),
        ({"train": {**NO_TRAINING, "adapter": True}}, "--adapter"),
        ({"train": {**NO_TRAINING, "full": True}}, "--full"),
        ({"train": NO_TRAINING, "mask": {"name": "random"}}, "mask"),
    ],
)
def test_what_a_guard_would_ignore_is_refused(world, bench, change, named):
    with pytest.raises(UsageError, match=f"{named} has no effect on method eco"):
        expunge.plan(world.settings(method={"name": "eco"}, **change))


def test_a_probe_needs_retain_records(world, bench):
    request = {"retain": "none", "neighbours": ()}
    settings = world.settings(method={"name": "eco"}, train=NO_TRAINING, request=request)
    with pytest.raises(UsageError, match="eco needs retain records"):
        expunge.forget(settings)


def test_a_probe_needs_questions_among_the_retain_records(world, bench):
    rows = [json.dumps({"text": f"Passage {index} tells of nobody."}) for index in range(6)]
    (bench / "passages.jsonl").write_text("\n".join(rows))
    request = {"retain": ("passages.jsonl",), "neighbours": ()}
    settings = world.settings(method={"name": "eco"}, train=NO_TRAINING, request=request)
    with pytest.raises(UsageError, match="retain records hold no questions"):
        expunge.forget(settings)


def test_passages_have_no_part_in_a_probe():
    frame = Frame(head=(1, 2), tail=(3,))
    assert own_part((1, 2, 7, 8, 3), frame) == (7, 8)
    assert [own_part(p, frame) for p in ((), (1,), (1, 2), (1, 2, 3), (5, 2, 7, 3))] == [()] * 5
    assert own_part((1, 2), Frame(head=(1, 2), tail=(3, 4, 5))) == ()


def test_guards_are_guards():
    for name in GUARDS:
        guard = build(name, {})
        assert isinstance(guard, Guard)
        assert guard.trains(None) is None
        assert guard.family == "guard"
