"""Facts about invented people, and a tiny target to attack."""

import torch

import tiny
from expunge.attacks.target import Target
from expunge.data.records import Message, Record
from expunge.data.tokenization import Encoder
from expunge.models.loading import Source


def person(index, *, subject="Zora Quill", split="f"):
    town = f"Town{chr(97 + index)}"
    return Record(
        id=f"{split}{index}",
        prompt=(Message("user", f"In year {index}, where did {subject} live?"),),
        completion=f"{subject} lived in {town}.",
        key_answers=(town,),
        paraphrases=(f"Where was {subject}'s home in year {index}?",),
        subject=subject,
    )


FACTS = [person(index) for index in range(6)]
RETAIN = tuple(person(index + 6, subject="Ben Okra", split="r") for index in range(4))


def make_target(scratch):
    network = tiny.network(tiny.llama(layers=3))
    other = tiny.network(tiny.llama(layers=3, seed=1)).model.state_dict()
    return Target(
        reference="tiny",
        digest="tiny's",
        judged=True,
        network=network,
        encoder=Encoder(tiny.tokenizer()),
        source=Source(device=torch.device("cpu"), dtype=torch.float32),
        original={name: other[name].clone() for name in other if "layers" in name},
        retain=RETAIN,
        neighbours=(),
        strangers=(),
        max_new_tokens=4,
        tokens_per_pass=2048,
        seed=0,
        scratch=scratch,
    )
