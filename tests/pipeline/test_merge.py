"""An adapter becomes full weights, wherever it comes from."""

import json

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

import expunge
import tiny
from expunge.cli import main
from expunge.config.settings import FinetuneSettings
from expunge.pipeline.merge import merge

ROWS = [{"prompt": f"Zorvex {i}?", "completion": f"Num {i * 31 % 97}."} for i in range(4)]


def test_an_adapter_of_a_training_is_merged_as_peft_merges_it(bench, capsys):
    base = tiny.save(bench / "base", tiny.llama())
    (bench / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    train = {"epochs": 2, "batch": 2, "lr": 1e-2}
    settings = FinetuneSettings(model=str(base), data=("data.jsonl",), device="cpu", train=train)
    expunge.train(settings, out="trained", offline=True)
    theirs = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), "trained/model"
    ).merge_and_unload()  # type: ignore[reportCallIssue]
    before = AutoModelForCausalLM.from_pretrained(base).state_dict()
    for index, adapter in enumerate(("trained", "trained/model", "base+trained/model")):
        out = f"merged-{index}"
        assert main(["merge", adapter, "--out", out, "--offline"]) == 0
        ours = AutoModelForCausalLM.from_pretrained(out).state_dict()
        assert ours.keys() == before.keys()
        assert any(not torch.equal(ours[name], before[name]) for name in ours)
        torch.testing.assert_close(ours, theirs.state_dict())
    assert main(["merge", "merged-0", "--out", "more"]) == 4
    assert "load merged-0 directly" in capsys.readouterr().err
    assert main(["merge", "trained", "--out", "data.jsonl"]) == 2
    assert merge("trained", out=bench / "in-python").is_dir()
