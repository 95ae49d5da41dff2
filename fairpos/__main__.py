"""`python -m fairpos` is the `fairpos` command."""

from fairpos.cli import main

if __name__ == "__main__":
    main()
