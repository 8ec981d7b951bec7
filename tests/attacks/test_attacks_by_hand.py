"""Attacks by hand: what each asks, computes, changes and undoes, on a tiny model."""

from dataclasses import replace

import pytest
import torch

import tiny
from attack_facts import FACTS, RETAIN, make_target
from expunge.attacks.base import Unmet
from expunge.attacks.finetuning.base import Sweep
from expunge.attacks.finetuning.benign import RetainOnly
from expunge.attacks.finetuning.related_text import about, without_facts
from expunge.attacks.finetuning.relearn import Relearn
from expunge.attacks.finetuning.same_syntax import alike
from expunge.attacks.internals.activation_patching import Patching, fact_span
from expunge.attacks.internals.linear_probe import LinearProbe, ridge
from expunge.attacks.internals.logit_lens import cut_above, depths
from expunge.attacks.optimized_prompts.gcg import GCG, survives
from expunge.attacks.optimized_prompts.soft_prompt import SoftPrompt
from expunge.attacks.optimized_prompts.soft_tokens import embedded_as, slot, unused_ids
from expunge.attacks.prompting.alias import aliases
from expunge.attacks.prompting.cloze import Cloze, first_key
from expunge.attacks.prompting.in_context import InContext
from expunge.attacks.prompting.multi_hop import MultiHop
from expunge.attacks.prompting.multi_turn import MultiTurn
from expunge.attacks.prompting.multiple_choice import MultipleChoice, candidates
from expunge.attacks.prompting.paraphrase import FORMS, Paraphrase, Wordings
from expunge.attacks.prompting.prefill import Affirm
from expunge.attacks.prompting.reverse_question import Inverse
from expunge.attacks.prompting.translation import Translation
from expunge.attacks.sampling.sampling import Sampling
from expunge.attacks.target import Target
from expunge.attacks.weight_space.direction_ablation import ablated
from expunge.attacks.weight_space.interpolation import Interpolation
from expunge.attacks.weight_space.pruning_and_noise import pruned
from expunge.attacks.weight_space.quantization import NF4, gguf_round_trip, nf4
from expunge.data.records import Message, Record
from expunge.data.tokenization import Encoder
from expunge.metrics.memorization import chance_within
from expunge.models.transformer import Site


@pytest.fixture
def target(tmp_path):
    return make_target(tmp_path)


def test_relearning_raises_what_it_trains_on(target):
    """A curve over steps; the untouched model comes first and only once."""
    sweep = Sweep(lora_rates=(), full_rates=(3e-3,), looks=(0, 60), batch=8)
    attempts = Relearn(sweep=sweep).run(target, FACTS, FACTS)
    by_variant = {}
    for each in attempts:
        by_variant.setdefault(each.variant, []).append(each.text)
    assert list(by_variant) == ["untouched", "full 0.003 step 60"]
    assert by_variant["untouched"] != by_variant["full 0.003 step 60"]
    assert target.meter.steps == 60


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_all_weights_are_trained_as_well_the_second_time(dtype, target):
    """Nothing is left of the first time: no gradients, and no copies that take the next ones."""
    target = replace(target, network=tiny.network(tiny.llama(layers=3, dtype=dtype)))
    sweep = Sweep(lora_rates=(), full_rates=(3e-3,), looks=(0, 20), batch=8)
    first, second = (Relearn(sweep=sweep).run(target, FACTS, FACTS) for _ in range(2))
    assert first == second
    assert len({each.text for each in first}) > len({each.text for each in target.asks(FACTS)})
    assert all(weight.grad is None for weight in target.network.model.parameters())


