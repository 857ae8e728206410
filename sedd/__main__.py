"""`python -m sedd`: the console command, for machines where its script is not on the PATH."""

from sedd.cli.main import main

if __name__ == "__main__":
    main()
