"""The demo: write the register to files, then do the main job on it like any user."""

from pathlib import Path

from expunge.config.request import Goal, Request
from expunge.config.settings import AuditSettings, MethodSettings, Settings, TrainSettings
from expunge.data.records import Record
from expunge.data.splits import general_records
from expunge.demo.base import base_model
from expunge.demo.people import ERASED, register
from expunge.pipeline.forget import RUNS, RunOutcome, forget
from expunge.preparation.prepare import cache_folder
from expunge.utils.console import Console, SilentConsole
from expunge.utils.io import write_jsonl

ADAPTERS = Path(__file__).with_name("adapters")
GENERAL = 24
"""General questions among the records to keep, so that ordinary answers stay as they are."""
SETS = {"forget": "erased", "neighbours": "neighbour", "retain": "other", "control": "control"}
"""Set of the request to role in the register."""


def demo(
    *, out: Path | None = None, short: bool = False, console: Console | None = None
) -> RunOutcome:
    """Erase one invented person from a real 135M model that learnt about her, and show it.

    Args:
        out: Run folder; by default below `runs`.
        short: Fewer steps and one gold, to see that everything works.
        console: Where to say what happens; silent by default.

    Raises:
        InputError: The base model cannot be had.
    """
    console = console or SilentConsole()
    base = base_model(cache_folder(), offline=False, console=console)
    data = write_register(RUNS / "demo-data")
    console.line("request", f"{ERASED} asks to be forgotten; her register entries are {data}/")
    return forget(demo_settings(base, data, out=out, short=short), console=console)


def demo_settings(base: Path, data: Path, *, out: Path | None, short: bool) -> Settings:
    """Return the settings of the demo.

    Args:
        base: Folder of the base model.
        data: Folder that `write_register` wrote.
        out: Run folder, or None.
        short: Fewer steps and one gold.
    """
    golds = ("gold-0",) if short else ("gold-0", "gold-1")
    return Settings(
        model=f"{base}+{ADAPTERS / 'original'}",
        out=None if out is None else str(out),
        request=Request(
            goal=Goal.REMOVAL,
            id="demo-erasure",
            forget=(str(data / "forget.jsonl"),),
            retain=(str(data / "retain.jsonl"),),
            neighbours=(str(data / "neighbours.jsonl"),),
            control=(str(data / "control.jsonl"),),
            gold=tuple(f"{base}+{ADAPTERS / name}" for name in golds),
        ),
        method=MethodSettings(name="counterfactual") if short else MethodSettings(),
        train=TrainSettings(steps=4) if short else TrainSettings(),
        audit=AuditSettings(max_new_tokens=24, retain_records=36),
    )


def write_register(folder: Path) -> Path:
    """Write the register as the files of a request, and return the folder."""
    people = register()
    for name, role in SETS.items():
        general = general_records()[:GENERAL] if name == "retain" else ()
        rows = (_row(record) for record in (*people[role], *general))
        write_jsonl(folder / f"{name}.jsonl", rows)
    return folder


def _row(record: Record) -> dict[str, object]:
    return {
        "id": record.id,
        "prompt": [message._asdict() for message in record.prompt],
        "completion": record.completion,
        "key_answers": list(record.key_answers),
        "alternative": list(record.alternatives),
        "paraphrases": list(record.paraphrases),
        "subject": record.subject,
        "relation": record.relation,
    }
