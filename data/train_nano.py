"""Train the shipped InternImage-nano + UPerNet checkpoints.

    python data/train_nano.py scenes --seeds 1600                     # on rendered street scenes
    python data/train_nano.py camvid --root /path/that/holds/camvid   # on CamVid's training photographs

A plain loop: random scale, crop, flip and colour; AdamW with warm-up and polynomial decay; cross-entropy with mild
class weights, plus the auxiliary head; an exponential average of the weights is what is kept. The log and a resumable
state lie beside the checkpoint. The number of steps, not the clock, decides when it ends, so that a seed gives one
result.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mmseg.registry import MODELS
from PIL import Image
from tqdm.auto import tqdm

import iood_helpers.internimage  # noqa: F401  (registers the backbone)
from iood_helpers.bravo.accumulator import BravoAccumulator, per_class_iou
from iood_helpers.datasets import load_dataset
from iood_helpers.datasets.labels import CLASS_NAMES, NUM_CLASSES, VOID
from iood_helpers.io import write_atomically
from iood_helpers.model.sizes import MEAN, STD, model_config

HERE = Path(__file__).resolve().parent


def rendered_scenes(seeds: range) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images (through JPEG, as shipped) and labels of rendered scenes; kept in ``data/cache`` once made."""
    import io

    from render import encode_jpeg, render_scene

    folder = HERE / "cache" / "scenes"
    pairs = []
    for seed in tqdm(seeds, desc="scenes", mininterval=5):
        image_path, label_path = folder / f"{seed:06d}.jpg", folder / f"{seed:06d}.png"
        if not label_path.exists():
            scene = render_scene(seed)
            write_atomically(image_path, lambda path, s=scene: path.write_bytes(encode_jpeg(s.image)))
            write_atomically(label_path, lambda path, s=scene: Image.fromarray(s.label).save(path))
        image = np.asarray(Image.open(io.BytesIO(image_path.read_bytes())))
        pairs.append((image, np.asarray(Image.open(label_path))))
    return pairs


def photographs(spec: str, root: Path | None) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images and labels of a data set split."""
    return [(sample.image(), sample.label()) for sample in tqdm(load_dataset(spec, root=root), desc=spec)]


def augment(
    image: np.ndarray,
    label: np.ndarray,
    crop: tuple[int, int],
    scales: tuple[float, float],
    rng: np.random.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One randomly scaled, cropped, flipped and recoloured pair: (3, h, w) float32 and (h, w) int64."""
    scale = np.exp(rng.uniform(*np.log(scales)))
    size = [max(c, round(s * scale)) for c, s in zip(crop, label.shape, strict=True)]
    top, left = (int(rng.integers(0, s - c + 1)) for s, c in zip(size, crop, strict=True))
    ratio = [old / new for old, new in zip(label.shape, size, strict=True)]
    box = (
        left * ratio[1],
        top * ratio[0],
        (left + crop[1]) * ratio[1],
        (top + crop[0]) * ratio[0],
    )
    image = np.asarray(
        Image.fromarray(image).resize(crop[::-1], Image.BILINEAR, box=box),
        dtype=np.float32,
    )
    label = np.asarray(Image.fromarray(label).resize(crop[::-1], Image.NEAREST, box=box))
    if rng.random() < 0.5:
        image, label = image[:, ::-1], label[:, ::-1]
    if rng.random() < 0.8:
        gray = image.mean(-1, keepdims=True)
        image = gray + (image - gray) * rng.uniform(0.6, 1.4)
        image = (image - 128) * rng.uniform(0.75, 1.25) + 128 + rng.uniform(-25, 25)
        image = np.clip(image * rng.uniform(0.94, 1.06, 3), 0, 255)
    image = (image - np.float32(MEAN)) / np.float32(STD)
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32)), torch.from_numpy(
        label.astype(np.int64)
    )