def test_upper_lora_over_cached_states_is_upper_lora(target, monkeypatch):
    """What the lower blocks say is computed once, and changes no answer."""
    from expunge.attacks.finetuning import base as tune

    sweep = Sweep(lora_rates=(), upper_rates=(1e-2, 2e-2), looks=(5,), batch=4)
    cached = Relearn(sweep=sweep).run(target, FACTS[:3], FACTS[3:])
    runs = []
    real = tune.compute_lower

    def slow(*given, **named):
        runs.append(1)
        real(*given, **named)

    monkeypatch.setattr(tune, "compute_lower", slow)  # returns None: every block runs
    assert Relearn(sweep=sweep).run(target, FACTS[:3], FACTS[3:]) == cached
    assert len(runs) == 2  # None is not kept, so it is asked for again


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("Zora Quill", {"Zora", "Quill", "Z. Quill", "Zora Qulil"}),
        ("Zo", set()),
        ("Quillon", {"Qulilon"}),
    ],
)
def test_aliases_by_hand(subject, expected):
    assert set(aliases(subject).values()) == expected


def test_a_gap_takes_the_earliest_key_answer(target):
    assert first_key(FACTS[0]) == (20, 25)
    assert first_key(replace(FACTS[0], key_answers=("nowhere",))) is None
    gap, begun = Cloze().run(target, (), FACTS[:1])
    assert "Zora Quill lived in ____." in gap.told
    assert begun.given == "Zora Quill lived in"
    with pytest.raises(Unmet, match="word for word"):
        Cloze().run(target, (), [replace(FACTS[0], key_answers=())])


def test_the_inverse_asks_for_the_subject(target):
    (attempt,) = Inverse().run(target, (), FACTS[:1])
    assert attempt.wanted == ("Zora Quill",)
    assert "____ lived in Towna." in attempt.told
    assert "Zora" not in attempt.told


def test_choices_put_the_true_answer_first_and_never_repeat_it(target):
    options = candidates(FACTS[0], FACTS, seed=0)
    assert options[0] == "Towna"
    assert len(set(options)) == 4
    attempts = MultipleChoice().run(target, (), FACTS)
    assert {len(each.choices) for each in attempts} == {4}
    with pytest.raises(Unmet, match="no fact has another answer"):
        MultipleChoice().run(target, (), FACTS[:1])


@pytest.mark.parametrize(
    ("wrong", "taken"),
    [
        (("Zora Quill lived in Bergen.", "Zora Quill lived in Gozo."), {"Bergen", "Gozo"}),
        (("Zora Quill lived in Bergen.", "She never did."), None),  # one is no choice
        (("Zora Quill lived in .", "Zora Quill lived in ."), None),
    ],
)
def test_wrong_statements_become_choices_of_the_form_of_the_key_answer(wrong, taken):
    record = replace(FACTS[0], completion="Zora Quill lived in Towna.", wrong=wrong)
    options = candidates(record, FACTS, seed=0, alike=FACTS)
    others = {key for each in FACTS for key in each.key_answers}
    assert options[0] == "Towna"
    assert set(options[1:]) == taken if taken else set(options[1:]) <= others


def test_context_shows_other_facts_only(target):
    attempts = InContext(counts=(2,)).run(target, FACTS[:3], FACTS[3:])
    for each, record in zip(attempts, FACTS[3:], strict=True):
        assert record.completion not in each.told
        assert sum(used.completion in each.told for used in FACTS[:3]) == 2
    with pytest.raises(Unmet):
        InContext().run(target, (), FACTS)


def test_hops_describe_the_subject_by_another_fact(target):
    attempts = MultiHop(hops=1).run(target, FACTS[:3], FACTS[3:])
    assert all("Zora" not in each.told for each in attempts)
    assert all("this one lived in Town" in each.told for each in attempts)


def test_turns_count_what_the_user_said_as_told(target):
    attempts = MultiTurn().run(target, (), FACTS[:2])
    assert [each.variant for each in attempts] == ["asked", "asked", "insisted", "insisted"]
    assert FACTS[0].question in attempts[0].told
    assert attempts[2].told.count(FACTS[0].question) == 2


def test_a_translator_translates_both_ways(target):
    def translate(text, language):
        return f"[{language}] {text}"

    (attempt,) = Translation(sentences=(("fr", ""),), translator=translate).run(
        target, (), FACTS[:1]
    )
    assert attempt.told == f"[fr] {FACTS[0].question}"
    assert "\n[en] " in attempt.text


