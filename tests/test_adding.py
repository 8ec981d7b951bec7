"""The checklists of CONTRIBUTING.md are complete: who follows one passes, who forgets a row fails.

A copy of the repository gets one thing by each checklist; the checks run before and after its rows.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COPIED = ("src", "tests", "docs/catalogue")
NOT_COPIED = shutil.ignore_patterns("__pycache__")


@dataclass(frozen=True, kw_only=True, slots=True)
class Touch:
    """One line of a checklist: text that goes before a place in a file, or at its end."""

    file: str
    text: str
    before: str = ""
    """Empty: at the end of the file, which is made where there is none."""

    def make(self, root):
        path = root / self.file
        old = path.read_text(encoding="utf-8") if path.is_file() else ""
        assert self.before in old, f"{self.file} no longer has the place of {self.text}"
        head, tail = old, ""
        if self.before:
            place = old.index(self.before)
            head, tail = old[:place], old[place:]
        path.write_text(head + self.text + tail, encoding="utf-8")


@dataclass(frozen=True, kw_only=True, slots=True)
class Addition:
    """What is added by one checklist, and the checks that see it."""

    written: tuple[Touch, ...]
    """The code, and its entry in the table of its kind."""
    rows: tuple[Touch, ...]
    """The rows in the table of tests and in the table of papers."""
    checks: tuple[str, ...]
    """Tests that fail while one row is missing: as many as rows, in their order."""
    inherited: tuple[str, ...]
    """Generic tests that the addition is put through."""


METHOD = Addition(
    written=(
        Touch(
            file="src/expunge/methods/slow_ascent.py",
            text='''"""Slow ascent: ascent with a small factor (arXiv:2210.01504).

    L = (c/N) sum_t log p(y_t)

Differs from published code: the factor.
"""

from dataclasses import dataclass
from typing import ClassVar

from expunge.methods.base import Recipe, Shape, Term, Trains, forget_term
from expunge.methods.graddiff import ascent


@dataclass(frozen=True, kw_only=True, slots=True)
class SlowAscent:
    """Gradient ascent with a factor."""

    family: ClassVar[str] = "ascent"
    advice: ClassVar[str] = "an example"
    recipe: ClassVar[Recipe] = Recipe(epochs=5, lr=1e-5, lr_lora=1e-4)

    factor: float = 0.1

    def terms(self, shape: Shape) -> tuple[Term, ...]:
        """Return the ascent term."""
        return (forget_term(ascent, self.factor, per="token"),)

    def trains(self, shape: Shape) -> Trains | None:
        """Leave the choice of weights to the user."""
        return None
''',
        ),
        Touch(
            file="src/expunge/methods/__init__.py",
            before="from expunge.methods.tnpo",
            text="from expunge.methods.slow_ascent import SlowAscent\n",
        ),
        Touch(
            file="src/expunge/methods/__init__.py",
            before='    "repnoise": RepNoise,\n',
            text='    "slow_ascent": SlowAscent,\n',
        ),
    ),
    rows=(
        Touch(
            file="tests/helpers/method_cases.py",
            before='    Case(name="rr"',
            text='    Case(name="slow_ascent", loses=ALONE),\n',
        ),
        Touch(
            file="docs/catalogue/papers.md",
            before="| ELM |",
            text="| slow ascent | arXiv:2210.01504 | `methods/slow_ascent.py` |"
            " `--method slow_ascent` |\n",
        ),
    ),
    checks=(
        "tests/methods/test_methods.py::test_the_table_of_cases_covers_every_method",
        "tests/docs/test_papers.py::test_every_method_is_in_the_papers[slow_ascent]",
    ),
    inherited=(
        "tests/methods/test_methods.py::test_every_method_declares_a_complete_loss[slow_ascent]",
    ),
)
METRIC = Addition(
    written=(
        Touch(
            file="src/expunge/metrics/efficiency.py",
            text='''

def saved_share(gold: float, run: float) -> float:
    """Return 1 - run / gold, the share of the cost of retraining that was saved."""
    return 1 - run / gold
''',
        ),
        Touch(
            file="src/expunge/metrics/registry/efficiency.py",
            before=')\n"""What belongs',
            text="""    Metric(
        id="saved-share",
        title="Saved share",
        meaning="Which share of the cost of retraining was saved.",
        axis=None,
        of=efficiency.saved_share,
        needs=(Need.GOLD,),
        better="higher",
        cost="a gold training",
        where="the library only",
    ),
""",
        ),
    ),
    rows=(
        Touch(
            file="tests/metrics/test_metrics.py",
            before='    "speed-up": (',
            text='    "saved-share": (lambda of: of(100.0, 20.0), 0.8),\n',
        ),
    ),
    checks=("tests/metrics/test_metrics.py::test_every_record_is_complete",),
    inherited=(
        "tests/metrics/test_metrics.py::test_every_metric_has_its_value_by_hand[saved-share]",
    ),
)
ATTACK = Addition(
    written=(
        Touch(
            file="src/expunge/attacks/prompting/polite.py",
            text='''"""Polite: ask with a please. Budget: one answer a fact (arXiv:2309.12288)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from expunge.attacks.base import Attempt
from expunge.attacks.target import Target
from expunge.data.records import Message, Record
from expunge.evidence.context import AttackMeta


@dataclass(frozen=True, kw_only=True, slots=True)
class Polite:
    """A please before the question."""

    meta: ClassVar[AttackMeta] = AttackMeta(family="asking", access="T1")

    word: str = "Please: "

    @property
    def name(self) -> str:
        """Return `polite`."""
        return "polite"

    def run(
        self, target: Target, used: Sequence[Record], tested: Sequence[Record]
    ) -> list[Attempt]:
        """Ask for each fact."""
        return target.ask(
            [
                target.worded(record, (Message("user", self.word + record.question),), variant="")
                for record in tested
            ]
        )
''',
        ),
        Touch(
            file="src/expunge/attacks/presets.py",
            before="from expunge.attacks.prompting.prefill",
            text="from expunge.attacks.prompting.polite import Polite\n",
        ),
        Touch(
            file="src/expunge/attacks/presets.py",
            before="    RolePlay(),\n",
            text="    Polite(),\n",
        ),
    ),
    rows=(
        Touch(
            file="tests/attacks/test_attacks.py",
            before='    "role-play": {},\n',
            text='    "polite": {},\n',
        ),
    ),
    checks=("tests/attacks/test_attacks.py::test_the_table_of_cases_covers_every_attack",),
    inherited=(
        "tests/attacks/test_attacks.py::test_every_attack_says_what_it_is[polite]",
        "tests/attacks/test_attacks.py::test_every_attack_leaves_the_model_as_it_was_and_depends_on_its_seed_alone[polite]",
    ),
)
BENCHMARK = Addition(
    written=(
        Touch(
            file="src/expunge/benchmarking/suites/pairs.py",
            text='''"""Pairs: two questions, one forgotten and one kept (arXiv:2401.06121)."""

from expunge.benchmarking.probe_outputs import ProbeOutputs
from expunge.benchmarking.suites.base import Spec, Suite, SuiteLocation, records
from expunge.evals.results import Score


def load(spec: Spec) -> Suite:
    """Read the questions."""
    place = SuiteLocation(root=spec.data, offline=spec.offline)
    read = records("pairs", place.rows("pairs.json", "", count=2))
    return Suite(name="pairs", forget=read[:1], retain=read[1:], numbers=numbers)


def numbers(heard: ProbeOutputs) -> list[Score]:
    """Return nothing: there are no probes."""
    return []
''',
        ),
        Touch(
            file="src/expunge/benchmarking/suites/__init__.py",
            before="from expunge.benchmarking.suites.base",
            text="from expunge.benchmarking.suites import pairs\n",
        ),
        Touch(
            file="src/expunge/benchmarking/suites/__init__.py",
            before='    "utility": ',
            text='    "pairs": SuiteEntry(load=pairs.load),\n',
        ),
    ),
    rows=(
        Touch(
            file="tests/benchmarking/test_suites.py",
            before='    "utility": "utility",\n',
            text='    "pairs": "pairs",\n',
        ),
        Touch(
            file="docs/catalogue/papers.md",
            before="| WMDP |",
            text="| pairs | arXiv:2401.06121 | `benchmarking/suites/pairs.py` |\n",
        ),
    ),
    checks=(
        "tests/benchmarking/test_suites.py::test_the_table_of_cases_covers_every_suite",
        "tests/benchmarking/test_suites.py::test_every_suite_that_forgets_is_in_the_papers[pairs]",
    ),
    inherited=(
        "tests/benchmarking/test_suites.py::"
        "test_every_suite_is_explained_and_refuses_a_folder_that_is_not_there[pairs]",
    ),
)
ADDITIONS = {"method": METHOD, "metric": METRIC, "attack": ATTACK, "benchmark": BENCHMARK}


