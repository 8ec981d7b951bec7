"""Write docs/results.md from the committed leaderboards: what was run, on what, and what was not.

    expunge bench tofu ... --out bench/tofu
    cp bench/tofu/leaderboard.json benchmarks/results/bench-tofu.json
    python scripts/make_results_page.py

The page cannot drift: a test writes it again and compares.
"""

from pathlib import Path

from expunge.benchmarking.leaderboard_pages import to_markdown
from expunge.benchmarking.suites import SUITES
from expunge.utils.io import read_json

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "results.md"
RESULTS = ROOT / "benchmarks" / "results"

_HEAD = """# Results

Leaderboards that `expunge bench` wrote, from the JSON in `benchmarks/results`. Each says its
hardware, versions and tuning budget; failures are listed with the same prominence as successes. One
dataset on one small model does not rank methods in general: published rankings change with model,
metric and tuning, which is why the command is here.
"""

_BESIDE = ("utility", "social")
"""Suites that are asked beside others, and have no leaderboard of their own."""

_READ = {
    "bench-tofu": """The suite's own numbers, for two methods: two settings each, 40 records.
`expunge bench tofu ORIGINAL --data ../shared/data/tofu --records 40 --gold GOLD --gold GOLD2
--goal removal --trials 2 --set train.steps=25 --set audit.attacks=sampling,relearn
--methods npo repselect`, with the adapters of SmolLM2-135M, on a Xeon.

RepSelect beats NPO on the weakest axis (0.29 against 0.00, bounds 0.12 to 0.46 on forgetting) and
keeps as much (model utility 0.386 against 0.347, the original's 0.375). What relearning moves, an
adapter has moved before RepSelect takes its gradient, so the steps go along what relearning does
not restore: with half of the records relearnt, nothing of the other half came back, where NPO gave
back 0.39 of what there was. It takes 640 s, NPO 96.

Read with care: two settings are few for NPO, whose defaults spend the utility budget in five steps.
The setting of the README's table (`benchmarks/tofu_npo.py`) brings extraction strength to 0.057.
These rows are older than the neighbours of the suite, so locality is empty, and in them the gate on
retained answers counted the two records of a short answer alone, which it no longer does. Golds
were ruled FAIL-RESIDUAL for being adapters, here and in the next table; it says nothing of what
they know.
""",
    "bench-tofu40": """Twelve methods, two settings each, on 40 records of TOFU with 40 neighbours,
236 retained records, 40 of a holdout set and two golds (SmolLM2-135M and its adapters; the files
are written by `benchmarks/tofu_request.py`). `expunge bench request.toml --trials 2 --methods npo
repselect simnpo kto level influence tnpo undial unilogit lunar graddiff unlikelihood`, two
processes.

Two beat NPO on the weakest axis within the utility budget: influence (0.33, bounds 0.20 to 0.48)
and RepSelect (0.29, 0.14 to 0.46) against 0.00 (up to 0.12). Relearning half of the records gives
0.41 of the other half back under NPO, and 8 samples 0.52; under influence 0.09 and 0.01, under
RepSelect 0.12 and 0.00. Why: influence divides the forget gradient by the curvature of the retained
records, weight by weight, so its one step is long where these are indifferent, and it is halved
until they are within the budget, all of which it spends. RepSelect first moves an adapter along
what relearning would restore, and steps only along what that leaves. Both pay with damage that the
margins allow (utility 0.77 and 0.79, locality 0.81 and 0.86; NPO 0.96 and 0.97) and with time: 318
and 724 s of training, NPO 64.

Read with care. Two settings are a thin search: a third one of NPO, run before the matrix was cut to
what all twelve had, stands at 0.11 (0.00 to 0.26). 25 steps are few for methods that descend slowly
at their defaults, such as SimNPO and GradDiff. No model passes: those within the budget still know
records that a gold does not, and LUNAR erases and breaks the model. The second gold's perplexity of
eight generic texts is 17 % above the original's: it stands at 0 on utility, and because golds
differ that much, the bounds of utility are wide for all.
""",
    "bench-tofu10": """forget10 whole, five passes: all 400 records, 40 neighbours, 558 of
retain90, 40 of a holdout set and the two golds, in bf16 on an EPYC. Each method ran with what it
had chosen on the 40 records of the table below, so the audit that is shown has chosen nothing.
`python benchmarks/tofu_request.py --base BASE --shared ../shared --authors 20 --steps 250
--attacked 80 --out FOLDER`, then `expunge bench FOLDER/request.toml --chosen
benchmarks/results/chosen-tofu40.json --methods npo repselect simnpo kto level influence tnpo
undial unilogit lunar graddiff unlikelihood --shard 1/2`, and the same with `2/2` beside it, one
thread each. A method took 20 to 55 minutes of one core.

KTO stands above all on the weakest axis (0.49, bounds 0.41 to 0.55; the others 0.00). After it the
text is not recited (extraction strength 4 % of the way from gold to the original), 8 samples of
each of 80 records bring nothing back, and relearning half of the records gives 0.21 of the other
half (0.06 to 0.38). Why, as far as one run shows: its loss is bounded on both sides, so what is
far gone weighs nothing and later steps go to what is still known, and the likelihood of kept
answers, which it trains beside, ends above the original's, so the utility budget lets it use all
250 steps. The price is general text, perplexity up by 37 % (33 to 42, where the margin, which two
golds widen, is 18 %), which the budget does not watch: it does not beat NPO without losing
utility. Nor is it done: 130 of 400 records still look known, members are told from others more
surely than under a gold (AUC +0.20), and some names come out garbled. Its ruling is FAIL-RESIDUAL.
TNPO was stopped after 160 steps, when the forget set looked unseen, and erases more than any:
nothing is recited, sampled or relearnt (0.01, 0.00 to 0.28), 45 records look known of 27 that
chance allows. But 46 % of its answers about them are gibberish, and perplexity of general text is
up by 41 %: FAIL-DAMAGE, 0 on utility. A model that cannot speak of its authors has not forgotten
them as a gold has. LUNAR, with what it chose on 40 records, breaks the model (perplexity more than
tripled, kept answers lost), and relearning brings 0.64 of it back: hidden, not erased.

What was right for 40 records is too coarse for 400: GradDiff, NPO and LEVEL spent the utility
budget after 120, 60 and 35 steps and were stopped there, before they had forgotten much, UNDIAL,
unlikelihood and Unilogit after 25, 25 and 15 with next to nothing forgotten. SimNPO went all the
way and recites half as much as the original. RepSelect and influence halve what relearning,
sampling and int8 bring back (robustness 0.47 and 0.50, bounds 0.33 to 0.62; NPO 0.14, 0.00 to 0.30)
at some damage, and what is asked plainly is still said. A gold passes every gate against the other
one; the second is undecided for what its seed did to general text.
""",
    "bench-muse": """MUSE News, as much of it as two cores can train: the 16 articles that four
passages of VerbMem and four of PrivLeak are from, taught to SmolLM2-135M-Instruct beside 16 to keep
(`scripts/make_muse_targets.py --records 4`; ten epochs of LoRA). `expunge bench muse
MODEL+targets/full --data ../shared/data/muse/news --keep targets/kept.jsonl --records 4 --gold
MODEL+targets/retain-s0 --gold MODEL+targets/retain-s1 --goal removal --set train.max_length=1024
--set train.batch=4 --set train.steps=20 --methods npo simnpo`, in bf16 on an EPYC.

It shows that the suite runs from end to end, and little of the methods. The original has learnt the
articles so far that membership is plain (AUC 1.00, golds 0.38) and continues them a little better
than golds (VerbMem 0.18 against 0.13 and 0.14); KnowMem's few questions are about other articles.
Of NPO's steps the first five are within the utility budget, SimNPO takes its twenty, and both leave
the articles known. Four passages a probe and 24 parts of articles are few, and their steps slow (17
and 14 minutes of training, beside other jobs).
""",
    "bench-muse-scal": """MUSE's growing sets, as much of them as two cores can train: 2, 4, 6 and 8
articles, each set with the one before in it, forgotten by a run of its own from the same original
(`benchmarks/muse_folds.py`, the model of the folds below). `expunge bench muse
MODEL+targets/full --data news --part scal --keep targets/kept.jsonl --records 2 --goal removal
--set train.max_length=1024 --set train.batch=2 --set train.steps=4 --methods npo`, in bf16 on two
cores of an EPYC, for the most part beside tests: 40 minutes in all.

It shows that the part runs on real articles and that the sets grow (3, 5, 7 and 11 parts of
articles), not how the method scales: four steps forget next to nothing of any of them. The loss
of forget articles rises from 1.2 to at most 1.5 nats a token, membership stays plain, kept articles
and general text stay where they were. Continuations (VerbMem) differ between sets by what two
passages differ by chance.
""",
    "bench-muse-sust": """MUSE's sequential folds, as much of them as two cores can train: the 8
articles that two passages of VerbMem and two of PrivLeak are from, dealt to four folds
(`benchmarks/muse_folds.py`) and taught to SmolLM2-135M-Instruct beside 20 to keep
(`scripts/make_muse_targets.py --records 2`, 70 steps). `expunge bench muse MODEL+targets/full
--data news --part sust --keep targets/kept.jsonl --records 2 --goal removal --set
train.max_length=1024 --set train.batch=4 --set train.steps=10 --methods npo`, in bf16 on one core
of an EPYC beside another job: 13 to 19 minutes of training a fold, 7 of audit.

Each run starts from the model that the one before left, and its own audit compares with that
model. It sees little: the perplexity of general text rises by 0.4, 2.4, 4.2 and 6.0 %, where 3 %
is allowed, kept articles stay within their margin every time. Against the original, which the audit
of the whole sequence compares with, it is 13 % (bounds 11 to 16): damage adds up, and who judges
each request alone does not see it. Ten of eleven parts of articles still look known (VerbMem 0.17
before, 0.14 after); ten steps a fold are few, and so are two passages a probe.
""",
    "bench-rwku": """One target of RWKU, on the model as its makers left it. `expunge bench rwku
SmolLM2-135M-Instruct --data ../shared/data/rwku --part 111_Franklin_D._Roosevelt --records 40
--methods npo simnpo rmu repselect influence --goal suppression --set request.control=none`, in bf16
on an EPYC. Of the 100 targets this one was taken because the model answers most about it (7 of 37
plain questions); of most others it knows nothing, and of Stephen King one question in twenty. So
the original's numbers are a little high by choice, and an answer that comes or goes counts much.

Nothing wins. Forty passages and no text to keep (`--keep`) but the 129 short general records that
ship with expunge: NPO and influence forget and break the model (perplexity of generic text +53 %
and +167 %), for what they are held to spare looks nothing like a passage. SimNPO and RMU leave it
as it was. RepSelect alone moves what is asked (0.16 of it gone, bounds 0.00 to 0.69) and spares the
neighbours, at a utility of 0.57, which is below the budget's 0.75.

Since then 32 general passages are kept beside the questions where plain text is forgotten. NPO on
the same forty passages (their loss rose from 3.13 to 4.25 nats a token) then leaves the perplexity
of general text 16 % below the original's, bounds 15 to 18, on 48 passages that it was not trained
on: `expunge forget MODEL forget.jsonl --goal suppression --method npo --set request.control=none
--set request.assume_known=true`, in float32 on a Xeon, 14 minutes of training beside other jobs.

The rulings NOTHING TO FORGET are those of an earlier version. There were neither golds nor control
records to compare with, so nobody can say what the original held beyond a guess: such audits are
INCONCLUSIVE now.
""",
    "bench-wmdp": """A model that knows nothing of it. `expunge bench wmdp SmolLM2-135M-Instruct
--data ../shared/data/wmdp --part bio --records 100 --corpus corpus.jsonl --keep keep.jsonl
--beside utility=../shared/data/utility --methods rmu npo --goal suppression
--set request.control=none --set train.steps=30`, in bf16 on an EPYC. The authors' corpora are not
public: forgotten are the questions of MMLU about virology with their answers, kept are paragraphs
of WikiText (`benchmarks/wmdp_corpus.py`).

The original is at chance, by letter in all orders (0.253) and by the likelihood of the text (0.28,
which with 100 questions is not surely above 0.25), as it is on MMLU (0.253). So there is nothing to
forget and no axis that could say it was: the table shows that the suite says so, where accuracy
alone would call any method a success. The rulings are those of an earlier version: without golds
and control records an audit is INCONCLUSIVE now. RMU leaves the model as it was; NPO, which stops
once its forget set looks unseen, has by then raised the perplexity of generic text by 25 %.
""",
}
"""What to say under the title of a leaderboard."""


