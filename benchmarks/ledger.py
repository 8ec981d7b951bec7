"""How long does a ledger of 10,000 requests take to verify, and one more entry to write?

    python benchmarks/ledger.py            # prints one line, and writes the results

The requests are invented, each with three records. Each figure is the middle of five.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

from expunge.ledger.entries import LegalBasis, RequestEntry
from expunge.ledger.store import Ledger
from expunge.ledger.verify import verify_ledger
from expunge.provenance.signature import SigningKey

RESULTS = Path(__file__).parent / "results" / "ledger.json"
REQUESTS, RECORDS, REPEATS = 10_000, 3, 5
BAR = 5.0
"""Seconds that `verify` may take."""


def request(number: int, keyed: Callable[[str], str]) -> RequestEntry:
    """Return an invented request."""
    received = date(2026, 1, 1) + timedelta(number % 365)
    return RequestEntry(
        basis=LegalBasis.ART_17,
        received=received,
        due=received + timedelta(30),
        reference=keyed(f"request {number}"),
        records=tuple(keyed(f"record {number} {place}") for place in range(RECORDS)),
    )


def timed(act: Callable[[], object]) -> float:
    """Return the seconds that something takes, the middle of several."""
    seconds: list[float] = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        act()
        seconds.append(time.perf_counter() - started)
    return round(statistics.median(seconds), 2)


def main() -> None:
    """Fill a ledger, and measure."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "ledger.db")
        ledger = Ledger(path, key=bytes(32), signing=SigningKey(seed=bytes(32)))

        def enter(count: int) -> None:
            with ledger.writing() as writer:
                for number in range(count):
                    writer.add(request(number, writer.keyed))

        enter(REQUESTS)
        found = verify_ledger(path)
        row = {
            "entries": found.entries,
            "mib": round(path.stat().st_size / 2**20, 1),
            "verify_s": timed(lambda: verify_ledger(path)),
            "write_s": timed(lambda: enter(1)),
            "bar_s": BAR,
            "ok": found.ok,
        }
    print(json.dumps(row))
    RESULTS.write_text(json.dumps(row, indent=1) + "\n")


if __name__ == "__main__":
    main()
