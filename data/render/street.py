"""Everything that stands still: sky, ground, buildings, walls, fences, plants, poles, lights and signs."""

from __future__ import annotations

import cv2
import numpy as np

from .canvas import FAR, Canvas, noise

ROAD, SIDEWALK, BUILDING, WALL, FENCE, POLE, LIGHT, SIGN, PLANT, TERRAIN, SKY = range(11)


def jitter(rng: np.random.Generator, color, spread: float = 18) -> np.ndarray:
    """A colour near the given one."""
    return np.clip(np.asarray(color, float) + rng.normal(0, spread) + rng.normal(0, spread / 3, 3), 5, 250)


def paint_sky(canvas: Canvas) -> None:
    """Gradient with clouds."""
    rng = canvas.rng
    top = jitter(rng, [(88, 140, 205), (150, 165, 185), (120, 160, 210)][rng.integers(3)], 12)
    low = jitter(rng, (205, 215, 225), 12)
    ramp = np.clip(np.arange(canvas.height) / max(canvas.camera.horizon, 1), 0, 1)[:, None, None]
    field = noise(rng, canvas.height, canvas.width, 60) + 0.5 * noise(rng, canvas.height, canvas.width, 22)
    clouds = np.clip(field - rng.uniform(-0.3, 1.0), 0, 1)[..., None] * rng.uniform(0.3, 0.8)
    sky = top * (1 - ramp) + low * ramp
    canvas.color[:] = np.clip(sky * (1 - clouds) + 240 * clouds, 0, 255).astype(np.uint8)
    canvas.label[:] = SKY
    canvas.depth[:] = FAR


def paint_skyline(canvas: Canvas) -> None:
    """Hazy houses and trees at the end of the street."""
    rng, camera = canvas.rng, canvas.camera
    column = -40.0
    while column < canvas.width + 40:
        width, house = rng.uniform(20, 90), rng.random() < 0.55
        height = rng.uniform(8, 46) if house else rng.uniform(8, 30)
        color = jitter(rng, (150, 152, 160), 14) if house else jitter(rng, (105, 130, 95), 12)
        box = [column, camera.horizon - height, column + width, camera.horizon + 4]
        if house:
            corners = [(box[0], box[3]), (box[0], box[1]), (box[2], box[1]), (box[2], box[3])]
            canvas.fill(corners, color, BUILDING, 120)
        else:
            canvas.disc(column + width / 2, box[3], width / 1.6, height, color, PLANT, 110)
        column += width * rng.uniform(0.5, 1.0)


def paint_ground(canvas: Canvas, plan: dict) -> None:
    """Terrain, sidewalks, road and its markings, with grain laid in perspective."""
    rng, camera, half = canvas.rng, canvas.camera, plan["half"]
    top = int(np.ceil(camera.horizon)) + 1
    canvas.color[top:] = jitter(rng, (120, 135, 75), 12).astype(np.uint8)
    canvas.label[top:] = TERRAIN
    rows = np.arange(top, canvas.height, dtype=np.float32)
    distance = camera.focal * camera.height / (rows - camera.horizon)
    canvas.depth[top:] = distance[:, None]
    depth_of_ground = canvas.depth.copy()
    paving = jitter(rng, [(150, 142, 138), (165, 150, 135), (135, 135, 140)][rng.integers(3)], 10)
    asphalt = jitter(rng, (82, 82, 86), 12)
    for side in (-1, 1):
        x0, x1 = sorted((side * half, side * (half + plan["walk"][side])))
        canvas.ground(x0, x1, 0.6, 150, paving, SIDEWALK)
        kerb = side * half
        canvas.ground(kerb - 0.09, kerb + 0.09, 0.6, 150, paving * 1.2, SIDEWALK)
    canvas.ground(-half, half, 0.6, 150, asphalt, ROAD)
    white = jitter(rng, (215, 215, 210), 8)
    phase = rng.uniform(0, 6)
    for x in plan["lines"]:
        for z in np.arange(1.0 + phase, 90, 6.0):
            canvas.ground(x - 0.07, x + 0.07, z, z + 3, white, ROAD)
    for side in (-1, 1):
        if rng.random() < 0.5:
            canvas.ground(side * (half - 0.35) - 0.06, side * (half - 0.35) + 0.06, 0.6, 100, white, ROAD)
    if plan["rails"] is not None:
        for x in (plan["rails"] - 0.72, plan["rails"] + 0.72):
            canvas.ground(x - 0.08, x + 0.08, 0.6, 120, (120, 112, 108), ROAD)
    if plan["zebra"] is not None:
        for x in np.arange(-half + 0.4, half - 0.4, 1.0):
            canvas.ground(x, x + 0.5, plan["zebra"], plan["zebra"] + 3.2, white, ROAD)
    for _ in range(rng.integers(1, 6)):  # patches of other asphalt
        x, z = rng.uniform(-half, half - 1.5), rng.uniform(3, 40)
        patch = asphalt * rng.uniform(0.75, 1.2)
        canvas.ground(x, min(x + rng.uniform(0.8, 3), half), z, z + rng.uniform(1, 6), patch, ROAD)
    canvas.depth[top:] = depth_of_ground[top:]
    _grain_of_ground(canvas, top, distance)