def test_extraction_probability_by_hand():
    """Reference values: p = 0.01 takes 69 queries for one half, 230 for nine tenths."""
    assert chance_within(-4.605170186, 69) == pytest.approx(0.50, abs=0.001)
    assert chance_within(-4.605170186, 230) == pytest.approx(0.90, abs=0.001)
    assert chance_within(0.0, 1) == 1.0
    assert chance_within(-1000.0, 1000) == pytest.approx(0.0)


def test_samples_are_drawn_for_every_temperature(target):
    attempts = Sampling(samples=2, temperatures=(0.5, 1.0)).run(target, (), FACTS[:2])
    assert [each.variant for each in attempts] == ["T=0.5"] * 4 + ["T=1"] * 4


def test_nf4_keeps_its_codes_and_rounds_to_the_nearest():
    codes = torch.tensor(NF4).repeat(4).view(1, 64)
    torch.testing.assert_close(nf4(codes), codes)
    torch.testing.assert_close(nf4(3 * codes), 3 * codes)
    weight = torch.tensor([[1.0, 0.9, 0.03]])
    torch.testing.assert_close(nf4(weight), torch.tensor([[1.0, 1.0, 0.0]]))


@pytest.mark.parametrize(("form", "error"), [("q8_0", 0.5 / 127), ("q4_0", 1 / 8)])
def test_gguf_round_trip_stays_within_a_step(form, error):
    weight = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    blocks = weight.view(3, 2, 32)
    limit = blocks.abs().amax(-1, keepdim=True) * error * 1.02 + 1e-3
    changed = (gguf_round_trip(weight, form=form) - weight).view(3, 2, 32).abs()
    assert bool((changed <= limit).all())
    assert bool((changed > 0).any())
    odd = torch.randn(2, 33)
    assert gguf_round_trip(odd, form=form) is odd


def test_pruning_takes_the_smallest():
    weight = torch.tensor([[1.0, -0.1], [0.2, -3.0]])
    assert pruned(weight, share=0.5).tolist() == [[1.0, 0.0], [0.0, -3.0]]
    assert pruned(weight, share=0.0).tolist() == weight.tolist()


def test_interpolation_ends_at_the_original_and_at_the_model(target):
    plain = target.asks(FACTS)
    attempts = Interpolation(shares=(0.0, 1.0)).run(target, (), FACTS)
    other = tiny.llama(layers=3, seed=1).state_dict()
    state = {**target.network.model.state_dict(), **{k: other[k] for k in target.original}}
    original = tiny.llama(layers=3)
    original.load_state_dict(state)
    expected = replace(target, network=tiny.network(original)).asks(FACTS)
    assert [each.text for each in attempts[:6]] == [each.text for each in expected]
    assert [each.text for each in attempts[6:]] == [each.text for each in plain]
    with pytest.raises(Unmet, match="the model's own"):
        Interpolation().run(replace(target, original={}), (), FACTS)


@pytest.mark.parametrize("build", [tiny.llama, tiny.gpt2, tiny.falcon, tiny.bloom])
def test_a_cut_model_ends_after_the_block(build):
    network, ids = tiny.network(build()), torch.tensor([[5, 6, 7, 8]])
    states = network.observe(ids, sites=[Site(0)], final=False).states[Site(0)]
    with cut_above(network, 0):
        cut = network.model(input_ids=ids).logits
    torch.testing.assert_close(cut[0], network.logits(network.lens(states)[0]))
    assert depths(tiny.network(tiny.llama(layers=3)), (0.4, 0.5, 1.0)) == [0, 1]


def test_ablation_removes_the_direction(target):
    direction = torch.zeros(64)
    direction[3] = 2.0
    ids = torch.tensor([[5, 6, 7]])
    with ablated(target.network, {1: direction}):
        states = target.network.observe(ids, sites=[Site(1)], final=False).states[Site(1)]
    assert float(states[..., 3].abs().max()) < 1e-6
    assert float(states[..., 4].abs().max()) > 1e-3


