"""Read the user's own configuration, if there is one. Importing it, or not having one, costs nothing."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sedd.errors import UsageError
from sedd.home import expand_home

if TYPE_CHECKING:
    from sedd.config.settings import UserConfig


def config_file(environ: Mapping[str, str] = os.environ) -> Path:
    """`$XDG_CONFIG_HOME/sedd/config.yaml`, else ~/.config/sedd/config.yaml. Raises: UsageError without a home."""
    home = environ.get("XDG_CONFIG_HOME") or "~/.config"
    return expand_home(home) / "sedd" / "config.yaml"


def read_user_config(environ: Mapping[str, str] = os.environ) -> "UserConfig | None":
    """The user's configuration; None without the file, the defaults if it is empty. Raises: SpecError, all problems."""
    try:
        path = config_file(environ)
        if not path.is_file():
            return None
    except (OSError, UsageError):  # there is no home folder, as on some compute nodes and in some containers
        return None
    from sedd.config.settings import UserConfig
    from sedd.yaml import load_document, validate

    return validate(UserConfig, load_document(path, may_be_empty=True))


def config_path(text: str, environ: Mapping[str, str] = os.environ) -> Path:
    """A path of the configuration, from its own folder if it is relative. Raises: UsageError for an unknown home."""
    return config_file(environ).parent / expand_home(os.path.expandvars(text))