def draw_batch(
    pairs: list[tuple[np.ndarray, np.ndarray]], step: int, args: argparse.Namespace
) -> tuple[torch.Tensor, torch.Tensor, np.random.Generator]:
    """Images (batch, 3, h, w), labels (batch, h, w) and the step's random stream."""
    rng = np.random.default_rng((args.seed, step))  # one stream per step: a resumed run draws the same pictures
    chosen = rng.integers(0, len(pairs), args.batch)
    batch = [augment(*pairs[i], args.crop, args.scales, rng) for i in chosen]
    x = torch.stack([image for image, _ in batch]).contiguous(memory_format=torch.channels_last)
    return x, torch.stack([label for _, label in batch]), rng


def class_weights(labels: list[np.ndarray]) -> torch.Tensor:
    """Mild weights against rarity: (median share / share) ** 0.35, within 0.6 .. 3."""
    counts = sum(np.bincount(label.ravel(), minlength=256)[:NUM_CLASSES] for label in labels).astype(float)
    share = counts / counts.sum()
    weight = np.ones(NUM_CLASSES)
    seen = counts > 0
    weight[seen] = np.clip((np.median(share[seen]) / share[seen]) ** 0.35, 0.6, 3.0)
    return torch.tensor(weight, dtype=torch.float32)


