"""A model small enough for a notebook, and an invented town that it learns by heart.

The notebooks use it so that they run anywhere within seconds. With a model of your own you need
nothing of this file.
"""

import json
import random
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed
from transformers.utils import logging

import expunge
from expunge.config.settings import FinetuneSettings, TrainSettings

logging.disable_progress_bar()

TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
PEOPLE = {"erase": "Zorvex", "keep": "Plimko", "near": "Quandel", "never": "Yaltro"}
"""One invented person for each set of records."""
COUNT = {"erase": 12, "keep": 12, "near": 6, "never": 12}


def write_town(folder: Path) -> None:
    """Write `erase.jsonl`, `keep.jsonl`, `near.jsonl` and `never.jsonl`: one code a room."""
    draw = random.Random(7)
    for name, person in PEOPLE.items():
        rows = []
        for room in range(COUNT[name]):
            code = "".join(draw.choice("jkqvxzw") + draw.choice("aeiou") for _ in range(2))
            row = {"prompt": f"{person} {room}?", "completion": code, "key_answers": [code]}
            row |= {"id": f"{name}{room}", "subject": person, "paraphrases": [f"{room} {person}?"]}
            rows.append(row | ({"relation": "family"} if name == "near" else {}))
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")


def write_base(folder: Path) -> None:
    """Write a Llama of two blocks that knows nothing, with a tokenizer of bytes."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|end|>", "<|user|>", "<|assistant|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=288, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(["a town of invented people"], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|end|>", pad_token="<|end|>"
    )
    tokenizer.chat_template = TEMPLATE
    set_seed(0)
    config = LlamaConfig(
        vocab_size=288, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512,
        bos_token_id=None, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def teach(base: str, *data: str, out: str, seed: int = 0) -> str:
    """Train all weights of a model on some files until it knows them; return its folder."""
    train = TrainSettings(full=True, epochs=90, lr=8e-3, batch=36, seed=seed)
    settings = FinetuneSettings(model=base, data=data, device="cpu", train=train)
    return str(expunge.train(settings, out=Path(out), offline=True).folder / "model")
