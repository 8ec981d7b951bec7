"""The suites: which sets of a public benchmark are forgotten and kept, and which probes follow."""

from collections.abc import Mapping

from expunge.benchmarking.suites import muse, rwku, social, tofu, utility, wmdp
from expunge.benchmarking.suites.base import Spec, Suite, SuiteEntry
from expunge.errors import UsageError

SUITES: Mapping[str, SuiteEntry] = {
    "tofu": SuiteEntry(load=tofu.load, hub="locuslab/TOFU"),
    "muse": SuiteEntry(load=muse.load, hub="muse-bench/MUSE-News", own_text=("keep",)),
    "wmdp": SuiteEntry(
        load=wmdp.load, hub="cais/wmdp", own_text=("corpus", "keep"), known=wmdp.KNOWN
    ),
    "rwku": SuiteEntry(load=rwku.load, own_text=("keep",), known=rwku.KNOWN),
    "utility": SuiteEntry(load=utility.load, forgets=False),
    "social": SuiteEntry(load=social.load, forgets=False),
}
"""Every suite by name, those that forget first."""


def load_suite(spec: Spec) -> Suite:
    """Read a suite.

    Raises:
        UsageError: There is no such suite, or no such part of it.
        InputError: Its data are missing, or not those that were published.
    """
    if spec.name not in SUITES:
        raise UsageError(
            "unknown-suite",
            what=f"there is no suite {spec.name!r}",
            why=f"expunge knows {', '.join(SUITES)}",
            fix="name one of these, or a request file ending in .toml",
        )
    return SUITES[spec.name].load(spec)
