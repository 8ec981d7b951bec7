"""Processes that are killed at any moment: the same command ends in the same bits.

Each trial starts a command again and again, and kills it: after a random time, or right before a
random call that changes the disk. Then it lets the command end, and compares with a whole run.
Children are forked, so that they need not load the libraries.
"""

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from expunge.cli.main import main
from fuzzing.trials import NotHeldError, Trial
from tiny_world import World

DEADLINE = 300.0
"""Seconds after which a child hangs."""
CHANGES = frozenset(
    f"os.{name}"
    for name in ("rename", "remove", "mkdir", "rmdir", "chmod", "truncate", "link", "symlink")
)
WRITES = os.O_WRONLY | os.O_RDWR
CUT = 9
_TIMED = frozenset({"preregistration.json", "facts.json", "log.txt", "manifest.json", "run.json"})
"""Files that hold the time of day, or what they hold follows from one that does."""
_TIMED_ENDS = (".html", ".md", ".svg")


def cut_at(number: int) -> None:
    """Let this process end, as by a power cut, right before its n-th call that changes the disk."""
    left = number

    def count(*_: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os._exit(CUT)

    def heard(event: str, given: tuple[object, ...]) -> None:
        writes = event == "open" and isinstance(given[2], int) and given[2] & WRITES
        if event in CHANGES or (writes and given[0] != os.devnull):
            count()

    synced = os.fsync

    def sync(handle: int) -> None:
        count()
        synced(handle)

    os.fsync = sync
    sys.addaudithook(heard)


def in_child(act: Callable[[], object]) -> int:
    """Run something in a child, deaf and mute, and return its process id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        found = act()
        code = found if isinstance(found, int) else 0
    finally:
        os._exit(code)


def wait(child: int, *, until: float = DEADLINE) -> int | None:
    """Return the exit code of a child; None where it has not ended until then."""
    end = time.monotonic() + until
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Killed:
    """A command that is killed, and the folder that it writes."""

    name: str
    words: list[str]
    seconds: float
    """What the whole command took."""
    calls: int
    """How often the whole command changed the disk."""


def commands(world: World) -> dict[str, list[str]]:
    """Return commands by name; each writes the folder `run`."""
    short = {"train.steps": "6", "train.check_every": "1"}
    sets = {"audit.max_new_tokens": "6"}
    given = [word for key, value in sets.items() for word in ("--set", f"{key}={value}")]
    held = ["--against", world.data("forget"), "--original", world.original, "--goal", "removal"]
    data = ["--retain", world.data("retain"), "--neighbours", world.data("neighbours")]
    data += ["--gold", world.gold, *given, "--out", "run", "--offline"]
    training = ["--out", "run", "--device", "cpu", "--epochs", "2", "--batch", "4", "--offline"]
    return {
        "forget": world.command("--out", "run", **short),
        "audit": ["audit", world.gold, *held, *data],
        "attack": ["attack", world.original, *held, *data, "--only", "prefill-50"],
        "train": ["train", world.original, world.data("forget"), *training],
    }


def measured(name: str, words: list[str], place: Path) -> Killed:
    """Run a command whole, in a folder, and return how long that took.

    Raises:
        NotHeldError: It did not end well.
    """
    log = place / "calls"

    def act() -> int:
        counted = 0

        def heard(event: str, given: tuple[object, ...]) -> None:
            nonlocal counted
            writes = event == "open" and isinstance(given[2], int) and given[2] & WRITES
            counted += event in CHANGES or bool(writes)

        sys.addaudithook(heard)
        code = main(words)
        log.write_text(str(counted))
        return code

    began = time.monotonic()
    code = wait(in_child(act))
    if code != 0:
        raise NotHeldError(f"{name} ended with {code}")
    seconds, calls = time.monotonic() - began, int(log.read_text())
    log.unlink()
    return Killed(name=name, words=words, seconds=seconds, calls=calls)


def content(run: Path) -> dict[str, bytes]:
    """Return what must be equal bit for bit: weights, evidence, results, the log of all steps."""
    return {
        path.relative_to(run).as_posix(): _timeless(path)
        for path in sorted(run.rglob("*"))
        if path.is_file() and _is_timeless(path)
    }


def _timeless(path: Path) -> bytes:
    """Return what a file holds; what an attack wrote begins with a line on its cost."""
    data = path.read_bytes()
    return data.partition(b"\n")[2] if path.parent.name == "attacks" else data


def _is_timeless(path: Path) -> bool:
    timed = path.name in _TIMED or path.suffix in _TIMED_ENDS or path.parent.name == "points"
    # How long it took stands in these, too.
    return not (timed or path.name in ("training.json", "attack.json", "battery.json"))


def write_key(place: Path) -> None:
    """Write the operator's key: two folders are the same only under the same key."""
    (place / "operator.key").write_bytes(bytes(range(32)))
    (place / "operator.key").chmod(0o600)


def kills(done: Killed, whole: Path, seed: int, *, each: int = 4) -> Trial:
    """Return a trial that kills a command some times, and then lets it end.

    Args:
        done: The command.
        whole: The folder that it wrote when nobody killed it.
        seed: Of the moments.
        each: How often it is killed.
    """
    return Trial(
        what=f"{done.name}, {seed}",
        kind=done.name,
        run=lambda: _resumed(done, whole, random.Random(seed), each),
    )


def _resumed(done: Killed, whole: Path, draw: random.Random, each: int) -> str:
    killed = 0
    for _ in range(each):
        if draw.random() < 0.5:
            number = draw.randrange(1, max(2, done.calls))
            child = in_child(lambda number=number: (cut_at(number), main(done.words))[1])
            code = wait(child)
        else:
            child = in_child(lambda: main(done.words))
            code = wait(child, until=draw.random() * done.seconds)
            if code is None:
                os.kill(child, signal.SIGKILL)
                code = wait(child)
        killed += code in (CUT, -signal.SIGKILL)
        if code not in (0, CUT, -signal.SIGKILL):
            raise NotHeldError(f"ended with {code} after {killed} kills")
    code = wait(in_child(lambda: main(done.words)))
    if code != 0:
        raise NotHeldError(f"the last command ended with {code} after {killed} kills")
    ours, theirs = content(Path("run")), content(whole)
    different = {name for name in ours | theirs if ours.get(name) != theirs.get(name)}
    if different:
        raise NotHeldError(f"not the same bits after {killed} kills: {sorted(different)}")
    return f"{killed} kills"
