"""Saved models (``ClassKMeans``, ``PixelEmbedder``): the header's JSON, names, shapes and values of the arrays.

A file of this package carries a checksum of all that it tells: damaged bytes give the same model, or are refused. A
file without one is judged by its content: what loads has to give finite numbers, or named errors.
"""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import numpy as np

from iood_helpers.errors import IoodError
from iood_helpers.method.embedder import PixelEmbedder
from iood_helpers.method.kmeans import ClassKMeans
from iood_helpers.method.statistics import DistanceStatistics

from ..cases import Case, demand
from ..mutators import VALUES, as_text, damaged, damaged_json, odd_text

WIDTH, CLASSES = 6, (0, 3, 18)


def prepare(folder: Path) -> dict:
    chance = np.random.default_rng(0)
    y = np.repeat(CLASSES, 60)
    x = (chance.normal(size=(len(y), WIDTH)) + y[:, None]).astype(np.float32)
    ClassKMeans(3, n_init=1).fit(x, y).calibrate(x, y).save(folder / "kmeans.safetensors")
    plain = ClassKMeans(2, n_init=1, n_shared=9).fit(x, y)
    plain.statistics_ = DistanceStatistics(2.0, 1.0, 2.5, 1.25)
    plain.save(folder / "plain.safetensors")
    PixelEmbedder((0, 2), "pca", dim=4, standardize=True).fit(x).save(folder / "pca.safetensors")
    PixelEmbedder(("decoder",), "random", dim=5).save(folder / "random.safetensors")
    PixelEmbedder((1,), standardize=True).fit(x).save(folder / "standard.safetensors")
    material = {"x": x[::7], "y": y[::7], "originals": {}, "used": {}}
    for path in sorted(folder.glob("*.safetensors")):
        material["originals"][path.stem] = path.read_bytes()
        material["used"][path.stem] = _use(_read(path), material)
    return material


def _read(path: Path):
    kind = ClassKMeans if path.stem in ("kmeans", "plain") else PixelEmbedder
    return kind.load(path)


def _use(model, material: dict) -> list[np.ndarray]:
    """Numbers that the model gives."""
    x, y = material["x"], material["y"]
    if isinstance(model, PixelEmbedder):
        return [model.apply(x)]
    distance = model.scaled_distance(x, y)
    given = [distance, model.transform(x)[:, list(model.centers_)], model.score_samples(x), model.predict(x)]
    if model.quantiles_:
        given += [model.tail_probability(distance, y), model.calibration_quantile(y, 0.9)]
    if len(model.shared_centers_):
        given.append(model.shared_distance(x))
    if model.statistics_:
        far = distance.reshape(1, -1)
        given += [model.statistics_.evidence(far), model.statistics_.unexplained(far)]
    model.get_params()
    repr(model)
    return given


def make(material: dict, rng: Random, folder: Path) -> Case:
    name = rng.choice(list(material["originals"]))
    original = material["originals"][name]
    kind = rng.choice(("bytes", "bytes", "header", "state", "state", "state", "arrays", "arrays", "arrays", "foreign"))
    exact = False
    if kind == "bytes":
        content, what = damaged(original, rng, rng.choice(list(material["originals"].values())))
        exact = b'"sha256"' in original
    elif kind == "header":
        header, data = _split(original)
        if rng.random() < 0.85:
            header, what = damaged_json(header, rng)
            content = _joined(as_text(header), data)
        else:
            text, what = odd_text(rng)
            content = _joined(text, data)
    elif kind == "state":
        content, what = _state(original, rng)
    elif kind == "arrays":
        content, what = _arrays(original, rng)
    else:
        content, what = rng.choice(
            ((b"", "nothing"), (bytes(8), "no header"), (b"\2" + bytes(7) + b"{}", "no arrays"), (b"\xff" * 64, "ones"))
        )
    path = folder / f"{name}.safetensors"
    path.write_bytes(content)

    def check(model):
        given = _use(model, material)
        demand(all(np.isfinite(numbers).all() for numbers in given), "numbers that are not finite")
        if exact:
            same = len(given) == len(material["used"][name]) and all(map(np.array_equal, given, material["used"][name]))
            demand(same, "a damaged file gives another model")
        try:
            model.save(folder / "again.safetensors")
        except IoodError:
            return
        demand(
            all(map(np.array_equal, given, _use(type(model).load(folder / "again.safetensors"), material))),
            "it changes when saved",
        )

    return Case(f"{kind} of {name}: {what}", (path.name,), lambda: _read(path), check, writes=True)


