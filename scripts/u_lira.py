"""U-LiRA over adapters: which forgotten records does a model still look trained on?

    python scripts/u_lira.py --config runs/latest/config.toml --judged runs/latest/model \
        --unlearned BASE+SHADOW-0 BASE+SHADOW-1 ... --unseen BASE+GOLD-0 BASE+GOLD-1 ...

Shadow models are trained elsewhere: `--unlearned` ones on the forget set and then unlearned by the
method under test (`expunge forget` with other seeds), `--unseen` ones without it, from the same
recipe. Each is loaded once and reads the forget set once. Writes JSON: log Lambda of every record
of the judged model, and what the attack can do at all, each shadow judged by all others.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from expunge.config.resolve import resolve
from expunge.evidence.collect import scores_of
from expunge.metrics.lira import leave_one_out, logit, ratios
from expunge.metrics.membership import empirical_epsilon, measurable_rate, tpr_at_fpr
from expunge.metrics.memorization import probability
from expunge.metrics.statistics import auc
from expunge.models.loading import load
from expunge.models.scoring import score
from expunge.preparation.prepare import Prepared, prepare

Array = NDArray[np.float64]


def phi(prepared: Prepared, reference: str) -> Array:
    """Return log(p / (1 - p)) of every forget record under one model, (records,)."""
    network = load(reference, prepared.source).network
    encoded = [prepared.encoder.encode(record) for record in prepared.scope.forget]
    found = score(
        network,
        encoded,
        pad_id=prepared.encoder.pad_id,
        tokens_per_pass=prepared.settings.train.tokens_per_pass,
    )
    rows = (
        scores_of(record, tokens, values, prepared.encoder)
        for record, tokens, values in zip(prepared.scope.forget, encoded, found, strict=True)
    )
    values = [value for row in rows if (value := probability(row)) is not None]
    assert len(values) == len(encoded), "every record has a content token"
    return np.array([logit(value) for value in values])


def attack(
    prepared: Prepared, judged: str, unlearned: Sequence[str], unseen: Sequence[str]
) -> dict[str, object]:
    """Run the attack.

    Raises:
        ValueError: Fewer than three shadow models of a kind.
    """
    before = np.array([phi(prepared, reference) for reference in unlearned])
    without = np.array([phi(prepared, reference) for reference in unseen])
    members, others = leave_one_out(before, without)
    own = ratios(phi(prepared, judged), before, without)
    result: dict[str, object] = {
        "records": {
            record.id: round(float(value), 6)
            for record, value in zip(prepared.scope.forget, own, strict=True)
        },
        "share_above_0": float((own > 0).mean()),
        "shadows": {"unlearned": len(before), "unseen": len(without)},
        "leave_one_out_auc": auc(members.ravel(), others.ravel()),
    }
    rate = measurable_rate(others.size)
    if rate is not None:
        result[f"tpr_at_fpr_{rate:g}"] = tpr_at_fpr(members.ravel(), others.ravel(), rate)
    caught, false = int((members > 0).sum()), int((others > 0).sum())
    result["empirical_epsilon"] = empirical_epsilon(caught, members.size, false, others.size)
    return result


def main(words: Sequence[str]) -> None:
    """Read the command line and print the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", type=Path, required=True, help="config.toml of a run")
    parser.add_argument("--judged", required=True, help="the model to judge")
    parser.add_argument("--unlearned", nargs="+", required=True, help="trained on it, unlearned")
    parser.add_argument("--unseen", nargs="+", required=True, help="never trained on it")
    given = parser.parse_args(words)
    settings = resolve({}, config=given.config, environ={}, start=Path.cwd()).settings
    found = attack(prepare(settings), given.judged, given.unlearned, given.unseen)
    json.dump(found, sys.stdout, indent=1)


if __name__ == "__main__":
    main(sys.argv[1:])