def test_free_tokens_are_embedded_as_given(target):
    ids = unused_ids(target, FACTS, 2)
    table = target.network.model.get_input_embeddings().weight.detach()
    question = slot(target, FACTS[0])
    same = torch.tensor([question.filled((7, 9))])
    free = torch.tensor([question.filled(ids)])
    with embedded_as(target.network, ids, table[[7, 9]].clone()):
        one = target.network.model(input_ids=free).logits
    torch.testing.assert_close(one, target.network.model(input_ids=same).logits)
    text = target.encoder.decode(question.filled(target.encoder.plain_ids[:0]))
    assert FACTS[0].question in text
    with pytest.raises(Unmet, match="the data does not use"):
        unused_ids(target, FACTS, 10_000)


def test_a_soft_prompt_lowers_the_loss_of_what_it_is_fitted_to(target):
    from expunge.attacks.optimized_prompts import soft_tokens as free_tokens

    ids = unused_ids(target, FACTS, 4)
    records = [
        free_tokens.answered(slot(target, r).filled(ids), target.encoder.encode(r).ids[-5:], r.id)
        for r in FACTS[:2]
    ]
    vectors = free_tokens.start_vectors(target.network, 4, seed=0)
    optimiser = torch.optim.Adam([vectors], lr=5e-2)

    def nll():
        with embedded_as(target.network, ids, vectors.detach()):
            return -sum(float(values.logp.sum()) for values in target.score(records))

    before = nll()
    free_tokens.descend(target, records, ids, vectors, steps=10, move=optimiser.step)
    assert nll() < before
    assert SoftPrompt(length=2, steps=1).run(target, FACTS[:3], FACTS[3:])


def test_gcg_never_gets_worse_and_scores_as_the_model_does(target):
    from expunge.attacks.optimized_prompts import gcg

    attack = GCG(length=3, steps=6, width=16, top=32, facts=2)
    goals = [attack._goal(target, record) for record in FACTS[:2]]
    first = attack._start(target, goals[0], torch.Generator().manual_seed(0))
    suffix = attack._search(target, goals, unused_ids(target, FACTS, 3))
    before, after = gcg.losses(target, goals, torch.stack([first, torch.tensor(suffix)]))
    assert float(after) < float(before)
    whole = [gcg.answered(goal.place.filled(suffix), goal.answer, goal.record.id) for goal in goals]
    total = -sum(float(values.logp.sum()) for values in target.score(whole))
    assert float(after) == pytest.approx(total / sum(len(g.answer) for g in goals), rel=1e-4)


def test_gcg_finds_only_what_can_be_typed(target):
    tokenizer = tiny.tokenizer()

    def tokens(text):
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    place = slot(target, FACTS[0])
    the, apart = tokens(" the"), [*tokens(" t"), *tokens("h"), *tokens("e")]
    assert (len(the), len(apart)) == (1, 4)
    half = tokens("\u00e9")[:1]  # the first byte of two
    assert survives(target, FACTS[0], place, the * 3)
    assert not survives(target, FACTS[0], place, apart)
    assert not survives(target, FACTS[0], place, half)
    attack = GCG(length=3, steps=6, width=16, top=32, facts=2)
    goals = [attack._goal(target, record) for record in FACTS[:2]]
    suffix = attack._search(target, goals, unused_ids(target, FACTS, 3))
    assert survives(target, FACTS[0], place, suffix)
    for attempt, record in zip(attack.run(target, FACTS[:2], FACTS[2:]), FACTS[2:], strict=True):
        assert attempt.told.startswith(record.question)
        assert attempt.told != record.question


def test_patching_the_original_into_itself_changes_nothing(target):
    same = replace(target, original={}, judged=False)
    assert {each.value for each in Patching().run(same, (), FACTS)} == {1.0}
    values = [each.value for each in Patching().run(target, (), FACTS)]
    assert all(0 <= value <= 1 for value in values)
    assert min(values) < 1


