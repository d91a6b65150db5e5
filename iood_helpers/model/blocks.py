"""The building blocks of InternImage: norms between memory orders, stem, downsampling, MLP.

Source: as ``internimage.py``. Indices inside the ``Sequential`` wrappers are part of the official parameter names.
"""

from __future__ import annotations

from torch import Tensor, nn

LAYER_NORM_EPS = 1e-6  # the checkpoints were trained with this, not with PyTorch's 1e-5
ACTIVATIONS = {"GELU": nn.GELU, "ReLU": nn.ReLU, "SiLU": nn.SiLU}


class ToChannelsFirst(nn.Module):
    """(N, H, W, C) to (N, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 3, 1, 2)


class ToChannelsLast(nn.Module):
    """(N, C, H, W) to (N, H, W, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)


def build_norm(channels: int, kind: str = "LN", *, first: bool = False, last: bool = True) -> nn.Sequential:
    """Norm between two memory orders; permutations take an index, which the checkpoints' names show.

    Parameters
    ----------
    channels : int
    kind : {"LN", "BN"}
        Layer norm over channels, or batch norm.
    first : bool
        Whether the input is (N, C, H, W); else it is (N, H, W, C).
    last : bool
        Whether the output shall be (N, H, W, C); else it is (N, C, H, W).

    Returns
    -------
    nn.Sequential

    Raises
    ------
    ValueError
        If ``kind`` is unknown.
    """
    layers: list[nn.Module]
    if kind == "LN":
        norm = nn.LayerNorm(channels, eps=LAYER_NORM_EPS)
        layers = [*[ToChannelsLast()] * first, norm, *[ToChannelsFirst()] * (not last)]
    elif kind == "BN":
        layers = [*[ToChannelsFirst()] * (not first), nn.BatchNorm2d(channels), *[ToChannelsLast()] * last]
    else:
        raise ValueError(f"Unknown norm_layer {kind!r}; use 'LN' or 'BN'.")
    return nn.Sequential(*layers)


class StemLayer(nn.Module):
    """Two 3x3 convolutions of stride 2: image (N, 3, H, W) to (N, H/4, W/4, C), sizes rounded up."""

    def __init__(self, in_chans: int, channels: int, act_layer: str, norm_layer: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_chans, channels // 2, 3, stride=2, padding=1)
        self.norm1 = build_norm(channels // 2, norm_layer, first=True, last=False)
        self.act = ACTIVATIONS[act_layer]()
        self.conv2 = nn.Conv2d(channels // 2, channels, 3, stride=2, padding=1)
        self.norm2 = build_norm(channels, norm_layer, first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm2(self.conv2(self.act(self.norm1(self.conv1(x)))))


class DownsampleLayer(nn.Module):
    """3x3 convolution of stride 2 without bias: (N, H, W, C) to (N, H/2, W/2, 2C), sizes rounded up."""

    def __init__(self, channels: int, norm_layer: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1, bias=False)
        self.norm = build_norm(2 * channels, norm_layer, first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x.permute(0, 3, 1, 2)))


class MLP(nn.Module):
    """Two linear layers over channels."""

    def __init__(self, channels: int, hidden: int, act_layer: str, drop: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.act = ACTIVATIONS[act_layer]()
        self.fc2 = nn.Linear(hidden, channels)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))
