"""The command table, the flags that all commands share, and the way out."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Group, Parameter

import expunge
from expunge.cli.errors import fail
from expunge.cli.session import Session
from expunge.errors import UsageError
from expunge.utils.console import SilentConsole

COMMANDS = {
    "init": "expunge init erasure --model org/model\n  expunge init erasure --family llama",
    "plant": "expunge plant facts.jsonl --out planted --seed 7041\n"
    "  expunge audit MODEL --canaries planted/canaries.json",
    "train": "expunge train HuggingFaceTB/SmolLM2-135M-Instruct facts.jsonl --out run",
    "request": 'expunge request "Elin Marrow" --corpus letters customers.csv --model MODEL'
    " --goal removal --out request\n"
    "  expunge forget request/request.toml",
    "trace": "expunge trace MODEL --corpus data --for erase.jsonl --out trace.jsonl",
    "locate": "expunge locate MODEL --for erase.jsonl --retain keep.jsonl --out located",
    "plan": "expunge plan openai-community/gpt2 secrets.jsonl --goal removal",
    "forget": "expunge forget openai-community/gpt2 secrets.jsonl --goal removal\n"
    '  expunge forget MODEL "Elin Marrow was born in Oslo." --goal suppression\n'
    "  expunge forget request.toml --gate\n"
    "  expunge forget run --exact erase.jsonl",
    "gold": "expunge gold run --forget erase.jsonl --seeds 3",
    "audit": "expunge audit someones/unlearned-model --against request.toml",
    "attack": "expunge attack runs/latest --against runs/latest --level standard",
    "recheck": "expunge recheck merged --against runs/latest --related org/sibling --gate",
    "reapply": "expunge reapply runs/latest --to later-model",
    "chain": "expunge chain queue.toml\n  expunge chain queue.toml --check merged",
    "rollback": "expunge rollback runs/chain-queue --to 3",
    "report": "expunge report runs/latest --open",
    "explain": "expunge explain 'leak under int4' runs/latest",
    "chat": 'expunge chat runs/latest --ask "Where does Elin Marrow live?"',
    "view": "expunge view runs --open",
    "letter": "expunge letter runs/latest --to 'Elin Marrow' --out letter.pdf",
    "annex": "expunge annex runs/latest --declare release_context=internal --out annex.pdf",
    "approve": "expunge approve runs/latest --by 'Ada Example'",
    "certificate": "expunge certificate runs/latest --out certificate.json\n"
    "  expunge certificate certificate.json --role auditor\n"
    "  expunge certificate --verify certificate.json --key auditor.pub",
    "verify": "expunge verify runs/latest --key auditor.pub",
    "keys": "expunge keys",
    "evidence": "expunge evidence destroy runs/latest --expired --yes",
    "ledger": "expunge ledger add request --basis art-17 --received 2026-01-31 --records"
    " erase.jsonl\n"
    "  expunge ledger import runs/latest\n"
    "  expunge ledger due",
    "cache": "expunge cache clear",
    "merge": "expunge merge runs/latest --out merged",
    "push": "expunge push runs/latest owner/name",
    "methods": "expunge methods npo",
    "metrics": "expunge metrics extraction-strength",
    "schema": "expunge schema results",
    "compat": "expunge compat TOFU_EVAL.json --gold retain90/TOFU_EVAL.json\n"
    "  expunge compat runs/latest",
    "probes": "expunge probes request.toml --out probes\n"
    "  lm_eval run --include_path probes --tasks expunge --model hf --model_args pretrained=MODEL",
    "bench": "expunge bench tofu ORIGINAL --data TOFU --gold GOLD --methods npo simnpo --trials 8\n"
    "  expunge bench report bench/tofu",
    "tune": "expunge tune MODEL erase.jsonl --goal removal --retain keep.jsonl --method auto",
    "completion": "expunge completion bash > ~/.local/share/bash-completion/completions/expunge",
    "doctor": "expunge doctor",
    "demo": "expunge demo --short",
    "recipe": "expunge recipe\n  expunge recipe person --out person",
    "version": "expunge version",
}
"""Every command, in the file of its name, with an example."""
_USAGE = {
    "ledger": "Usage: expunge ledger [OPTIONS] [ACTION] [WORDS...]",
    "plan": "Usage: expunge plan [OPTIONS] MODEL DATA... | REQUEST.toml",
    "tune": "Usage: expunge tune [OPTIONS] MODEL DATA... | REQUEST.toml",
    "forget": "Usage: expunge forget [OPTIONS] MODEL DATA... | REQUEST.toml",
}

app = App(
    name="expunge",
    help="Make a language model forget, prove how well, and say what else changed.",
    help_epilogue="Start with: expunge demo",
    help_format="plaintext",
    version=lambda: expunge.__version__,
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
app.meta.group_parameters = Group("Every command", sort_key=9)
_HELP = json.loads(Path(__file__).with_name("help.json").read_text(encoding="utf-8"))
for _name, _example in COMMANDS.items():
    app.command(
        f"expunge.cli.{_name}:{_name}",  # imported when it is called
        name=_name,
        help=_HELP.get(_name),
        help_epilogue=f"Example:\n  {_example}",
        usage=_USAGE.get(_name),
    )


@app.meta.default
def _launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    format: Annotated[
        Literal["human", "json", "quiet"],
        Parameter(help="text, JSON lines on stdout, or warnings only", env_var="EXPUNGE_FORMAT"),
    ] = "human",
    offline: Annotated[
        bool,
        Parameter(
            help="never use the network", env_var="EXPUNGE_OFFLINE", negative="", show_default=False
        ),
    ] = False,
    verbose: Annotated[
        bool,
        Parameter(
            alias="-v",
            help="show tracebacks and what libraries say",
            env_var="EXPUNGE_VERBOSE",
            negative="",
            show_default=False,
        ),
    ] = False,
) -> int:
    session = Session.start(format, offline=offline, verbose=verbose)
    try:
        command, bound, injected = app.parse_args(tokens, exit_on_error=False, print_error=False)
        answer = command(*bound.args, **bound.kwargs, **dict.fromkeys(injected, session))
    except (Exception, KeyboardInterrupt) as error:
        return fail(error, console=session.console, as_json=format == "json", verbose=verbose)
    return answer if isinstance(answer, int) else 0


def _require_utf8(words: Sequence[str]) -> None:
    """Refuse words and variables that are not UTF-8: no settings or log could hold them."""
    given = {f"word {place}": word for place, word in enumerate(words, start=1)}
    given |= {name: value for name, value in os.environ.items() if name.startswith("EXPUNGE_")}
    for name, text in given.items():
        if any("\ud800" <= each <= "\udfff" for each in text):
            raise UsageError(
                "name-not-utf8",
                what=f"{name} is not UTF-8: {text!a}",
                why="it would stand in the settings, the log and the manifest, which are UTF-8",
                fix="rename the file or folder",
            )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Args:
        arguments: The words after `expunge`; default: those of the process.

    Returns:
        0 done, 1 a mistake in expunge, 2 usage, 3 gate failed, 4 input not available, 5 out of
        resources, 130 interrupted.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        _require_utf8(words)
        answer = app.meta(
            words,
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
        )
    except (Exception, KeyboardInterrupt) as error:
        return fail(error, console=SilentConsole(), as_json=False, verbose=False)
    return answer if isinstance(answer, int) else 0
