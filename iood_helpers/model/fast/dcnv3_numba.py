"""The DCNv3 core on the CPU: one pass over channels-last memory, compiled by numba on first use.

For each output pixel: the soft-max of the weights, then for each point its four neighbours in the map and their shares
(loops that the compiler turns into SIMD code), then one weighted sum of whole vectors of channels. Nothing larger than
the points of one pixel is stored on the way. Same arithmetic as ``dcnv3.py``.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ...compiled import compiled

CHUNKS_PER_THREAD = 4  # threads take the next chunk of rows when they are done, so a busy core holds up no one
LOG2_E, LN_2 = np.float32(1.4426950408889634), np.float32(0.6931471805599453)
ONE, HALF, ZERO = np.float32(1), np.float32(0.5), np.float32(0)
I0, I1 = np.int32(0), np.int32(1)
FLAGS = {"contract", "nsz", "arcp", "reassoc"}  # not nnan, ninf: a NaN has to come out as a NaN


def sample(
    value: np.ndarray,
    offset: np.ndarray,
    mask: np.ndarray,
    *,
    out: np.ndarray,
    groups: int,
    grid: np.ndarray,
    offset_scale: float,
    stride: tuple[int, int],
    start: tuple[int, int],
    softmax: bool,
    threads: int,
) -> None:
    """Fill ``out`` with the sampled and averaged values.

    Parameters
    ----------
    value, offset, mask, out : ndarray
        As in :func:`iood_helpers.dcnv3.dcnv3`, float32 and C-contiguous.
    groups, offset_scale, softmax
        As there.
    grid : ndarray
        Fixed displacement (x, y) of each point, shape (K, 2), already scaled.
    stride, start : (int, int)
        (y, x): row ``r`` of the output has its centre at ``r * stride + start`` in the map.
    threads : int
    """
    points = len(grid)
    tiled = np.ascontiguousarray(np.tile(np.asarray(grid, np.float32), (groups, 1)).T)
    rows = out.shape[0] * out.shape[1]
    step = max(1, -(-rows // (threads * CHUNKS_PER_THREAD)))
    starts = iter(range(0, rows, step))
    scale, (step_y, step_x), (first_y, first_x) = np.float32(offset_scale), stride, start

    def work() -> None:
        for row in starts:
            _rows(
                *(value, offset, mask, out, tiled, points, scale, step_y, step_x, first_y, first_x),
                *(row, min(row + step, rows), softmax),
            )

    if threads == 1:
        work()
        return
    helpers = [_pool(threads - 1).submit(work) for _ in range(threads - 1)]
    work()
    for helper in helpers:
        helper.result()


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="dcnv3")


def _weighted_sum(lanes: int) -> Any:
    """Compiled ``out[:lanes] = sum_i weight[i] * value[cell[i] * pitch :][:lanes]`` on addresses in bytes.

    Written in LLVM's language because compilers do not dare to keep the sum in a register where arrays might overlap.
    """

    @intrinsic
    def weighted_sum(typingctx: Any, out: Any, value: Any, cells: Any, weights: Any, points: Any, pitch: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            out, value, cells, weights, points, pitch = args
            int32, int64, single = ir.IntType(32), ir.IntType(64), ir.FloatType()
            vector = ir.VectorType(single, lanes)
            nothing, same = ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(int32, lanes), [0] * lanes)

            def load(address: Any, kind: Any, align: int) -> Any:
                return builder.load(builder.inttoptr(address, kind.as_pointer()), align=align)

            sums = [cgutils.alloca_once_value(builder, ir.Constant(vector, [0.0] * lanes)) for _ in range(4)]
            for total in sums:  # alloca_once fills once per function; this is once per call
                builder.store(ir.Constant(vector, [0.0] * lanes), total)
            with cgutils.for_range(builder, points) as loop:
                for corner, total in enumerate(sums):  # four sums, since each addition waits for the one before
                    shift = builder.mul(builder.add(builder.mul(loop.index, int64(4)), int64(corner)), int64(4))
                    cell = builder.sext(load(builder.add(cells, shift), int32, 4), int64)
                    found = load(builder.add(value, builder.mul(cell, pitch)), vector, 4)
                    weight = builder.insert_element(nothing, load(builder.add(weights, shift), single, 4), int32(0))
                    weight = builder.shuffle_vector(weight, nothing, same)
                    product = builder.fmul(found, weight, flags=("contract",))
                    builder.store(builder.fadd(builder.load(total), product, flags=("contract",)), total)
            first, second, third, fourth = (builder.load(total) for total in sums)
            total = builder.fadd(builder.fadd(first, second), builder.fadd(third, fourth))
            builder.store(total, builder.inttoptr(out, vector.as_pointer()), align=4)
            return context.get_dummy_value()

        return types.void(out, value, cells, weights, points, pitch), codegen

    return weighted_sum


_sum16, _sum8, _sum1 = _weighted_sum(16), _weighted_sum(8), _weighted_sum(1)


@intrinsic
def _as_float(typingctx: Any, bits: Any) -> Any:
    """The float32 that has these bits."""
    return types.float32(types.int32), lambda context, builder, signature, args: builder.bitcast(
        args[0], ir.FloatType()
    )


@compiled(nogil=True, fastmath=FLAGS, error_model="numpy")
def _softmax(logits: np.ndarray, out: np.ndarray, points: int) -> None:
    """Soft-max over each run of ``points`` numbers; exp by a polynomial of degree 7 (relative error 2e-7)."""
    for first in range(0, len(logits), points):
        top = logits[first]
        for j in range(first + 1, first + points):
            top = max(top, logits[j])
        for j in range(first, first + points):
            out[j] = logits[j] - top
    for j in range(len(logits)):
        power = out[j] * LOG2_E
        power = np.float32(-126) if power < np.float32(-126) else power
        whole = np.floor(power + HALF)
        x = (power - whole) * LN_2
        series = np.float32(1 / 5040)
        for factor in (1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2, 1.0, 1.0):
            series = series * x + np.float32(factor)
        bits = (np.int32(whole) + np.int32(127)) << np.int32(23)
        out[j] = series * _as_float(bits)  # type: ignore[call-arg]  # numba adds the first one
    for first in range(0, len(logits), points):
        total = ZERO
        for j in range(first, first + points):
            total += out[j]
        for j in range(first, first + points):
            out[j] /= total


@compiled(nogil=True, fastmath=FLAGS, error_model="numpy")
def _rows(
    value: np.ndarray,
    offset: np.ndarray,
    mask: np.ndarray,
    out: np.ndarray,
    grid: np.ndarray,
    points: int,
    scale: np.float32,
    step_y: int,
    step_x: int,
    first_y: int,
    first_x: int,
    start: int,
    stop: int,
    softmax: bool,
) -> None:
    """Rows ``start`` to ``stop`` of the output, counted over the batch."""
    _, height, width, channels = value.shape
    _, out_h, out_w, _ = out.shape
    samples = mask.shape[3]
    per_group = channels * points // samples
    last_x, last_y, pitch = np.int32(width - 1), np.int32(height - 1), np.int32(width)
    strength = np.empty(samples, np.float32)
    weights, cells = np.empty(4 * samples, np.float32), np.empty(4 * samples, np.int32)
    values, outs, first_cell, first_weight = value.ctypes.data, out.ctypes.data, cells.ctypes.data, weights.ctypes.data
    for row in range(start, stop):
        n, y = row // out_h, row % out_h
        center_y = np.int32(y * step_y + first_y)
        above, below = np.float32(-2 - center_y), np.float32(height + 1 - center_y)
        for x in range(out_w):
            center_x = np.int32(x * step_x + first_x)
            left, right = np.float32(-2 - center_x), np.float32(width + 1 - center_x)
            moved, logits = offset[n, y, x], mask[n, y, x]
            if softmax:
                _softmax(logits, strength, points)
            else:
                for j in range(samples):
                    strength[j] = logits[j]
            for j in range(samples):
                # Relative to the centre, so that a float32 keeps its digits for the fraction.
                at_x, at_y = grid[0, j] + moved[2 * j] * scale, grid[1, j] + moved[2 * j + 1] * scale
                # Far outside is as good as just outside; a NaN goes there too, so that no address can be wrong.
                at_x = (at_x if at_x < right else right) if at_x > left else left
                at_y = (at_y if at_y < below else below) if at_y > above else above
                floor_x, floor_y = np.floor(at_x), np.floor(at_y)
                part_x, part_y = at_x - floor_x, at_y - floor_y
                ix, iy = np.int32(floor_x) + center_x, np.int32(floor_y) + center_y
                w_left = ONE - part_x if (ix >= I0) & (ix <= last_x) else ZERO
                w_right = part_x if (ix >= -I1) & (ix < last_x) else ZERO
                w_top = (ONE - part_y) * strength[j] if (iy >= I0) & (iy <= last_y) else ZERO
                w_bottom = part_y * strength[j] if (iy >= -I1) & (iy < last_y) else ZERO
                x0, x1 = min(max(ix, I0), last_x), min(max(ix + I1, I0), last_x)
                y0, y1 = min(max(iy, I0), last_y) * pitch, min(max(iy + I1, I0), last_y) * pitch
                weights[4 * j], weights[4 * j + 1] = w_left * w_top, w_right * w_top
                weights[4 * j + 2], weights[4 * j + 3] = w_left * w_bottom, w_right * w_bottom
                cells[4 * j], cells[4 * j + 1] = y0 + x0, y0 + x1
                cells[4 * j + 2], cells[4 * j + 3] = y1 + x0, y1 + x1
            source = values + n * height * width * channels * 4
            target = outs + (row * out_w + x) * channels * 4
            for g in range(samples // points):
                channel, last = g * per_group, (g + 1) * per_group
                where, weight = first_cell + g * points * 16, first_weight + g * points * 16
                while channel + 16 <= last:
                    _sum16(target + channel * 4, source + channel * 4, where, weight, points, channels * 4)
                    channel += 16
                while channel + 8 <= last:
                    _sum8(target + channel * 4, source + channel * 4, where, weight, points, channels * 4)
                    channel += 8
                while channel < last:
                    _sum1(target + channel * 4, source + channel * 4, where, weight, points, channels * 4)
                    channel += 1
