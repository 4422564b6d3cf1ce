"""Tiny networks as files of ncnn."""

import numpy as np


def ncnn(path, *layers, sizes=()):
    """A network of these layers as files of ncnn, with small random weights of these sizes.

    A size is (count, whether a mark of 16 bits stands before them).
    """
    rng = np.random.default_rng(0)
    data = b""
    for count, marked in sizes:
        values = rng.normal(0, 0.1, count)
        data += b"\x47\x6b\x30\x01" + values.astype("<f2").tobytes() if marked else b""
        data += b"" if marked else values.astype("<f4").tobytes()
        data += bytes(-len(data) % 4)
    path.with_suffix(".bin").write_bytes(data)
    path.write_text("\n".join(["7767517", f"{len(layers)} 99", *layers, ""]))
    return path


def dense(path):
    """What Real-ESRGAN's graphs are made of: dense blocks, scaled residuals, two enlargements."""
    return ncnn(
        path,
        "Input in 0 1 in 0=0",
        "Convolution c0 1 1 in f 0=4 1=3 4=1 5=1 6=108",
        "Split s0 1 3 f f0 f1 f2",
        "Convolution c1 1 1 f0 g 0=4 1=3 4=1 5=1 6=144 9=2 -23310=1,2.0e-01",
        "Split s1 1 2 g g0 g1",
        "Concat cat 2 1 f1 g0 fg 0=0",
        "Convolution c2 1 1 fg h 0=4 1=3 4=1 5=0 6=288",
        "Eltwise e 3 1 h f2 g1 sum 0=1 -23301=3,2.0e-01,1.0,-5.0e-01",
        "Interp up 1 1 sum big 0=1 1=2.0 2=2.0",
        "ReLU r 1 1 big act 0=2.0e-01",
        "Convolution c3 1 1 act out 0=3 1=1 5=1 6=12",
        "Padding p 1 1 out padded 0=1 1=1 2=1 3=1 4=1",
        "Crop cut 1 1 padded cropped -23309=2,1,1 -23310=2,-1,-1 -23311=2,1,2",
        "BinaryOp half 1 1 cropped centred 0=0 1=1 2=5.0e-01",
        sizes=[(108, True), (4, False), (144, True), (4, False), (288, True), (12, True),
               (3, False)],
    )  # fmt: skip


def shuffled(path):
    """realesr-general's graph: PReLU, a pixel shuffle and the enlarged input; and SPAN's gates."""
    return ncnn(
        path,
        "Input data 0 1 data",
        "MemoryData m 0 1 m 0=1 1=1 2=3",
        "Split s0 1 2 data d0 d1",
        "BinaryOp sub 2 1 d0 m shifted 0=1",
        "Convolution c0 1 1 shifted f 0=4 1=3 4=1 5=1 6=108",
        "PReLU p 1 1 f g 0=4",
        "Swish sw 1 1 g g1",
        "Sigmoid si 1 1 g1 g2",
        "ConvolutionDepthWise dw 1 1 g2 g3 0=4 1=3 4=1 5=1 6=36 7=4",
        "TanH th 1 1 g3 g4",
        "Convolution c1 1 1 g4 h 0=12 1=3 4=1 5=1 6=432",
        "PixelShuffle ps 1 1 h residual 0=2",
        "Interp up 1 1 d1 base 0=2 1=2.0 2=2.0",
        "BinaryOp add 2 1 residual base sum 0=0",
        "Clip c 1 1 sum out 0=-1.0 1=2.0",
        sizes=[(3, False), (108, True), (4, False), (4, False), (36, True), (4, False),
               (432, True), (12, False)],
    )  # fmt: skip
