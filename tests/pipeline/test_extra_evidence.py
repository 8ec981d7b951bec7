"""A whole audit with further evidence, on the tiny world: gold in the dock is gone in every way."""

import expunge


def test_an_audit_with_further_evidence(world, bench):
    settings = world.settings(
        request={"gold": (world.gold,)}, audit={"further": True}, out=str(bench / "run")
    )
    results = expunge.audit(settings, model=world.gold).results
    found = {(s.metric, s.role, s.split): s for s in results.scores}
    for metric in ("auc-lowercase", "auc-gradient", "auc-dc-pdd", "auc-reference"):
        row = found[metric, "original", "forget"]
        assert row.value is not None, row.reason
    for metric in ("patching-depth", "lens-depth"):
        assert found[metric, "unlearned", "forget"].value > 0.99
    assert found["kl-median", "unlearned", "retain"].value >= 0
    assert found["weight-change", "unlearned", "weights"].value > 0
    assert found["dataset-inference", "original", "forget"].reason
    assert found["distance-response", "unlearned", "retain"].unit
    assert (bench / "run" / "report.html").is_file()
