"""Copy the Kubernetes binaries of a kind node image to a folder; download or build them if needed."""

import shutil
import sys
from pathlib import Path

from maleo_devcluster import binaries


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = (*binaries.ALL, "kubeadm")
    try:
        found = binaries.ensure(names, binaries.Sources.of(), lambda text: print(f"kindlab: {text}"))
    except binaries.NotFound as error:
        sys.exit(str(error))
    for name, path in found.items():
        shutil.copy2(path, folder / name)
    (folder / "version").write_text(binaries.VERSION, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