def copy(root):
    for name in COPIED:
        shutil.copytree(ROOT / name, root / name, ignore=NOT_COPIED)
    shutil.copy(ROOT / "pyproject.toml", root)
    return root


def outcomes(root, checks):
    """Run checks in a process of their own that imports the copy; say which of them passed."""
    words = ["-p", "no:cacheprovider", "-p", "no:xdist", "-rA", "--durations=0", *checks]
    paths = {"PYTHONPATH": str(root / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        cwd=root,
        env={**os.environ, **paths},
        capture_output=True,
        text=True,
    )
    lines = {line.partition(" - ")[0] for line in done.stdout.splitlines()}
    found = {check: f"PASSED {check}" in lines for check in checks}
    ran = all(found[check] or f"FAILED {check}" in lines for check in checks)
    assert ran, done.stdout + done.stderr
    return found, done.stdout


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """What the checks say of all additions, without their rows and then with them."""
    root = copy(tmp_path_factory.mktemp("adding") / "copy")
    added = ADDITIONS.values()
    for touch in (touch for each in added for touch in each.written):
        touch.make(root)
    without = outcomes(root, [check for each in added for check in each.checks])
    for touch in (touch for each in added for touch in each.rows):
        touch.make(root)
    return without, outcomes(root, [c for each in added for c in (*each.checks, *each.inherited)])


@pytest.mark.parametrize("kind", ADDITIONS)
def test_the_checklist_is_complete_and_each_of_its_rows_is_missed(kind, followed):
    added, ((missed, said), (passed, said_then)) = ADDITIONS[kind], followed
    assert [check for check in added.checks if missed[check]] == [], said
    checks = (*added.checks, *added.inherited)
    assert [check for check in checks if not passed[check]] == [], said_then
