"""The catalogue that `expunge methods` and the first checks of a command read, from the code."""

import json
from dataclasses import asdict

from docs_pages.registries import (
    EVERY,
    METHOD_FAMILIES,
    SUITES,
    WRAPPERS,
    Catalogue,
    OwnPrompts,
    build,
    describe,
    described_wrappers,
    presets,
)


def text() -> str:
    """Return the text of `catalogue.json`."""
    found = Catalogue(
        families=METHOD_FAMILIES,
        methods=tuple(describe(name, build(name, {})) for name in EVERY),
        tables={table: meaning for table, (_, meaning) in WRAPPERS.items()},
        wrappers=tuple(described_wrappers()),
        attacks=(*presets.attack_names(), OwnPrompts(prompts=()).name),
        asked_of_few={attack.name: repr(attack) for attack in presets.OTHER_FORMS},
        suites=tuple(SUITES),
    )
    return json.dumps(asdict(found), indent=1, ensure_ascii=False) + "\n"
