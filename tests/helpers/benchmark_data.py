"""Where the published benchmark data lie, if they do."""

from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


needs_data = pytest.mark.skipif(
    not DATA.is_dir(), reason="the benchmark data do not lie beside the checkout"
)
