"""Send a message by the means that the user has set. What a means prints is thrown away: it may hold an address."""

import logging
import os
import subprocess

from sedd.config.settings import NotifySettings
from sedd.errors import SeddError, UsageError
from sedd.home import expand_home
from sedd.notify.message import Message

TIMEOUT_S = 30.0


class NotSentError(SeddError):
    """Nobody was told."""


def send(message: Message, settings: NotifySettings, *, run: str) -> None:
    """By every means that is set.

    Raises:
        NotSentError: one of them failed. A means that does not come to an end counts as done: it may have told.
    """
    problems = []
    if settings.command is not None:
        problems += _run_command(settings.command, message, run)
    if settings.apprise is not None:
        problems += _notify_by_apprise(settings.apprise, message)
    if problems:
        raise NotSentError(f"could not tell that {message.title}: {'; '.join(problems)}")


def has_means(settings: NotifySettings) -> bool:
    """Whether anything is left to do here; mail is SLURM's."""
    return settings.command is not None or settings.apprise is not None


def _run_command(command: tuple[str, ...], message: Message, run: str) -> list[str]:
    try:
        program = str(expand_home(command[0]))
    except UsageError as e:
        return [f"notify.command: {e.message}"]
    environment = os.environ | {
        "SEDD_EVENT": message.occasion,
        "SEDD_RUN": run,
        "SEDD_TITLE": message.title,
    }
    try:
        done = subprocess.run(
            [program, *command[1:]],
            input=message.text.encode(),
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return []
    except OSError as e:
        return [f"notify.command: {program}: {e.strerror}"]
    return [f"notify.command: {program} ended with exit code {done.returncode}"] if done.returncode else []


def _notify_by_apprise(file: str, message: Message) -> list[str]:
    try:
        import apprise
    except ImportError:
        return ["notify.apprise needs apprise: pip install 'protein-sedd[notify]'"]
    logging.getLogger("apprise").disabled = True  # it names addresses
    config = apprise.AppriseConfig()
    try:
        addresses = expand_home(file)
    except UsageError as e:
        return [f"notify.apprise: {e.message}"]
    if not addresses.is_file() or not config.add(str(addresses)):
        return ["notify.apprise: its file cannot be read"]
    targets = apprise.Apprise()
    targets.add(config)
    if not len(targets):
        return ["notify.apprise: its file has no address that apprise knows"]
    is_told = targets.notify(title=message.title, body=message.text)
    return [] if is_told else ["notify.apprise: an address could not be reached"]
