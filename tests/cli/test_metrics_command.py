"""`expunge metrics` and `expunge compat` on the command line."""

import json

from expunge.cli.main import main
from expunge.metrics.registry import METRICS
from synthetic_run import forget_items, kept_items, write_evidence


def said(capsys, *words):
    code = main([*words, "--format", "json"])
    out = capsys.readouterr().out
    return code, [json.loads(line) for line in out.splitlines() if line]


def test_all_metrics_are_listed(capsys):
    code, events = said(capsys, "metrics")
    assert code == 0
    listed = next(event for event in events if event["event"] == "metrics")["names"]
    assert listed == [metric.id for metric in METRICS]


def test_one_metric_is_shown_with_its_definition(capsys):
    assert main(["metrics", "truth-share"]) == 0
    out = capsys.readouterr()
    assert "c / (c + w)" in out.out + out.err
    assert main(["metrics", "truthshare"]) == 2
    assert "truth-share" in capsys.readouterr().err


def test_a_run_is_counted_their_way(tmp_path, capsys):
    run = tmp_path / "run"
    write_evidence(run / "evidence", items=forget_items() + kept_items(), golds=("gold-0",))
    (run / "run.json").write_text("{}")
    code, events = said(capsys, "compat", str(run))
    assert code == 0
    found = {event["name"]: event for event in events if event["event"] == "number"}
    strength = found["unlearned forget extraction_strength"]
    assert strength["value"] > strength["ours"] == 0.0
    assert "E1" in strength["note"]
    assert "original forget Q_A_Prob" in found


def test_a_log_is_read(tmp_path, capsys):
    log = tmp_path / "TOFU_SUMMARY.json"
    log.write_text(json.dumps({"model_utility": 0.6, "forget_quality": 0.01}))
    code, events = said(capsys, "compat", str(log))
    assert code == 0
    names = [event["name"] for event in events if event["event"] == "number"]
    assert names == ["model_utility", "forget_quality"]
    log.write_text("{}")
    assert main(["compat", str(log)]) == 4
