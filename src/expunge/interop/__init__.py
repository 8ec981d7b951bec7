"""Other tools' logs and numbers, beside ours: which tool wrote a log, and every number in it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from expunge.errors import InputError
from expunge.evals.evidence_table import Table
from expunge.evidence.store import EvidenceStore
from expunge.interop.base import PeerNumber, broken_log, load
from expunge.interop.lm_eval import is_lm_eval, lm_eval_numbers
from expunge.interop.muse import auc_numbers, is_auc, read_csv, table_numbers
from expunge.interop.open_unlearning import is_open_unlearning, open_unlearning_numbers
from expunge.interop.own_as_theirs import own_numbers
from expunge.interop.tofu import TofuLog, is_tofu, tofu_numbers

FORMATS = "TOFU eval_log_aggregated.json (or its folder), open-unlearning *_EVAL.json or \
*_SUMMARY.json, MUSE .csv or auc.json, lm-eval results*.json"


def read_log(path: Path, *, gold: Path | None = None) -> tuple[str, tuple[PeerNumber, ...]]:
    """Read a peer's log and return the name of its format and every number in it.

    Args:
        path: A file, gzipped or not, or a folder of TOFU's four files.
        gold: The same kind of log of a model that never saw the data, for numbers that compare.

    Raises:
        InputError: The file cannot be read, or holds none of the known formats.
    """
    try:
        return _numbers(path, gold)
    except InputError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise broken_log(path, error) from error


def _numbers(path: Path, gold: Path | None) -> tuple[str, tuple[PeerNumber, ...]]:
    if path.suffix == ".csv":
        return "MUSE table", table_numbers(read_csv(path))
    document = load(path)
    other = None if gold is None else load(gold)
    if is_tofu(document):
        reference = None if other is None else TofuLog.parse(_same(other, is_tofu, gold), gold)
        return "TOFU", tofu_numbers(TofuLog.parse(document, path), reference)
    if is_lm_eval(document):
        return "lm-eval", lm_eval_numbers(document)
    if is_auc(document):
        reference = None if other is None else _same(other, is_auc, gold)
        return "MUSE AUCs", auc_numbers(document, reference)
    if is_open_unlearning(document):
        reference = None if other is None else _same(other, is_open_unlearning, gold)
        return "open-unlearning", open_unlearning_numbers(document, reference)
    raise InputError(
        "unknown-log",
        what=f"{path} is not an evaluation log of a known format",
        why=f"known are: {FORMATS}",
        fix="give one of these, or a run folder",
    )


def of_run(evidence: Path) -> tuple[PeerNumber, ...]:
    """Return peers' numbers of a run, counted from its evidence folder."""
    store = EvidenceStore(evidence)
    return own_numbers(Table.read(store), store.context().golds)


def _same(
    document: dict[str, Any], known: Callable[[dict[str, Any]], bool], path: Path | None
) -> dict[str, Any]:
    if known(document):
        return document
    raise InputError(
        "other-log",
        what=f"{path} is not of the same format as the model's log",
        why="numbers that compare with gold need the same kind of log of both",
        fix="give gold's log as written by the same tool",
    )
