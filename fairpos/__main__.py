"""`python -m fairpos` is the `fairpos` command."""

from fairpos.cli.commands import main

if __name__ == "__main__":
    main()
