"""Debian packages that tests use and Maleo itself does not: installed with consent, else their tests are left out."""

import os
import shutil
import sys
from typing import Final

from maleo_cli.cluster import asker, say
from maleo_devcluster.host import Unsuitable, install_packages

# program -> package
PROGRAMS: Final = {"prometheus": "prometheus", "docker-registry": "docker-registry"}


def main() -> None:
    """Never fails: what is missing in the end is told by each test that needs it."""
    missing = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    if not missing or sys.platform != "linux" or os.geteuid() != 0:
        return
    try:
        say(f"packages for tests: {', '.join(missing)}")
        install_packages(missing, asker(yes=False))
    except Unsuitable as error:
        say(str(error))


if __name__ == "__main__":
    main()
