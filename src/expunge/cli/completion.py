"""`expunge completion`: what a shell needs to complete commands and flags."""

import sys
from typing import Annotated, Literal

from cyclopts import Parameter

from expunge.cli.session import Given


def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], Parameter(help="which shell")],
    /,
    *,
    session: Given,
) -> int:
    """Print the completion script of a shell; nothing of yours is changed."""
    from expunge.cli.main import app  # which has this command: known only now

    sys.stdout.write(app.generate_completion(prog_name="expunge", shell=shell) + "\n")
    return 0
