"""Entry point of `maleo`, `kubectl maleo` and `python -m maleo_cli`, which can be installed without their packages."""

import sys

from maleo_cli.errors import lacks_packages, report


def main() -> None:
    """Run the command line. Exit code 3 if its packages are not installed, else as `maleo_cli.main.main`."""
    try:
        from maleo_cli.main import main as run  # noqa: PLC0415 - imports the package that may be missing
    except ModuleNotFoundError as error:
        sys.exit(report(lacks_packages("the command line", error, extra="cli")))
    run()


if __name__ == "__main__":
    main()
