"""``python -m ortolan``."""

from ortolan.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
