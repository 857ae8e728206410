"""What the console command calls, and `python -m sedd`, for machines where its script is not on the PATH."""

import sys


def main() -> None:
    """Run the command line. Ctrl-C during its imports, which take long on a slow file server, exits with 130."""
    try:
        from sedd.cli.main import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
