"""Check an installed wheel: `installed.py ENVIRONMENT`. Every module of the checkout must be importable from there."""

import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path


def main() -> int:
    """Print the modules that the environment misses or takes from elsewhere; return exit code 1 if there are any."""
    root, environment = Path(__file__).resolve().parents[1], Path(sys.argv[1]).resolve()
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    folders = [root / folder for folder in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]]
    # Packages are found by __init__.py, so that one that is not listed in pyproject.toml is missed here as well.
    folders += [init.parent for init in root.glob("*/maleo_*/__init__.py") if init.parent.parent.name != "demo"]
    missing = []
    for folder in sorted(set(folders)):
        for file in sorted(folder.rglob("*.py")):
            parts = file.relative_to(folder.parent).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found = find_spec(name)
            if found is None or found.origin is None or not Path(found.origin).is_relative_to(environment):
                missing.append(name)
    sys.stderr.writelines(f"{name} is not installed by the wheel\n" for name in missing)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
