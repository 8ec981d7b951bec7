import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM

import tiny
from expunge.models.generation import WORTH_TOKENS, extend, greedy

BEGINNING = tuple(range(20, 32))
TAILS = [record.ids for record in tiny.encoded((4, 1), (9, 1), (1, 1), (9, 1), (7, 1))]
PROMPTS = [BEGINNING + tail for tail in TAILS] + [BEGINNING]


def mistral(window):
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=tiny.VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=window,
    )
    return MistralForCausalLM(config).eval()


def slowly(network, prompt, *, ends, limit):
    tokens = list(prompt)
    while len(tokens) < len(prompt) + limit:
        chosen = network.model(input_ids=torch.tensor([tokens])).logits[0, -1].argmax().item()
        if chosen in ends:
            break
        tokens.append(chosen)
    return tuple(tokens[len(prompt) :])


def tokens_read(network, work):
    """How many tokens the trunk reads while `work` runs, padding counted."""
    read = []

    def count(_module, _inputs, named):
        read.append(named["input_ids"].numel())

    handle = network.trunk.register_forward_pre_hook(count, with_kwargs=True)
    try:
        work()
    finally:
        handle.remove()
    return sum(read)


@pytest.mark.parametrize(
    "build",
    [tiny.llama, tiny.gpt2, tiny.falcon, tiny.bloom, lambda: mistral(64), lambda: mistral(8)],
    ids=["llama", "gpt2", "falcon", "bloom", "window never reached", "window reached"],
)
@pytest.mark.parametrize("tokens_per_pass", [30, 999])
@pytest.mark.parametrize("limit", [8, WORTH_TOKENS])
def test_prompts_that_begin_alike_are_answered_as_one_by_one(build, tokens_per_pass, limit):
    network = tiny.network(build())
    free = slowly(network, PROMPTS[1], ends=set(), limit=limit)
    ends = {free[3]}
    how = {"end_ids": ends, "max_new_tokens": limit, "tokens_per_pass": tokens_per_pass}
    expected = [slowly(network, prompt, ends=ends, limit=limit) for prompt in PROMPTS]
    assert len({len(answer) for answer in expected}) > 1
    assert greedy(network, PROMPTS, **how) == expected
    several = extend(network, PROMPTS, lambda logits: logits.argmax(-1), copies=3, **how)
    assert several == [[answer] * 3 for answer in expected]


@pytest.mark.parametrize("build", [tiny.llama, tiny.gpt2, lambda: mistral(64)])
@pytest.mark.parametrize("copies", [1, 3])
def test_each_of_several_formats_is_read_behind_its_own_beginning(build, copies):
    network = tiny.network(build())
    others = [tuple(range(30, 39)) * 2 + tail for tail in TAILS]
    prompts = [ask for pair in zip(PROMPTS, others, strict=False) for ask in pair] + [TAILS[1]]
    expected = [[slowly(network, ask, ends=set(), limit=4)] * copies for ask in prompts]

    def answer():
        found = extend(
            network,
            prompts,
            lambda logits: logits.argmax(-1),
            copies=copies,
            end_ids=set(),
            max_new_tokens=4,
            tokens_per_pass=10**6,
        )
        assert found == expected

    own = len(prompts) * max(map(len, TAILS))
    steps = 3 * copies * len(prompts)
    assert tokens_read(network, answer) == len(BEGINNING) + 18 + own + steps


@pytest.mark.parametrize("copies", [1, 4])
def test_each_token_of_a_prompt_is_read_once(copies):
    network = tiny.network()

    def answer():
        extend(
            network,
            PROMPTS[:5],
            lambda logits: logits.argmax(-1),
            copies=copies,
            end_ids=set(),
            max_new_tokens=1,
            tokens_per_pass=10**6,
        )

    padded = 5 * max(map(len, TAILS))
    assert tokens_read(network, answer) == len(BEGINNING) + padded


def test_finished_rows_are_not_computed():
    network = tiny.network()
    limit = 8
    free = [slowly(network, prompt, ends=set(), limit=limit) for prompt in PROMPTS]
    ends = {free[1][2]}
    lengths = [len(slowly(network, prompt, ends=ends, limit=limit)) for prompt in PROMPTS]
    prefill = len(BEGINNING) - 1 + len(PROMPTS) * (1 + max(map(len, TAILS)))
    steps = sum(min(length + 1, limit) - 1 for length in lengths)
    assert steps < len(PROMPTS) * (limit - 1)

    def answer():
        greedy(network, PROMPTS, end_ids=ends, max_new_tokens=limit, tokens_per_pass=10**6)

    assert tokens_read(network, answer) == prefill + steps
