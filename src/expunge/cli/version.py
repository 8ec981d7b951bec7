"""`expunge version`."""

from expunge.cli.session import Given


def version(*, session: Given) -> int:
    """Show the version."""
    session.console.line("expunge", installed_version())
    session.console.event("version", {"version": installed_version()})
    return 0


def installed_version() -> str:
    """Return the version of the installed package."""
    import expunge

    return expunge.__version__
