"""Tell each occasion at most once, from the compute node or from the login side.

A file in the run's `notified/` stands for an occasion. Who makes it may send; who dies while sending leaves it. Where
sending failed on the node it is renamed to `….undelivered`, and who renames that back on the login side sends.
"""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sedd.config.settings import NotifySettings, UserConfig
from sedd.config.user_config import read_user_config
from sedd.notify.message import Message
from sedd.notify.send import NotSentError, has_means, send
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
