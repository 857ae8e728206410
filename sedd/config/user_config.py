"""Read the user's own configuration, if there is one. Importing it, or not having one, costs nothing."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sedd.config.settings import UserConfig


def config_file(environ: Mapping[str, str] = os.environ) -> Path:
    """`$XDG_CONFIG_HOME/sedd/config.yaml`, else ~/.config/sedd/config.yaml."""
    home = environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(home).expanduser() / "sedd" / "config.yaml"


def read_user_config(environ: Mapping[str, str] = os.environ) -> "UserConfig | None":
    """The user's configuration; None without the file. Raises: SpecError with all its problems."""
    path = config_file(environ)
    try:
        if not path.is_file():
            return None
    except OSError:  # the home folder is not there, as on some compute nodes
        return None
    from sedd.config.settings import UserConfig
    from sedd.yaml import load_document, validate

    return validate(UserConfig, load_document(path))


def config_path(text: str, environ: Mapping[str, str] = os.environ) -> Path:
    """A path of the configuration, from its own folder if it is relative."""
    return config_file(environ).parent / Path(os.path.expandvars(text)).expanduser()
