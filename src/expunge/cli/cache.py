"""`expunge cache`: what earlier runs left for later ones."""

from typing import Annotated, Literal

from cyclopts import Parameter

from expunge.cli.session import Given


def cache(
    action: Annotated[Literal["show", "clear"], Parameter(help="show or clear")] = "show",
    /,
    *,
    session: Given,
) -> int:
    """Show or clear the answers of original and golds that later runs use again.

    They are encrypted under the operator's key. Runs ask again for what is not there.
    """
    from expunge.evidence.answer_cache import answers_folder, cached, clear

    folder, console = answers_folder(), session.console
    held = clear(folder) if action == "clear" else cached(folder)
    label = "cleared" if action == "clear" else "answers"
    size = f"{held.size / 1024**2:.1f} MiB"
    console.line(label, f"{size} of {held.places} models and record sets in {folder}")
    console.event("done", {"folder": folder, "places": held.places, "bytes": held.size, "exit": 0})
    return 0
