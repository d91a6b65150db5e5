"""What the numbers and colours in other data sets' label maps and masks mean: tables, and nothing else.

A class of Cityscapes takes what Cityscapes' own definitions put into it (kerbs and pedestrian zones are sidewalk, lane
markings and bicycle lanes road, garages building, sand terrain); what Cityscapes leaves out of training (parking, rail
tracks, guard rails, bridges, tunnels, caravans, trailers, backs of signs) is void, and so is what it does not know.
"""

from __future__ import annotations

from typing import NamedTuple

_V12 = (
    *("Bird", "Ground Animal", "Curb", "Fence", "Guard Rail", "Barrier", "Wall", "Bike Lane", "Crosswalk - Plain"),
    *("Curb Cut", "Parking", "Pedestrian Area", "Rail Track", "Road", "Service Lane", "Sidewalk", "Bridge"),
    *("Building", "Tunnel", "Person", "Bicyclist", "Motorcyclist", "Other Rider", "Lane Marking - Crosswalk"),
    *("Lane Marking - General", "Mountain", "Sand", "Sky", "Snow", "Terrain", "Vegetation", "Water", "Banner"),
    *("Bench", "Bike Rack", "Billboard", "Catch Basin", "CCTV Camera", "Fire Hydrant", "Junction Box", "Mailbox"),
    *("Manhole", "Phone Booth", "Pothole", "Street Light", "Pole", "Traffic Sign Frame", "Utility Pole"),
    *("Traffic Light", "Traffic Sign (Back)", "Traffic Sign (Front)", "Trash Can", "Bicycle", "Boat", "Bus", "Car"),
    *("Caravan", "Motorcycle", "On Rails", "Other Vehicle", "Trailer", "Truck", "Wheeled Slow", "Car Mount"),
    *("Ego Vehicle", "Unlabeled"),
)

_V20 = (
    *("Bird", "Ground Animal", "Ambiguous Barrier", "Concrete Block", "Curb", "Fence", "Guard Rail", "Barrier"),
    *("Road Median", "Road Side", "Lane Separator", "Temporary Barrier", "Wall", "Bike Lane", "Crosswalk - Plain"),
    *("Curb Cut", "Driveway", "Parking", "Parking Aisle", "Pedestrian Area", "Rail Track", "Road", "Road Shoulder"),
    *("Service Lane", "Sidewalk", "Traffic Island", "Bridge", "Building", "Garage", "Tunnel", "Person"),
    *("Person Group", "Bicyclist", "Motorcyclist", "Other Rider", "Lane Marking - Dashed Line"),
    *("Lane Marking - Straight Line", "Lane Marking - Zigzag Line", "Lane Marking - Ambiguous"),
    *("Lane Marking - Arrow (Left)", "Lane Marking - Arrow (Other)", "Lane Marking - Arrow (Right)"),
    *("Lane Marking - Arrow (Split Left or Straight)", "Lane Marking - Arrow (Split Right or Straight)"),
    *("Lane Marking - Arrow (Straight)", "Lane Marking - Crosswalk", "Lane Marking - Give Way (Row)"),
    *("Lane Marking - Give Way (Single)", "Lane Marking - Hatched (Chevron)", "Lane Marking - Hatched (Diagonal)"),
    *("Lane Marking - Other", "Lane Marking - Stop Line", "Lane Marking - Symbol (Bicycle)"),
    *("Lane Marking - Symbol (Other)", "Lane Marking - Text", "Lane Marking (only) - Dashed Line"),
    *("Lane Marking (only) - Crosswalk", "Lane Marking (only) - Other", "Lane Marking (only) - Test", "Mountain"),
    *("Sand", "Sky", "Snow", "Terrain", "Vegetation", "Water", "Banner", "Bench", "Bike Rack", "Catch Basin"),
    *("CCTV Camera", "Fire Hydrant", "Junction Box", "Mailbox", "Manhole", "Parking Meter", "Phone Booth"),
    *("Pothole", "Signage - Advertisement", "Signage - Ambiguous", "Signage - Back", "Signage - Information"),
    *("Signage - Other", "Signage - Store", "Street Light", "Pole", "Pole Group", "Traffic Sign Frame"),
    *("Utility Pole", "Traffic Cone", "Traffic Light - General (Single)", "Traffic Light - Pedestrians"),
    *("Traffic Light - General (Upright)", "Traffic Light - General (Horizontal)", "Traffic Light - Cyclists"),
    *("Traffic Light - Other", "Traffic Sign - Ambiguous", "Traffic Sign (Back)", "Traffic Sign - Direction (Back)"),
    *("Traffic Sign - Direction (Front)", "Traffic Sign (Front)", "Traffic Sign - Parking"),
    *("Traffic Sign - Temporary (Back)", "Traffic Sign - Temporary (Front)", "Trash Can", "Bicycle", "Boat", "Bus"),
    *("Car", "Caravan", "Motorcycle", "On Rails", "Other Vehicle", "Trailer", "Truck", "Vehicle Group"),
    *("Wheeled Slow", "Water Valve", "Car Mount", "Dynamic", "Ego Vehicle", "Ground", "Static", "Unlabeled"),
)

