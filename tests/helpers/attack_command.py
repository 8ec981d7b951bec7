"""`expunge attack` on a tiny world."""

from expunge.pipeline.attack import AttackOptions, attack

AUDIT = ("max_new_tokens", "seal", "retention_days", "attack_records")
NAMES = ("paraphrase", "prefill-50", "int4", "relearn")


def stress(world, bench, model, *, only=NAMES, access="T3", gold=True, out="out", **given):
    """Attack a model; whatever else is given goes into the settings, the audit's by their names."""
    request = {"gold": (world.gold,), "control": ()} if gold else {}
    if "forget" in given:
        request["forget"] = (given.pop("forget"),)
    audit = {key: given.pop(key) for key in AUDIT if key in given}
    tables = {"request": request, "audit": {"max_new_tokens": 10, **audit}, **given}
    settings = world.settings(out=str(bench / out), **tables)
    return attack(settings, model=model, choice=AttackOptions(only=only, access=access))


def by_name(stressed):
    return {rung.attack: rung for rung in stressed.rungs}
