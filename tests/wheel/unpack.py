"""Lay the compiled modules of a wheel beside the Python that they were made from: unpack.py WHEEL FOLDER."""

import sys
from pathlib import Path
from zipfile import ZipFile


def main(wheel: str, folder: str) -> None:
    with ZipFile(wheel) as packed:
        compiled = [name for name in packed.namelist() if name.endswith(".so")]
        for name in compiled:
            packed.extract(name, folder)
            (Path(folder) / name).touch()
    print(f"{len(compiled)} compiled modules")


if __name__ == "__main__":
    main(*sys.argv[1:])