MAPILLARY_NAMES: dict[str, tuple[str, ...]] = {"mapillary-v1.2": _V12, "mapillary-v2.0": _V20}
"""Classes of Mapillary Vistas in the order of their ids, as in ``config_v1.2.json`` and ``config_v2.0.json``."""

_MAPILLARY = {
    "road": (
        *("Road", "Service Lane", "Road Shoulder", "Bike Lane", "Crosswalk - Plain"),
        *(name for name in {*_V12, *_V20} if name.startswith("Lane Marking")),
    ),
    "sidewalk": ("Sidewalk", "Curb", "Curb Cut", "Pedestrian Area", "Traffic Island"),
    "building": ("Building", "Garage"),
    "wall": ("Wall",),
    "fence": ("Fence",),
    "pole": ("Pole", "Utility Pole", "Street Light"),
    "traffic light": tuple(name for name in {*_V12, *_V20} if name.startswith("Traffic Light")),
    "traffic sign": (
        *("Traffic Sign (Front)", "Traffic Sign - Direction (Front)", "Traffic Sign - Parking"),
        "Traffic Sign - Temporary (Front)",
    ),
    "vegetation": ("Vegetation",),
    "terrain": ("Terrain", "Sand"),
    "sky": ("Sky",),
    "person": ("Person", "Person Group"),
    "rider": ("Bicyclist", "Motorcyclist", "Other Rider"),
    "car": ("Car",),
    "truck": ("Truck",),
    "bus": ("Bus",),
    "train": ("On Rails",),
    "motorcycle": ("Motorcycle",),
    "bicycle": ("Bicycle",),
}


class Ids(NamedTuple):
    """Stored ids ``0..last``, and the class of each that has one; the others are void."""

    last: int
    classes: dict[int, str]


def _by_name(names: tuple[str, ...]) -> Ids:
    classes = {name: own for own, theirs in _MAPILLARY.items() for name in theirs}
    return Ids(len(names) - 1, {i: classes[name] for i, name in enumerate(names) if name in classes})


IDS: dict[str, Ids] = {
    # AutoNUE, helpers/anue_labels.py, column csTrainId; what is beside a road and not driven on counts as terrain there
    "idd": Ids(
        39,
        {0: "road", 3: "sidewalk", 5: "terrain", 6: "person", 8: "rider", 9: "motorcycle", 10: "bicycle", 12: "car"}
        | {13: "truck", 14: "bus", 17: "train", 20: "wall", 21: "fence", 24: "traffic sign", 25: "traffic light"}
        | {26: "pole", 29: "building", 32: "vegetation", 33: "sky"},
    ),
    # anomaly-seg, create_dataset.py, with 1 added as in the files: 1 unlabelled (the sky, too), 4 other, 14 anomaly
    "streethazards": Ids(
        14,
        {2: "building", 3: "fence", 5: "person", 6: "pole", 7: "road", 8: "road", 9: "sidewalk", 10: "vegetation"}
        | {11: "car", 12: "wall", 13: "traffic sign"},
    ),
    **{encoding: _by_name(names) for encoding, names in MAPILLARY_NAMES.items()},
}
"""Label maps of one number per pixel."""

COLORS: dict[str, dict[tuple[int, int, int], str | None]] = {
    "labelmefacade": {
        (0, 0, 0): None,
        (128, 0, 0): "building",
        (128, 0, 128): "car",
        (128, 128, 0): "building",  # door
        (128, 128, 128): "sidewalk",
        (128, 64, 0): "road",
        (0, 128, 128): "sky",
        (0, 128, 0): "vegetation",
        (0, 0, 128): "building",  # window
    },
}
"""Label maps of one colour per pixel, RGB."""


class Values(NamedTuple):
    """Values of a mask; any other is refused."""

    in_distribution: tuple[int, ...]
    anomaly: tuple[int, ...]
    void: tuple[int, ...]


MASKS: dict[str, Values] = {
    # folders of the user's own: whatever is not 0 or 255
    "anomaly": Values((0,), tuple(range(1, 255)), (255,)),
    # RoadAnomaly21, RoadObstacle21, Fishyscapes, WD-Pascal
    "smiyc": Values((0,), (1,), (255,)),
    # the annotators' tool knows 1 for road; in the published set there is only 0
    "roadanomaly": Values((0, 1), (2,), (255,)),
    # 1 is free road, each kind of object has a number of its own; what is not road was not labelled
    "lostandfound": Values((1,), tuple(range(2, 201)), (0, 255)),
    # as in anomaly-seg's eval_ood.py, whatever is not an anomaly is in-distribution, the unlabelled sky with it
    "streethazards": Values(tuple(range(1, 14)), (14,), (0, 255)),
}
