"""Tell each occasion at most once, from the compute node or from the login side.

A file in the run's `notified/` stands for an occasion. Who makes it may send; who dies while sending leaves it. Where
sending failed on the node it is renamed to `….undelivered`, and who renames that back on the login side sends.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sedd.config.settings import NotifySettings, UserConfig
from sedd.config.user_config import read_user_config
from sedd.errors import RunError, SeddError
from sedd.notify.message import Message, end_message, loss_message, stall_message
from sedd.notify.send import NotSentError, has_means, send
from sedd.rundir.events import read_events
from sedd.rundir.layout import RunDir, read_manifest
from sedd.rundir.read_usage import read_usage
from sedd.rundir.usage import usage_words
from sedd.yaml import load_document, validate

UNDELIVERED = ".undelivered"


def settings_of(manifest: Mapping[str, Any]) -> NotifySettings | None:
    """Whom to tell of a run: its profile's `notify`, where it names its file, else the user's own.

    Raises:
        SeddError: a file is there and cannot be understood.
    """
    if (file := (manifest.get("profile") or {}).get("notify_from")) and Path(file).is_file():
        document = load_document(Path(file))
        if section := document.data.get("notify"):
            return validate(UserConfig, replace(document, data={"notify": section})).notify
    config = read_user_config()
    return config.notify if config else None


def tell_end(run: RunDir, *, is_login: bool) -> None:
    """Tell how a run ended, if it has ended and nobody has told. Raises: NotSentError on the login side."""
    with _only_remarked(is_login):
        manifest, events = read_manifest(run), read_events(run.events)
        message = end_message(run.name, run.id, events, used=usage_words(read_usage(run).within()))
        if message is not None:
            deliver(run.path, message, settings_of(manifest), run=f"{run.name}/{run.id}", is_login=is_login)


def tell_stall(run: RunDir, *, attempt: int, why: str, is_login: bool) -> None:
    """Tell that an attempt stands still, if nobody has told. Raises: NotSentError on the login side."""
    with _only_remarked(is_login):
        message = stall_message(run.name, run.id, attempt, why)
        settings = settings_of(read_manifest(run))
        deliver(run.path, message, settings, run=f"{run.name}/{run.id}", is_login=is_login)


def tell_loss(run: RunDir, *, attempt: int, why: str, is_login: bool) -> None:
    """Tell that a run's job is gone without a last word. Raises: NotSentError on the login side."""
    with _only_remarked(is_login):
        message = loss_message(run.name, run.id, attempt, why)
        settings = settings_of(read_manifest(run))
        deliver(run.path, message, settings, run=f"{run.name}/{run.id}", is_login=is_login)


def deliver(
    folder: Path, message: Message, settings: NotifySettings | None, *, run: str, is_login: bool
) -> bool:
    """Send a message unless it was sent, or is not wanted; whether it was sent now. Raises: NotSentError."""
    if settings is None or message.occasion not in settings.on or not has_means(settings):
        return False
    claim = folder / "notified" / message.key
    if not _claim(claim, is_login=is_login):
        return False
    try:
        send(message, settings, run=run)
    except NotSentError:
        if not is_login:
            os.replace(claim, claim.with_name(claim.name + UNDELIVERED))
        raise
    return True


def _claim(claim: Path, *, is_login: bool) -> bool:
    """Whether this process, and no other, is the one to send."""
    try:
        claim.parent.mkdir(exist_ok=True)
        if is_login:
            with contextlib.suppress(FileNotFoundError):
                os.rename(claim.with_name(claim.name + UNDELIVERED), claim)
                return True
        elif claim.with_name(claim.name + UNDELIVERED).exists():
            return False
        os.close(os.open(claim, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
    except OSError:  # it is there, or the folder cannot be written
        return False
    return True


@contextlib.contextmanager
def _only_remarked(is_login: bool) -> Iterator[None]:
    """On a node a message that cannot be sent, or a file that cannot be read, is a line in the log."""
    try:
        yield
    except (SeddError, OSError) as e:
        if is_login and not isinstance(e, RunError):
            raise
        print(f"notify: {e.message if isinstance(e, SeddError) else e.strerror}", flush=True)