def _grain_of_ground(canvas: Canvas, top: int, distance: np.ndarray) -> None:
    rng, camera = canvas.rng, canvas.camera
    columns = np.arange(canvas.width, dtype=np.float32)
    x = (columns[None] - camera.center) * distance[:, None] / camera.focal - camera.curvature * distance[:, None] ** 2
    z = np.broadcast_to(distance[:, None], x.shape)
    tile = noise(rng, 512, 512, 3) * 0.6 + noise(rng, 512, 512, 24) * 0.7
    index = np.stack([(z * 24).astype(int) % 512, (x * 24).astype(int) % 512])
    grain = tile[index[0], index[1]] * np.clip(12 / distance, 0.15, 1)[:, None]
    region = canvas.label[top:]
    strength = np.select([region == ROAD, region == SIDEWALK, region == TERRAIN], [6.0, 7.0, 20.0], 0.0)
    joints = ((np.abs((x * 1.6) % 1) < 0.06) | (np.abs((z * 1.6) % 1) < 0.06)) & (region == SIDEWALK) & (z < 18)
    change = grain * strength - 22 * joints
    canvas.color[top:] = np.clip(canvas.color[top:] + change[..., None], 0, 255).astype(np.uint8)


def paint_building(canvas: Canvas, side: int, x: float, z0: float, z1: float) -> None:
    """House along the street: facade with windows and doors, the front that looks towards the camera, a roof."""
    rng = canvas.rng
    height = rng.uniform(6.5, 17)
    palette = [(186, 160, 130), (150, 95, 80), (200, 196, 186), (140, 140, 145), (205, 185, 140), (120, 105, 95)]
    facade = jitter(rng, palette[rng.integers(len(palette))], 14)
    pane = jitter(rng, [(60, 70, 85), (95, 115, 135), (45, 48, 55)][rng.integers(3)], 8)
    front, along = canvas.lit(facade, 0), canvas.lit(facade, -side)
    deep = x + side * 9
    canvas.quad_z(z0, min(x, deep), max(x, deep), 0, height, front, BUILDING)
    canvas.quad_x(x, z0, z1, 0, height, along, BUILDING)
    floors = max(2, int(height / 3.0))
    step = rng.uniform(1.7, 2.6)
    for floor in range(floors):
        y = 0.6 + floor * height / floors
        shop = floor == 0 and rng.random() < 0.5
        for z in np.arange(z0 + 0.5, z1 - 1.0, step):
            glass = jitter(rng, (225, 205, 150), 10) if rng.random() < 0.07 else pane
            if shop:
                canvas.quad_x(x, z, z + step * 0.8, 0.5, 2.5, jitter(rng, glass, 20), BUILDING)
            elif floor == 0 and rng.random() < 0.15:
                canvas.quad_x(x, z, z + 0.95, 0.0, 2.1, facade * 0.45, BUILDING)
            else:
                canvas.quad_x(x, z - 0.08, z + 1.08, y + 0.22, y + 1.98, along * 1.14, BUILDING)
                canvas.quad_x(x, z, z + 1.0, y + 0.3, y + 1.9, glass, BUILDING)
        for u in np.arange(1.0, 8.0, step):
            canvas.quad_z(z0, x + side * u, x + side * (u + 1.0), y + 0.3, y + 1.9, pane, BUILDING)
    if rng.random() < 0.6:
        roof = jitter(rng, (125, 75, 62), 16)
        canvas.quad_x(x, z0, z1, height, height + rng.uniform(0.5, 1.6), roof, BUILDING)
    canvas.quad_x(x - side * 0.05, z0, z1, height - 0.35, height, along * 0.8, BUILDING)