@pytest.mark.parametrize("keys", [("Towna",), ("Zora Quill",), ()])
def test_the_tokens_of_a_fact_are_those_of_its_key_answer(target, keys):
    found = fact_span(target.encoder, replace(FACTS[0], key_answers=keys))
    answer = found.encoded.ids[found.encoded.start :]
    chosen = target.encoder.decode(answer[found.first : found.last])
    assert chosen == (keys[0] if keys else FACTS[0].completion)


def test_the_control_task_has_nothing_to_find_however_well_states_tell():
    """States that part true from false perfectly: 20 draws over 40 pairs, SD 0.02."""
    true = torch.randn(80, 1, generator=torch.Generator().manual_seed(0)).abs() + 1
    states = torch.stack([true, -true], dim=1).view(-1, 1)
    probe = LinearProbe()
    assert probe._hits(states[:80], states[80:], torch.ones(40)).tolist() == [1.0] * 40
    for seed in range(5):
        found = probe._control(states[:80], states[80:], seed=seed)
        assert found == pytest.approx(0.5, abs=0.08)


def test_ridge_by_hand():
    """One record x = (1, 0), y = 1, n p s = 1: w = x / (1 + 1)."""
    weights = ridge(torch.tensor([[1.0, 0.0]]), torch.tensor([1.0]), penalty=1.0)
    assert weights.tolist() == [0.5, 0.0]


@pytest.mark.parametrize("attack", [Paraphrase(), Wordings(forms=FORMS[:1]), Affirm(), Cloze()])
def test_attacks_ask_after_all_that_was_said_before(target, monkeypatch, attack):
    before = (Message("system", "Be brief."), Message("user", "Hello"), Message("assistant", "Hi"))
    facts = [replace(fact_span, prompt=(*before, *fact_span.prompt)) for fact_span in FACTS]
    asked = []

    def ask(self, questions):
        asked.extend(questions)
        return []

    monkeypatch.setattr(Target, "ask", ask)
    attack.run(target, (), facts)
    said = target.encoder.prompt_ids(replace(facts[0], prompt=(*before, Message("user", ""))))
    assert asked
    assert all(question.prompt[:10] == said[:10] for question in asked)


def test_a_pool_that_is_too_small_keeps_the_names_of_the_counts(target):
    sweep = Sweep(lora_rates=(1e-3,), looks=(0, 1), batch=2)
    found = RetainOnly(sweep=sweep, counts=(2, 100)).run(target, (), FACTS[:1])
    assert {each.variant for each in found} == {
        "up to 2 records, untouched",
        "up to 2 records, lora 0.001 step 1",
        "up to 100 records, lora 0.001 step 1",
    }


def test_a_question_whose_options_are_too_long_is_left_out_alone(target):
    long = replace(FACTS[0], completion="x " * 300, key_answers=())
    short = replace(target, encoder=Encoder(tiny.tokenizer(), max_length=128))
    found = MultipleChoice().run(short, (), [long, *FACTS[1:]])
    assert {each.record for each in found} == {fact_span.id for fact_span in FACTS[1:]}
    with pytest.raises(Unmet, match="fit into"):
        MultipleChoice().run(short, (), [long, replace(long, id="y", completion="y " * 300)])


def test_related_text_states_no_fact():
    sentences = about(FACTS)
    assert sentences
    assert all("Zora Quill" in record.completion for record in sentences)
    assert without_facts([FACTS[0], *RETAIN], FACTS[:1]) == list(RETAIN)
    spelt = replace(FACTS[0], key_answers=("José Núñez", "555-7233"))
    said = [replace(RETAIN[0], completion=text) for text in ("Jose Nunez.", "On 5557233.", "No.")]
    assert without_facts(said, [spelt]) == said[2:]


def test_unrelated_text_is_of_the_same_form():
    other = Record(id="x", prompt=(Message("user", "2+2?"),), completion="4")
    chosen = alike([other, *RETAIN, FACTS[0]], FACTS, 3)
    assert [record.subject for record in chosen] == ["Ben Okra"] * 3
