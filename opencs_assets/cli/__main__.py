"""``python -m opencs_assets.cli`` is the command ``opencs``."""

from opencs_assets.cli.app import main

if __name__ == "__main__":
    main()