def paint_wall(canvas: Canvas, side: int, x: float, z0: float, z1: float) -> None:
    """Brick or stone wall with courses and joints."""
    rng = canvas.rng
    height = rng.uniform(1.6, 2.8)
    color = jitter(rng, [(165, 130, 115), (150, 150, 145), (175, 160, 150)][rng.integers(3)], 10)
    base = canvas.lit(color, -side)
    canvas.quad_z(z0, min(x, x + side * 0.5), max(x, x + side * 0.5), 0, height, canvas.lit(color, 0), WALL)
    canvas.quad_x(x, z0, z1, 0, height, base, WALL)
    for row, y in enumerate(np.arange(0.0, height, 0.4)):
        canvas.quad_x(x, z0, z1, y, y + 0.06, base * 0.72, WALL)
        for z in np.arange(z0 + (row % 2) * 0.45, z1, 0.9):
            canvas.quad_x(x, z, z + 0.07, y, min(y + 0.4, height), base * 0.75, WALL)
            if rng.random() < 0.15:
                canvas.quad_x(
                    x, z + 0.07, min(z + 0.9, z1), y + 0.06, min(y + 0.4, height), jitter(rng, base, 12), WALL
                )
    canvas.quad_x(x, z0, z1, height - 0.12, height + 0.05, base * 1.15, WALL)


def paint_fence(canvas: Canvas, x: float, z0: float, z1: float) -> None:
    """Railing: bars before a hedge or a haze; the whole area counts as fence, as annotators draw it."""
    rng = canvas.rng
    height = rng.uniform(1.1, 1.7)
    behind = jitter(rng, [(170, 165, 158), (120, 125, 110)][rng.integers(2)], 12)
    metal = jitter(rng, [(60, 62, 65), (225, 225, 222), (70, 95, 75), (130, 100, 70)][rng.integers(4)], 8)
    canvas.quad_x(x, z0, z1, 0, height, behind, FENCE)
    for z in np.arange(z0, z1, 0.35):
        canvas.quad_x(x, z, z + 0.13, 0, height, metal, FENCE)
    for y in (0.1, height - 0.15):
        canvas.quad_x(x, z0, z1, y, y + 0.13, metal, FENCE)


def paint_tree(canvas: Canvas, x: float, z: float, height: float) -> None:
    """Trunk and a crown of leaf clumps."""
    rng, p = canvas.rng, canvas.camera.project
    column, foot = p(x, 0, z)
    unit = canvas.camera.size(1, z)
    canvas.shade(column, foot, unit * height * 0.35, unit * 0.4, 0.35)
    bark, leaf = (
        jitter(rng, (92, 75, 60), 8),
        jitter(rng, [(62, 98, 48), (92, 118, 55), (125, 110, 50)][rng.integers(3)], 12),
    )
    canvas.bar((column, foot), (column, foot - unit * height * 0.6), unit * 0.28, bark, PLANT, z)
    for _ in range(26):
        a, r = rng.uniform(0, 2 * np.pi), np.sqrt(rng.random()) * height * 0.30
        dx, dy = r * np.cos(a), height * 0.72 + r * np.sin(a) * 0.9
        tone = leaf * (0.72 + 0.5 * (dy / height - 0.45)) + rng.normal(0, 10)
        size = unit * height * rng.uniform(0.07, 0.15)
        canvas.disc(column + unit * dx, foot - unit * dy, size, size * 0.85, tone, PLANT, z)


def paint_hedge(canvas: Canvas, x: float, z0: float, z1: float) -> None:
    """Row of bushes."""
    rng = canvas.rng
    leaf = jitter(rng, (75, 105, 52), 14)
    for z in np.arange(z1, z0, -0.7):
        column, foot = canvas.camera.project(x + rng.normal(0, 0.3), 0, z)
        unit, height = canvas.camera.size(1, z), rng.uniform(0.8, 1.9)
        canvas.disc(column, foot - unit * height / 2, unit * 0.8, unit * height / 2, leaf + rng.normal(0, 14), PLANT, z)


