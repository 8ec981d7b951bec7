"""Every way a command can fail, in one table: exit code, message of at most five lines."""

import errno
import os
import sys
import traceback
from collections.abc import Callable, Iterator

from cyclopts import CycloptsError

from expunge.cli.session import leads
from expunge.errors import (
    ExpungeError,
    InputError,
    Interrupted,
    ResourceError,
    UsageError,
    is_out_of_memory,
)
from expunge.utils.console import Console
from expunge.utils.io import NO_SPACE, printable

_LONGEST_LINE = 400
_REFUSED = frozenset(
    {
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.ENAMETOOLONG,
        errno.ELOOP,
        errno.ENOENT,
        errno.EEXIST,
    }
)
"""What the system says of a place where nothing can be read or written."""
_SAID_ONCE = frozenset({"process-ended", "interrupted"})


def fail(
    error: Exception | KeyboardInterrupt, *, console: Console, as_json: bool, verbose: bool
) -> int:
    """Say on stderr why a command failed and return its exit code.

    Args:
        error: What the command raised.
        console: Told the failure as an `error` event.
        as_json: Whether the console shows events.
        verbose: Show the traceback, too.
    """
    if isinstance(error, BrokenPipeError):
        # Whoever read the output has gone; the interpreter's last flush must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Interrupted.exit_code
    if verbose:
        traceback.print_exception(error, file=sys.stderr)
    known = explain(error)
    if known.code in _SAID_ONCE and not leads():
        return known.exit_code  # of several processes one says it
    if as_json:
        row = {"code": known.code, "what": known.what, "why": known.why, "fix": known.fix}
        console.event("error", {**row, "exit": known.exit_code})
    sys.stderr.write(f"{_shown(known)}\n")
    return known.exit_code


def explain(error: BaseException) -> ExpungeError:
    """Return the error itself if it explains itself, or else what the user should know about it."""
    for link in _chain(error):
        if isinstance(link, ExpungeError):
            return link
        for name in (f"{kind.__module__}.{kind.__qualname__}" for kind in type(link).__mro__):
            if name in _FOREIGN:
                return _FOREIGN[name](link)
        if isinstance(link, OSError) and link.errno in NO_SPACE:
            return _disk(link)
        if isinstance(link, OSError) and link.errno in _REFUSED and link.filename is not None:
            return _refused(link)
        if is_out_of_memory(link):
            return _memory(link)
    return ExpungeError(
        "bug",
        what=f"{type(error).__name__}: {error}",
        why="this is a mistake in expunge, not in your request",
        fix="report it with the output of `expunge doctor`; run again with -v for the traceback",
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__


def _shown(error: ExpungeError) -> str:
    lines = (f"error[{error.code}]: {error.what}", f"  why: {error.why}", f"  fix: {error.fix}")
    return "\n".join(_one_line(line) for line in lines)


def _one_line(text: str) -> str:
    indent = text[: len(text) - len(text.lstrip())]
    joined = indent + printable(" ".join(text.split()))
    return joined if len(joined) <= _LONGEST_LINE else joined[: _LONGEST_LINE - 1] + "…"


def _usage(error: BaseException) -> ExpungeError:
    return UsageError(
        "usage",
        what=str(error),
        why="the command line was not understood; nothing was done",
        fix="see `expunge --help`, or `expunge COMMAND --help` with an example for each command",
    )


def _memory(error: BaseException) -> ExpungeError:
    return ResourceError(
        "out-of-memory",
        what=f"memory ran out ({type(error).__name__})",
        why="model, batch or context do not fit; finished work is kept",
        fix="halve --set train.tokens_per_pass=2048, leave --full away, or take a larger machine",
    )


def _disk(_: BaseException) -> ExpungeError:
    return ResourceError(
        "disk-full",
        what="no space left on the disk",
        why="files are written whole or not at all, so that what is there is intact",
        fix="free some space, then run the same command again: it resumes",
    )


def _refused(error: OSError) -> ExpungeError:
    return InputError(
        "no-access",
        what=f"{os.fsdecode(error.filename)}: {error.strerror}",
        why="the system does not let this user read or write there",
        fix="check the permissions, or name another place: --out, --save, EXPUNGE_KEY_FILE,"
        " EXPUNGE_CACHE",
    )


def _interrupted(_: BaseException) -> ExpungeError:
    return Interrupted(
        "interrupted",
        what="stopped by you",
        why="finished work is kept in the run folder",
        fix="run the same command again: it resumes",
    )


def _gated(_: BaseException) -> ExpungeError:
    return InputError(
        "gated-repository",
        what="the repository on the Hub asks for permission that this machine does not have",
        why="its owner has gated it, and no token with access was found",
        fix="ask for access on its page, then log in with `hf auth login`",
    )


def _absent(_: BaseException) -> ExpungeError:
    return InputError(
        "not-on-hub",
        what="the Hub has no such repository, revision or file",
        why="the id is neither a local folder nor visible on the Hub with your account",
        fix="check the spelling of the id or path; private repositories need `hf auth login`",
    )


def _offline(_: BaseException) -> ExpungeError:
    return InputError(
        "not-cached",
        what="a file from the Hub is needed but not in the cache, and the network is not reachable",
        why="--offline or HF_HUB_OFFLINE is set, or there is no connection",
        fix="run once with a connection, or give the path of a local folder",
    )


# By name, so that no library is imported only to compare types.
_FOREIGN: dict[str, Callable[[BaseException], ExpungeError]] = {
    f"{CycloptsError.__module__}.CycloptsError": _usage,
    "builtins.KeyboardInterrupt": _interrupted,
    "huggingface_hub.errors.GatedRepoError": _gated,
    "huggingface_hub.errors.RepositoryNotFoundError": _absent,
    "huggingface_hub.errors.RevisionNotFoundError": _absent,
    "huggingface_hub.errors.RemoteEntryNotFoundError": _absent,
    "huggingface_hub.errors.HFValidationError": _absent,
    "huggingface_hub.errors.LocalEntryNotFoundError": _offline,
    "huggingface_hub.errors.OfflineModeIsEnabled": _offline,
}