def _split(content: bytes) -> tuple[dict, bytes]:
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


def _joined(header: bytes, data: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + data


def _state(original: bytes, rng: Random) -> tuple[bytes, str]:
    """Plain values in the header changed; the checksum is taken out, as in a file of another program."""
    header, data = _split(original)
    metadata = header["__metadata__"]
    metadata.pop("sha256", None)
    field = rng.choice([key for key in metadata if key != "kind"])
    if rng.random() < 0.85:
        changed, what = damaged_json(json.loads(metadata[field]), rng)
        metadata[field] = json.dumps(changed)
    else:
        text, what = odd_text(rng)
        metadata[field] = text.decode("utf-8", "replace")
    return _joined(as_text(header), data), f"{field}: {what}"


def _arrays(original: bytes, rng: Random) -> tuple[bytes, str]:
    """Arrays renamed, reshaped, of other types and with impossible values."""
    from safetensors.numpy import load, save

    header, _ = _split(original)
    metadata = {key: value for key, value in header.get("__metadata__", {}).items() if key != "sha256"}
    arrays = {name: array.copy() for name, array in load(original).items()}
    name = rng.choice(list(arrays))
    array = arrays[name]
    action = rng.choice(
        ("value", "value", "rename", "rename", "remove", "reshape", "type", "other", "cut", "order", "fill", "add")
    )
    if action == "value" and array.size:
        value = rng.choice((np.nan, np.inf, -np.inf, 0, -1, 1e30, 1e-45, -1e-3))
        with np.errstate(all="ignore"):
            array.reshape(-1)[rng.randrange(array.size)] = value if array.dtype.kind == "f" or abs(value) < 9 else -1
        action = f"value {value}"
    elif action == "rename":
        new = rng.choice(
            (
                "centers.19",
                "centers.-1",
                "centers.x",
                "centers.",
                "centers",
                "counts.5",
                "quantiles.-2",
                "quantiles.7",
                "transform",
                "__class__",
                "mean_",
                "scale_",
                "weight_",
                "fit",
                "levels",
                "centers.0.1",
                "centers.٣",
                "none",
                "centers.1e0",
                "quantiles.18",
            )
        )
        arrays[new] = arrays.pop(name)
        action = f"rename to {new}"
    elif action == "remove":
        del arrays[name]
    elif action == "reshape":
        arrays[name] = array.reshape(rng.choice(((-1,), (1, -1), (-1, 1), (1, 1, -1), array.shape[::-1])))
    elif action == "type":
        kind = rng.choice((np.float64, np.float16, np.int32, np.uint8, np.bool_, np.complex64))
        with np.errstate(all="ignore"):
            arrays[name] = array.astype(kind)
        action = f"type {kind.__name__}"
    elif action == "other":
        arrays[name] = arrays[rng.choice(list(arrays))].copy()
    elif action == "cut":
        arrays[name] = np.ascontiguousarray(array[: rng.randrange(len(array) + 1)])
    elif action == "order":
        arrays[name] = np.ascontiguousarray(array[::-1])
    elif action == "fill":
        value = rng.choice((0, -1, np.nan, 3e38))
        with np.errstate(all="ignore"):
            arrays[name] = np.full_like(array, value if array.dtype.kind == "f" or abs(value) < 9 else 1)
    else:
        arrays[rng.choice(("x", "save", "load", "_prepare", "parameters", "raw", "__init__", "centers.4", "dim"))] = (
            np.zeros(rng.choice((0, 1, WIDTH)), np.float32)
        )
    try:
        return save(arrays, metadata=metadata), f"{action} of {name}"
    except Exception:  # a type that the format has not
        return _joined(json.dumps(dict([("a", rng.choice(VALUES[:4]))])).encode(), b""), "no array"