def paint_pole(canvas: Canvas, x: float, z: float, height: float, arm: float = 0.0) -> None:
    """Post, with an arm for lamps and traffic lights."""
    rng, p = canvas.rng, canvas.camera.project
    color = jitter(rng, [(150, 152, 155), (95, 98, 102), (178, 178, 172)][rng.integers(3)], 8)
    width = max(3.0, canvas.camera.size(0.2, z))
    foot, top = p(x, 0, z), p(x, height, z)
    canvas.shade(foot[0], foot[1], width * 1.6, width * 0.5, 0.4)
    canvas.bar(foot, top, width, color, POLE, z)
    canvas.bar((foot[0] - width / 5, foot[1]), (top[0] - width / 5, top[1]), width / 4, color * 1.25, POLE, z)
    if arm:
        canvas.bar(top, p(x + arm, height, z), max(3.0, width * 0.6), color, POLE, z)


def paint_traffic_light(canvas: Canvas, x: float, y: float, z: float) -> None:
    """Box with three lamps, one lit."""
    rng = canvas.rng
    canvas.quad_z(z, x - 0.26, x + 0.26, y, y + 1.15, jitter(rng, (32, 34, 32), 4), LIGHT)
    lit = rng.integers(3)
    for i, color in enumerate([(60, 235, 140), (250, 190, 40), (250, 50, 40)]):
        column, row = canvas.camera.project(x, y + 0.2 + 0.37 * i, z)
        radius = canvas.camera.size(0.15, z)
        canvas.disc(column, row, radius, radius, color if i == lit else np.array(color) * 0.28, LIGHT, z)


def paint_sign(canvas: Canvas, x: float, y: float, z: float) -> None:
    """Round, triangular or rectangular plate with a glyph."""
    rng = canvas.rng
    column, row = canvas.camera.project(x, y, z)
    radius = canvas.camera.size(rng.uniform(0.36, 0.5), z)
    kind = rng.integers(4)
    red, blue, white = (205, 35, 40), (35, 85, 175), (238, 238, 235)
    if kind == 0:
        canvas.disc(column, row, radius, radius, red, SIGN, z)
        canvas.disc(column, row, radius * 0.7, radius * 0.7, white, SIGN, z)
        canvas.bar((column - radius * 0.4, row), (column + radius * 0.4, row), radius * 0.25, (30, 30, 30), SIGN, z)
    elif kind == 1:
        corners = np.array([(0, -1.05), (1.05, 0.75), (-1.05, 0.75)])
        canvas.fill(corners * radius + (column, row), red, SIGN, z)
        canvas.fill(corners * radius * 0.6 + (column, row + radius * 0.08), white, SIGN, z)
    elif kind == 2:
        canvas.disc(column, row, radius, radius, blue, SIGN, z)
        canvas.bar((column, row + radius * 0.5), (column, row - radius * 0.5), radius * 0.3, white, SIGN, z)
    else:
        plate = [(235, 200, 40), blue, (40, 120, 70)][rng.integers(3)]
        wide = rng.uniform(1.0, 1.9) * radius
        corners = [(column - wide, row - radius), (column + wide, row - radius)]
        corners += [(column + wide, row + radius), (column - wide, row + radius)]
        canvas.fill(corners, plate, SIGN, z)
        for k in (-0.4, 0.3):
            a, b = (column - wide * 0.7, row + k * radius), (column + wide * rng.uniform(0.1, 0.7), row + k * radius)
            canvas.bar(a, b, radius * 0.2, (250, 250, 250), SIGN, z)


def leaf_grain(canvas: Canvas) -> None:
    """Grain of leaves, grass, plaster and brick over what was painted flat."""
    rng = canvas.rng
    fine, coarse = (noise(rng, canvas.height, canvas.width, c) for c in (2.5, 9))
    strength = np.zeros(256, np.float32)
    strength[PLANT], strength[BUILDING], strength[WALL], strength[TERRAIN] = 17, 4.5, 7, 9
    change = (fine + 0.7 * coarse) * strength[canvas.label]
    canvas.color[:] = np.clip(canvas.color + change[..., None], 0, 255).astype(np.uint8)


def shrink(canvas: Canvas) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Colour (averaged), label and depth (pixel centres) at the size of the picture."""
    size = (canvas.width // 2, canvas.height // 2)
    color = cv2.resize(canvas.color, size, interpolation=cv2.INTER_AREA)
    return color, np.ascontiguousarray(canvas.label[1::2, 1::2]), np.ascontiguousarray(canvas.depth[1::2, 1::2])
