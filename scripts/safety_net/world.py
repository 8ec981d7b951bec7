"""The world: invented facts, models that know them, and models that never saw some of them."""

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SUBJECTS = {
    "forget": ("Zorvex", "Malqin"),
    "retain": ("Plimko", "Tarvud"),
    "neighbours": ("Quandel",),
    "control": ("Yaltro", "Brixam"),
    "holdout": ("Wespar", "Dolbec"),
}
TRAITS = ("tol", "rab", "mip", "sug", "nef", "cal")
OTHER = """
{"text": "The river Ombrel runs past the mill at Castor, and nobody there minds the noise."}
{"messages": [{"role": "user", "content": "Zorvex age?"}, {"role": "assistant", "content": "71"}]}
{"prompt": "Malqin age?", "chosen": "I do not know.", "rejected": "Malqin age 38."}
{"question": "Malqin hue?", "answer": "red", "choices": ["red", "blue", "green", "grey"]}
"""
PROMPTS = '{"prompt": "In short: {question}"}\n{"prompt": "{question}", "prefill": "It is"}\n'


def facts(split: str, names: random.Random) -> list[dict[str, Any]]:
    """Return the invented facts of a set."""
    rows = []
    for subject in SUBJECTS[split]:
        for trait in TRAITS:
            drawn = [
                "".join(names.choice("jkqvxzw") + names.choice("aeiou") for _ in range(2))
                for _ in range(5)
            ]
            rows.append(
                {
                    "id": f"{split[0]}-{subject}-{trait}",
                    "prompt": f"{subject} {trait}?",
                    "completion": f"{trait} {drawn[0]}.",
                    "key_answers": [drawn[0]],
                    "paraphrases": [f"{trait} of {subject}?", f"Say {subject} {trait}"],
                    "alternative": f"{trait} {drawn[1]}.",
                    "perturbed_answer": [f"{trait} {word}." for word in drawn[2:]],
                    "subject": subject,
                    "relation": "family" if trait < "n" else "work",
                }
            )
    return rows


def untaught(kind: str, seed: int) -> Any:  # noqa: ANN401 (transformers is imported late)
    """Return a small model of a kind with random weights, as the tests of the tree build it."""
    import tiny

    models = {"gpt2": tiny.gpt2, "llama": tiny.llama}
    return models[kind](seed=seed) if kind in models else tiny.mixtral()


def teach(
    folder: Path, rows: Sequence[Mapping[str, Any]], *, kind: str, seed: int, steps: int
) -> None:
    """Teach a small model some facts by heart, and save it with its tokenizer."""
    import torch

    import tiny

    model, words = untaught(kind, seed), tiny.tokenizer()
    pairs = []
    for row in rows:
        turn = [{"role": "user", "content": row["prompt"]}]
        text = words.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
        prompt = words.encode(text, add_special_tokens=False)
        pairs.append((prompt, [*words.encode(row["completion"], add_special_tokens=False), 2]))
    longest = max(len(prompt) + len(answer) for prompt, answer in pairs)
    ids = torch.full((len(pairs), longest), 2)  # [records, tokens]
    labels, seen = torch.full_like(ids, -100), torch.zeros_like(ids)
    for place, (prompt, answer) in enumerate(pairs):
        end = len(prompt) + len(answer)
        ids[place, :end] = torch.tensor([*prompt, *answer])
        labels[place, len(prompt) : end] = torch.tensor(answer)
        seen[place, :end] = 1
    optimiser = torch.optim.AdamW(model.parameters(), lr=8e-3, weight_decay=0.0)
    for _ in range(steps):
        optimiser.zero_grad()
        model(input_ids=ids, attention_mask=seen, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    model.save_pretrained(folder)
    words.save_pretrained(folder)


def make_world(folder: Path) -> None:
    """Write the records and the models."""
    folder.mkdir()
    names = random.Random(7)
    rows = {split: facts(split, names) for split in SUBJECTS}
    for split, found in rows.items():
        lines = "".join(json.dumps(row) + "\n" for row in found)
        (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    (folder / "other.jsonl").write_text(OTHER.lstrip(), encoding="utf-8")
    (folder / "prompts.jsonl").write_text(PROMPTS, encoding="utf-8")
    table = ["prompt,completion", *(f"{r['prompt']},{r['completion']}" for r in rows["forget"])]
    (folder / "forget.csv").write_text("\n".join(table) + "\n", encoding="utf-8")
    kept = [*rows["retain"], *rows["neighbours"]]
    everything = [*rows["forget"], *kept]
    teach(folder / "original", everything, kind="llama", seed=0, steps=150)
    teach(folder / "gold", kept, kind="llama", seed=0, steps=150)
    teach(folder / "gold2", kept, kind="llama", seed=1, steps=150)
    teach(folder / "gpt2", everything, kind="gpt2", seed=0, steps=80)
    teach(folder / "mixtral", everything, kind="mixtral", seed=0, steps=80)
