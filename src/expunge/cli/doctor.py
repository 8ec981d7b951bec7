"""`expunge doctor`: the facts to paste into a bug report."""

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
