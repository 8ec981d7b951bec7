"""`expunge version`."""

import expunge
from expunge.cli.session import Given


def version(*, session: Given) -> int:
    """Show the version."""
    session.console.line("expunge", expunge.__version__)
    session.console.event("version", {"version": expunge.__version__})
    return 0
