"""The verb `probes`: the questions of an audit as tasks of lm-eval, for any model that it loads."""

from dataclasses import replace
from pathlib import Path

from expunge.config.settings import Settings
from expunge.data.splits import gather
from expunge.errors import UsageError
from expunge.evidence.collect import with_key_spans
from expunge.interop.lm_eval_group import GROUP, TaskGroup, write_task_group
from expunge.models.loading import load_tokenizer
from expunge.pipeline.run_folder import evidence_of
from expunge.preparation.prepare import encoder_of, source_of
from expunge.utils.console import Console, SilentConsole
from expunge.utils.file_names import EVIDENCE
from expunge.utils.io import AnyPath


def probes(
    settings: Settings, *, out: AnyPath, run: AnyPath | None = None, console: Console | None = None
) -> TaskGroup:
    """Write the questions of a request as a task group of lm-eval; no model is loaded.

    Args:
        settings: The request, and the model whose tokenizer says how questions are written.
        out: Folder of the tasks; must be new or empty. It holds the records: keep it private.
        run: A run of the request; the facts that its audit found in answers are asked for.
        console: Where to say what happens; silent by default.

    Raises:
        UsageError: `out` is in use.
        InputError: Data or tokenizer are not there, or no record can be asked.

    Example:
        >>> from expunge import Request, Settings
        >>> request = Request(goal="removal", forget=("forget.jsonl",))
        >>> settings = Settings(model="org/model", request=request)
        >>> probes(settings, out=Path("probes"))  # doctest: +SKIP
    """
    out = Path(out)
    run = None if run is None else Path(run)
    console = console or SilentConsole()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(
            "folder-in-use",
            what=f"{out} is not empty; nothing was changed there",
            why="lm-eval reads every task in a folder",
            fix="choose another folder with --out",
        )
    scope = gather(settings.request, offline=settings.offline)
    if run is not None and (run / EVIDENCE).is_dir():
        store = evidence_of(run)
        if store.begun():
            scope = replace(scope, forget=with_key_spans(scope.forget, store))
    chat = encoder_of(settings, load_tokenizer(settings.model, source_of(settings))).chat
    group = write_task_group(scope, out, chat=chat, length=settings.audit.max_new_tokens)
    for name, count in group.tasks.items():
        console.line("task", f"{name}: {count} questions")
    if group.left_out:
        console.warn(
            f"{group.left_out} records of several turns are left out: lm-eval writes one user turn"
            " with a chat template"
        )
    console.line("wrote", f"{out}/   holds the records: private")
    words = f"lm_eval run --include_path {out} --tasks {GROUP}"
    words += " --apply_chat_template" if chat else ""
    console.line("next", f"{words} --model hf --model_args pretrained=MODEL")
    return group
