import pytest
import torch

import tiny
from expunge.models.generation import draw, greedy, sample

PROMPTS = [record.ids for record in tiny.encoded((4, 1), (9, 1), (2, 1), (9, 1), (7, 1))]
HOW = {"end_ids": {5}, "max_new_tokens": 6, "tokens_per_pass": 60}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("build", [tiny.llama, tiny.gpt2])
@pytest.mark.parametrize("tokens_per_pass", [1, 60, 999])
def test_cold_samples_are_the_greedy_answer_every_time(build, tokens_per_pass):
    network = tiny.network(build())
    free = greedy(network, PROMPTS, end_ids=set(), max_new_tokens=6, tokens_per_pass=99)
    ends = {free[1][2]}  # some rows leave early, others go on beside them
    how = {"end_ids": ends, "max_new_tokens": 6, "tokens_per_pass": tokens_per_pass}
    expected = greedy(network, PROMPTS, **how)
    assert len({len(answer) for answer in expected}) > 1
    cold = sample(network, PROMPTS, samples=3, temperature=1e-4, generator=seeded(), **how)
    assert cold == [[answer] * 3 for answer in expected]


def test_the_seed_alone_decides():
    network = tiny.network()

    def texts(seed):
        generator = seeded(seed)
        return sample(network, PROMPTS, samples=4, temperature=1.0, generator=generator, **HOW)

    torch.manual_seed(1)
    first = texts(3)
    torch.manual_seed(2)
    assert texts(3) == first
    assert texts(4) != first
    assert len({tuple(answer) for answer in first[0]}) > 1
    assert all(token != 5 for answers in first for answer in answers for token in answer)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_samples_follow_the_models_distribution_token_by_token(temperature):
    network = tiny.network(tiny.llama())
    network.model.lm_head.weight.data.mul_(30)  # far from uniform
    prompt = PROMPTS[1]
    pairs = sample(
        network,
        [PROMPTS[0], prompt],
        samples=4000,
        temperature=temperature,
        generator=seeded(),
        end_ids=set(),
        max_new_tokens=2,
        tokens_per_pass=10**6,
    )[1]

    def expected(tokens):
        logits = network.model(input_ids=torch.tensor([tokens])).logits[0, -1]
        return torch.softmax(logits / temperature, dim=-1)

    first = torch.tensor([pair[0] for pair in pairs])
    assert_drawn_from(expected(prompt), first)
    common = int(first.mode().values)
    second = torch.tensor([pair[1] for pair in pairs if pair[0] == common])
    assert len(second) > 100
    assert_drawn_from(expected((*prompt, common)), second)


def assert_drawn_from(probabilities, drawn):
    """Every share lies within five standard errors of its probability."""
    shares = torch.bincount(drawn, minlength=len(probabilities)) / len(drawn)
    error = (probabilities * (1 - probabilities) / len(drawn)).sqrt() + 1 / len(drawn)
    assert bool(((shares - probabilities).abs() <= 5 * error).all())
    assert probabilities.max() > 3 / len(probabilities)


def test_a_token_without_probability_is_never_drawn():
    logits = torch.full((20000, 4), -torch.inf)
    logits[:, 1] = 0.0
    logits[:, 2] = -15.0
    assert set(draw(logits, 1.0, seeded()).tolist()) <= {1, 2}
    edges = torch.tensor([[-torch.inf, 0.0, -torch.inf]]).repeat(20000, 1)
    assert set(draw(edges, 1.0, seeded(1)).tolist()) == {1}


@pytest.mark.parametrize("drawn", [0.0, 1 - 2**-24])
def test_the_ends_of_the_scale_belong_to_tokens_with_probability(drawn, monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda *shape, generator: torch.full(shape, drawn))
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 1.0, -torch.inf]])
    assert draw(logits, 1.0, seeded()).item() in (1, 3)
