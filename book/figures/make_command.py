"""Make command.jpg: the page that ``iood predict`` writes, of two shipped scenes, as a browser shows it.

python book/figures/make_command.py [--browser chromium]
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

from iood_helpers import load_dataset
from iood_helpers.command.cli import main as iood

HERE = Path(__file__).resolve().parent
SCENES = (34, 54)
SIZE = (1000, 900)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--browser", default="chromium")
    browser = parser.parse_args().browser
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder) / "pictures"
        pictures.mkdir()
        for index in SCENES:
            path = load_dataset("mini/SMIYC")[index].image_path
            shutil.copy(path, pictures / f"scene {index}{path.suffix}")
        assert iood(["predict", str(pictures), "--out", f"{folder}/out"]) == 0
        flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--window-size={SIZE[0]},{SIZE[1]}",
        ]
        shot = Path(folder) / "shot.png"
        page = (Path(folder) / "out" / "index.html").as_uri()
        subprocess.run([browser, *flags, f"--screenshot={shot}", page], check=True, capture_output=True, timeout=120)
        Image.open(shot).convert("RGB").save(HERE / "command.jpg", quality=88, optimize=True)


if __name__ == "__main__":
    main()