@torch.no_grad()
def validate(model: torch.nn.Module, pairs: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Intersection over union of each class over whole images, (19,); NaN for a class that occurs in neither."""
    model.eval()
    counts = BravoAccumulator("validation")
    for image, label in pairs:
        x = torch.from_numpy(((image - np.float32(MEAN)) / np.float32(STD)).transpose(2, 0, 1).copy())[None]
        logits = model.decode_head(model.extract_feat(x.contiguous(memory_format=torch.channels_last)))
        logits = F.interpolate(logits, label.shape, mode="bilinear", align_corners=False)
        confidence, predicted = logits[0].softmax(0).max(0)
        counts.update(label, None, predicted, confidence)
    model.train()
    return per_class_iou(counts.confusion)


def save_checkpoint(model: torch.nn.Module, path: Path, meta: dict) -> None:
    """Write the official format: ``state_dict`` and ``meta``."""
    content = {
        "state_dict": {k: v.contiguous() for k, v in model.state_dict().items()},
        "meta": meta,
    }
    write_atomically(path, lambda temporary: torch.save(content, temporary))


def train(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    if args.data == "scenes":
        train_pairs = rendered_scenes(range(args.first_seed, args.first_seed + args.seeds))
        val_pairs = rendered_scenes(range(100_000, 100_000 + args.val))
    else:
        train_pairs = photographs("camvid/train", args.root)
        val_pairs = photographs("camvid/val", args.root)[: args.val]
    model = MODELS.build(model_config("nano")).to(memory_format=torch.channels_last)
    average = copy.deepcopy(model)
    plain = [p for n, p in model.named_parameters() if p.ndim == 1 or "norm" in n]
    decayed = [p for n, p in model.named_parameters() if not (p.ndim == 1 or "norm" in n)]
    optimizer = torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": 0.05},
            {"params": plain, "weight_decay": 0.0},
        ]
    )
    weights = class_weights([label for _, label in train_pairs])
    state_path, log_path = (
        args.out.with_suffix(".state"),
        args.out.with_suffix(".log.jsonl"),
    )
    start = 0
    if state_path.exists():
        state = torch.load(state_path, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["step"]
    elif args.init:
        weights_before = torch.load(args.init, weights_only=True)["state_dict"]
        model.load_state_dict(weights_before)
        average.load_state_dict(weights_before)
    else:
        log_path.unlink(missing_ok=True)

    model.train()
    loader = ThreadPoolExecutor(1)
    upcoming = loader.submit(draw_batch, train_pairs, start, args)
    began, losses = time.time(), []
    for step in tqdm(
        range(start, args.steps),
        initial=start,
        total=args.steps,
        desc="train",
        mininterval=10,
    ):
        x, y, rng = upcoming.result()
        upcoming = loader.submit(draw_batch, train_pairs, step + 1, args)
        warm = min(1.0, (step + 1) / 100)
        for group in optimizer.param_groups:
            group["lr"] = args.lr * warm * (1 - step / args.steps) ** 0.9
        features = model.extract_feat(x)
        logits = model.decode_head(features)
        auxiliary = model.auxiliary_head(features)
        # Every second label in both directions, from a random corner: a quarter of the cost, no bias on average.
        target = y[:, rng.integers(2) :: 2, rng.integers(2) :: 2]
        upsampled = F.interpolate(logits.contiguous(), target.shape[1:], mode="bilinear", align_corners=False)
        small = F.interpolate(y[:, None].float(), auxiliary.shape[2:], mode="nearest")[:, 0].long()
        loss = F.cross_entropy(upsampled, target, weights, ignore_index=VOID)
        loss = loss + 0.4 * F.cross_entropy(auxiliary, small, weights, ignore_index=VOID)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        update_average(average, model, decay=min(0.995, (1 + step) / (10 + step)))
        losses.append(loss.item())
        if (step + 1) % args.every == 0 or step + 1 == args.steps:
            per_class = validate(average, val_pairs)
            seen = [c for c in range(NUM_CLASSES) if any((label == c).any() for _, label in val_pairs)]
            row = {
                "stage": args.stage,
                "step": step + 1,
                "loss": round(float(np.mean(losses)), 4),
                "val_miou": round(float(np.nanmean(per_class[seen])), 4),
                "val_iou": {CLASS_NAMES[c]: round(float(per_class[c]), 4) for c in seen},
                "seconds": round(time.time() - began),
            }
            losses = []
            with log_path.open("a") as log:
                log.write(json.dumps(row) + "\n")
            recipe = {k: str(v) for k, v in vars(args).items() if k not in ("root", "out", "init")}
            meta = {
                "size": "nano",
                "classes": list(CLASS_NAMES),
                "recipe": recipe,
                "step": step + 1,
            }
            save_checkpoint(average, args.out, meta)
            state = {
                "model": model.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": step + 1,
            }
            write_atomically(state_path, lambda temporary, s=state: torch.save(s, temporary))
    state_path.unlink(missing_ok=True)


@torch.no_grad()
def update_average(average: torch.nn.Module, model: torch.nn.Module, decay: float) -> None:
    """Move the averaged weights (and batch-norm statistics) towards the trained ones."""
    for mean, current in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(current, 1 - decay)
        else:
            mean.copy_(current)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", choices=("scenes", "camvid"))
    parser.add_argument("--root", type=Path, help="folder that holds camvid/ (default: $IOOD_DATA)")
    parser.add_argument("--seeds", type=int, default=3000, help="number of rendered training scenes")
    parser.add_argument("--first-seed", type=int, default=0, help="seed of the first training scene")
    parser.add_argument("--init", type=Path, help="checkpoint whose weights a further stage starts from")
    parser.add_argument(
        "--out",
        type=Path,
        help="checkpoint to write (default: data/checkpoints/nano*.pth)",
    )
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--crop", type=int, nargs=2, default=None, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--scales", type=float, nargs=2, default=(0.8, 1.6))
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--val", type=int, default=30, help="validation images in the log")
    parser.add_argument("--every", type=int, default=100, help="steps between log rows and saved states")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stage", type=int, default=1, help="number of the stage in the log")
    args = parser.parse_args()
    args.crop = tuple(args.crop or ((192, 384) if args.data == "scenes" else (256, 352)))
    args.scales = tuple(args.scales)
    args.out = args.out or HERE / "checkpoints" / ("nano.pth" if args.data == "scenes" else "nano-camvid.pth")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    return args


if __name__ == "__main__":
    train(parse_arguments())
