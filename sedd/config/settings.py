"""What a user sets once for all specs and profiles: ~/.config/sedd/config.yaml, and `notify:` there and in profiles."""

import shlex
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from sedd.home import expand_home
from sedd.yaml import StrictModel

Occasion = Literal["completed", "gave_up", "stalled", "plan_done"]


def _words(value: object) -> object:
    """A program that is there, spaces in its path and all; else words as in a shell."""
    if not isinstance(value, str):
        return value
    return (value,) if expand_home(value).is_file() else tuple(shlex.split(value))


class NotifySettings(StrictModel):
    """Whom to tell, and of what. It is read where a message is sent, and never copied into a run folder."""

    on: tuple[Occasion, ...] = ("completed", "gave_up", "stalled", "plan_done")
    """Occasions; gave_up is every end without completion but a cancellation."""
    command: Annotated[tuple[str, ...] | None, BeforeValidator(_words)] = None
    """Program that gets the message on stdin, and SEDD_EVENT, SEDD_RUN and SEDD_TITLE in its environment."""
    apprise: str | None = None
    """apprise's own file of addresses (Slack, Matrix, ntfy, …): ~/.config/sedd/apprise.yaml. Keep it private."""
    mail: str | None = None
    """Address or user name to which SLURM mails the end or failure of a job, where the profile has no `mail`."""


class UserConfig(StrictModel):
    """~/.config/sedd/config.yaml."""

    cluster: str | None = None
    """Profile taken without --cluster and $SEDD_CLUSTER."""
    runs: str | None = None
    """Folder of runs without $SEDD_RUNS; nothing takes ./runs."""
    notify: NotifySettings | None = Field(default=None)
    """Whom to tell; a profile's own `notify` comes before it."""
