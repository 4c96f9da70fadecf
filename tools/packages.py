"""Install the Debian packages that only tests need, with consent; without them, their tests are skipped."""

import os
import shutil
import sys
from typing import Final

from maleo_cli.commands.cluster import consent_prompt, say
from maleo_devcluster.host import Unsuitable, install_packages

# program -> package
PROGRAMS: Final = {"prometheus": "prometheus", "docker-registry": "docker-registry"}


def main() -> None:
    """Install the missing packages; never fail, since each test reports the packages that it misses."""
    missing = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    if not missing or sys.platform != "linux" or os.geteuid() != 0:
        return
    try:
        say(f"packages required by tests: {', '.join(missing)}")
        install_packages(missing, consent_prompt(yes=False))
    except Unsuitable as error:
        say(str(error))


if __name__ == "__main__":
    main()
