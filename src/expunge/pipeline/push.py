"""Upload the model folder of a run to the Hub: what may be published, and nothing else."""

import glob
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from huggingface_hub import HfApi
from huggingface_hub.constants import ENDPOINT
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

from expunge.data.hub import hub_is_closed
from expunge.errors import GateError, InputError, ResourceError, UsageError
from expunge.models.reference import beneath
from expunge.provenance.published import SCHEMA
from expunge.provenance.verify import verify_published
from expunge.utils.file_names import MANIFEST, MODEL, SIGNATURE
from expunge.utils.io import AnyPath, read_table, require_no_special_files

_NAME = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
_DENIED = (401, 403)
_NO_ANSWER: type[BaseException] = HfHubHTTPError.__bases__[0]
"""What the client of the Hub raises where no answer comes: that of httpx, or of httpx2."""


class HubApi(Protocol):
    """What is asked of the Hub; `huggingface_hub.HfApi` has both."""

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> object:
        """Make the repository, or keep the one that is there."""
        ...

    def upload_folder(
        self, *, repo_id: str, folder_path: str, allow_patterns: list[str], commit_message: str
    ) -> object:
        """Upload the files of a folder whose names fit a pattern, as one commit."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Upload:
    """What a push will send."""

    folder: Path
    repository: str
    files: tuple[tuple[str, int], ...]
    """Name and bytes of each file, by name."""
    ruling: str
    """The verdict that the card states."""
    warnings: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(size for _, size in self.files)


def prepare_upload(run: Path, repository: str) -> Upload:
    """Say what a push would send; nothing is asked of the Hub.

    Only files that the public manifest names are sent, with the manifest and its signature. A
    folder that is not what was audited is refused.

    Args:
        run: A finished run folder.
        repository: `owner/name`.

    Raises:
        UsageError: The name is none of the Hub, or the folder holds a link.
        InputError: The run has no model to publish.
        GateError: A file was changed, added or removed after the audit.
    """
    if not _NAME.fullmatch(repository):
        raise UsageError(
            "bad-repository",
            what=f"{repository!r} is no name of a repository",
            why="the Hub names repositories owner/name",
            fix="expunge push RUN owner/name",
        )
    folder = run / MODEL
    if not (folder / MANIFEST).is_file():
        raise InputError(
            "nothing-to-push",
            what=f"{run} has no model folder with a manifest",
            why="an audit, a run that is not finished, and a guard that names the forget set leave"
            " nothing to publish",
            fix="give a finished run of `expunge forget`; its own command resumes a stopped one",
        )
    require_no_special_files(folder)
    found = verify_published(folder)
    if not found.ok:
        first = found.problems[0]
        raise GateError(
            "not-as-audited",
            what=f"{first.path} {first.what}",
            why="what is published must be what was audited",
            fix=f"look into it first: expunge verify {run}",
        )
    manifest = read_table(folder / MANIFEST)
    assert manifest["schema"] == SCHEMA
    names = [*manifest["files"], MANIFEST]
    names += [SIGNATURE] if (folder / SIGNATURE).is_file() else []
    return Upload(
        folder=folder,
        repository=repository,
        files=tuple((name, (folder / name).stat().st_size) for name in sorted(names)),
        ruling=str(manifest["verdict"]["ruling"]),
        warnings=_warnings(folder),
    )


def _warnings(folder: Path) -> tuple[str, ...]:
    base = beneath(str(folder))
    if base is None or not Path(base).is_absolute():
        return ()
    return ("it names its base by a path of this machine: others cannot load it",)


def push(run: AnyPath, repository: str, *, private: bool = True, api: HubApi | None = None) -> str:
    """Upload what may be published of a run to the Hub, and return the repository's address.

    Nobody is asked: `prepare_upload` says what will go.

    Args:
        run: A finished run folder.
        repository: `owner/name`.
        private: Whether a repository that is new can be seen by its owner alone.
        api: The Hub; default that of `huggingface_hub` with the user's own token.

    Raises:
        ExpungeError: As `prepare_upload` and `send`; the run folder stays as it is.

    Example:
        >>> push("no-such-run", "owner/name")
        Traceback (most recent call last):
            ...
        expunge.errors.InputError: error[nothing-to-push]: no-such-run has no model folder...
    """
    return send(prepare_upload(Path(run), repository), private=private, api=api)


def send(upload: Upload, *, private: bool = True, api: HubApi | None = None) -> str:
    """Send what `prepare_upload` found, as one commit, and return the repository's address.

    Args:
        upload: What to send.
        private: Whether a repository that is new can be seen by its owner alone.
        api: The Hub; default that of `huggingface_hub` with the user's own token.

    Raises:
        InputError: The token is missing or has no rights there, or the network is closed.
        ResourceError: The Hub cannot be reached, or did not take it.
    """
    if hub_is_closed():
        raise InputError(
            "push-offline",
            what="the network is closed",
            why="--offline or HF_HUB_OFFLINE is set, and a push is an upload",
            fix="push without it",
        )
    hub: HubApi = HfApi() if api is None else api
    try:
        hub.create_repo(upload.repository, private=private, exist_ok=True)
        hub.upload_folder(
            repo_id=upload.repository,
            folder_path=str(upload.folder),
            allow_patterns=[glob.escape(name) for name, _ in upload.files],
            commit_message=f"Unlearned model, verdict {upload.ruling}",
        )
    except LocalTokenNotFoundError as error:
        raise _denied(upload, "no token was found on this machine") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in _DENIED:
            raise _denied(upload, f"the Hub answered {status} to this token") from error
        raise _failed(upload, f"the Hub answered {status}") from error
    except (_NO_ANSWER, OSError) as error:
        raise _failed(upload, f"the Hub cannot be reached ({type(error).__name__})") from error
    return f"{ENDPOINT}/{upload.repository}"


def _denied(upload: Upload, why: str) -> InputError:
    return InputError(
        "push-denied",
        what=f"you may not write to {upload.repository}",
        why=why,
        fix="log in with a token that may write: hf auth login; or name a repository of yours",
    )


def _failed(upload: Upload, what: str) -> ResourceError:
    return ResourceError(
        "push-failed",
        what=what,
        why="the run folder is as it was; a commit is made whole or not at all",
        fix=f"push again later: expunge push {upload.folder.parent} {upload.repository}",
    )
