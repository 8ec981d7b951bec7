"""The five gated axes, one file each."""

from expunge.evals.axes.forgetting import forgetting_gates
from expunge.evals.axes.privacy import privacy_gates
from expunge.evals.axes.robustness import robustness_gates
from expunge.evals.comparison import Comparison
from expunge.evals.results import Gate


def erasure_gates(case: Comparison) -> tuple[Gate, ...]:
    """Return the gates that ask whether the data is gone: forgetting, privacy, robustness."""
    return (*forgetting_gates(case), *privacy_gates(case), *robustness_gates(case))
