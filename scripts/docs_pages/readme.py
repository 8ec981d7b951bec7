"""The generated part of the README: what there is, counted in the registries."""

from docs_pages.attacks import every
from docs_pages.registries import EVERY, METHOD_FAMILIES, METRICS, SUITES, WRAPPERS


def features() -> str:
    """Return one line for each part of the catalogue."""
    wrappers = sum(len(kinds) for kinds, _ in WRAPPERS.values())
    benches = [name.upper() for name, entry in SUITES.items() if entry.forgets]
    lines = (
        f"[{len(EVERY)} methods](docs/catalogue/methods/index.md) in {len(METHOD_FAMILIES)} "
        "families: gradient, preference, distillation, editing, guards.",
        f"[{wrappers} wrappers](docs/catalogue/wrappers.md) that compose with any method.",
        f"[{len(every())} attacks](docs/catalogue/attacks.md): prompts, sampling, fine-tuning, "
        "quantisation, hidden states.",
        f"[{len(METRICS)} metrics](docs/catalogue/metrics.md) on five axes.",
        f"[{len(benches)} benchmarks](docs/catalogue/suites.md): {', '.join(benches)}.",
    )
    return "".join(f"- {line}\n" for line in lines)
