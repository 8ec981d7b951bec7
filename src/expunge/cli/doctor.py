"""`expunge doctor`: the facts to paste into a bug report.

`expunge version`.
"""

from expunge.cli.session import Given, quiet_libraries
from expunge.utils.system import diagnose


def doctor(*, session: Given) -> int:
    """Show versions, devices, memory, caches and the state of the network; safe to paste."""
    quiet_libraries(verbose=session.verbose)
    facts = diagnose(offline=session.offline)
    for label, text in facts:
        session.console.line(label, text)
    session.console.event("doctor", dict(facts))
    return 0


def version(*, session: Given) -> int:
    """Show the version."""
    session.console.line("expunge", installed_version())
    session.console.event("version", {"version": installed_version()})
    return 0


def installed_version() -> str:
    """Return the version of the installed package."""
    import expunge

    return expunge.__version__
