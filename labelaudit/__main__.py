"""``python -m labelaudit`` is the CLI."""

from labelaudit.cli import main

if __name__ == "__main__":
    main()
