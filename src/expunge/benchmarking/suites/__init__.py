"""The suites: which sets of a public benchmark are forgotten and kept, and what is asked after."""

from collections.abc import Callable, Mapping

from expunge.benchmarking.suites import muse, rwku, social, tofu, utility, wmdp
from expunge.benchmarking.suites.base import KnownSet, Spec, Suite
from expunge.errors import UsageError

SUITES: Mapping[str, Callable[[Spec], Suite]] = {
    "tofu": tofu.load,
    "muse": muse.load,
    "wmdp": wmdp.load,
    "rwku": rwku.load,
    "utility": utility.load,
    "social": social.load,
}
"""The last two only ask: they stand beside any of the others and have nothing to forget."""

HUB: Mapping[str, str] = {
    "tofu": "locuslab/TOFU",
    "muse": "muse-bench/MUSE-News",
    "wmdp": "cais/wmdp",
}
"""Where the data of a suite lie when no folder is given; the others are read from a folder."""

OWN_TEXT: Mapping[str, tuple[str, ...]] = {
    "tofu": (),
    "muse": ("keep",),
    "wmdp": ("corpus", "keep"),
    "rwku": ("keep",),
}
"""Which text of the user's own a suite reads: `--corpus` is forgotten, `--keep` is kept."""


KNOWN: Mapping[str, tuple[KnownSet, ...]] = {"rwku": rwku.KNOWN, "wmdp": wmdp.KNOWN}
"""What tells how much of what is forgotten is known, where no original recites it."""


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
    return SUITES[spec.name](spec)