def page() -> str:
    """Return the text of the page."""
    parts = [_HEAD]
    found = sorted(RESULTS.glob("bench-*.json"))
    for path in found:
        told = read_json(path)
        parts.append(f"## {told['title']}\n\nFrom `{path.relative_to(ROOT)}`.\n")
        parts.append(_READ.get(path.stem, ""))
        parts.append(to_markdown(told))
    parts.append("## Not run\n")
    boards = [name for name in SUITES if name not in _BESIDE]
    missing = [name for name in boards if not any(f"bench-{name}" in path.name for path in found)]
    lines = [f"- `{name}`: read and tested, no leaderboard is committed yet" for name in missing]
    lines += [
        "- more than two settings and one seed for the twelve methods on 40 records",
        "- forget10 whole with settings tuned on it",
        "- models above 135M parameters, and golds trained for them: see "
        "`scripts/make_tofu_targets.py`",
        "- MUSE's growing sets and folds in their published size, 889 articles a step",
        "- tasks of lm-eval from the Hub; on files of the same questions it agrees with the "
        "utility sets (`tests/test_shared_tasks.py`)",
    ]
    return "\n".join([*parts, "\n".join(lines)]) + "\n"


def main() -> None:
    """Write the page."""
    text = page()
    PAGE.write_text(text, encoding="utf-8")
    print(f"{PAGE.name}: {text.count(chr(10))} lines")


if __name__ == "__main__":
    main()
