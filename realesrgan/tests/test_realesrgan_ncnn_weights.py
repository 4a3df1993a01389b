"""Reading ncnn's weights: every byte has its place, or the file is refused."""

from __future__ import annotations

import numpy as np
import pytest

from enlight.realesrgan.pure.ncnn_weights import (
    FP16_TAG,
    Convolution,
    NcnnFormatError,
    Slopes,
    read_layers,
    rrdbnet_state_dict,
    srvggnet_state_dict,
)

PARAM = """7767517
4 4
Input            in        0 1 data
Convolution      first     1 1 data a 0=3 1=3 4=1 5=1 6=27 9=2 -23310=1,2.000000e-01
PReLU            slopes    1 1 a b 0=3
Convolution      last      1 1 b out 0=1 1=3 4=1 5=1 6=27
"""
FIRST = np.arange(27, dtype="<f2")
FIRST_BIAS = np.array([0.1, 0.2, 0.3], "<f4")
SLOPES = np.array([1, 2, 3], "<f4")
LAST = np.arange(27, dtype="<f2") + 100
TAG = FP16_TAG.to_bytes(4, "little")
PAD = b"\0\0"  # 27 halves are 54 bytes
PARTS = [TAG, FIRST.tobytes(), PAD, FIRST_BIAS.tobytes(), SLOPES.tobytes(), TAG, LAST.tobytes(), PAD]
DATA = b"".join([*PARTS, np.array([7], "<f4").tobytes()])


def test_weights_biases_and_slopes_come_out_as_they_were_written() -> None:
    first, slopes, last = read_layers(PARAM, DATA)
    assert isinstance(first, Convolution)
    assert isinstance(slopes, Slopes)
    assert isinstance(last, Convolution)
    assert first.weight.shape == (3, 1, 3, 3)
    assert first.weight.dtype == np.float16
    assert np.array_equal(first.weight.ravel(), FIRST)
    assert np.array_equal(first.bias, FIRST_BIAS)
    assert np.array_equal(slopes.values, SLOPES)
    assert last.weight.shape == (1, 3, 3, 3)
    assert np.array_equal(last.weight.ravel(), LAST)
    assert last.bias == [7]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (DATA + b"\0", "1 bytes of the .bin file belong to no layer"),
        (DATA[:-1], "ends too soon"),
        (DATA[:40], "ends too soon"),
        (b"", "ends too soon"),
        (b"\0" + DATA[1:], "not stored as fp16"),
        (DATA[:58] + b"\1" + DATA[59:], "padding of fp16 weights is not zero"),
    ],
    ids=["a byte too many", "a byte too few", "cut within weights", "empty", "another tag", "padding"],
)
def test_bytes_that_do_not_fit_are_refused(data: bytes, words: str) -> None:
    with pytest.raises(NcnnFormatError, match=words):
        read_layers(PARAM, data)


@pytest.mark.parametrize(
    ("param", "words"),
    [
        (PARAM.replace("7767517", "7767518"), "does not begin"),
        ("", "does not begin"),
        (PARAM.replace("4 4\n", "5 4\n"), "4 layers where"),
        (PARAM.replace("1=3 4=1 5=1 6=27 9=2", "1=5 4=1 5=1 6=27 9=2"), "not 3 x 3"),
        (PARAM.replace("0=1 1=3 4=1 5=1", "0=1 1=3 4=1 5=0"), "with a bias"),
        (PARAM.replace("6=27 9=2", "6=28 9=2"), "not 3 x 3"),
    ],
)
def test_another_network_is_refused(param: str, words: str) -> None:
    with pytest.raises(NcnnFormatError, match=words):
        read_layers(param, DATA)


def convolution(value: float) -> Convolution:
    return Convolution(np.full((2, 2, 3, 3), value, np.float16), np.full(2, value, np.float32))


def test_an_rrdbnet_is_named_in_upstreams_order() -> None:
    layers: list[Convolution | Slopes] = [convolution(index) for index in range(1 + 15 * 2 + 5)]
    state = rrdbnet_state_dict(layers, blocks=2)
    assert len(state) == 2 * len(layers)
    for name, index in {
        "conv_first": 0,
        "body.0.rdb1.conv1": 1,
        "body.0.rdb1.conv5": 5,
        "body.0.rdb2.conv1": 6,
        "body.1.rdb3.conv5": 30,
        "conv_body": 31,
        "conv_up1": 32,
        "conv_up2": 33,
        "conv_hr": 34,
        "conv_last": 35,
    }.items():
        assert state[f"{name}.weight"].flat[0] == index
        assert state[f"{name}.bias"][0] == index


def test_the_number_and_the_kinds_of_layers_must_be_those_of_the_network() -> None:
    with pytest.raises(NcnnFormatError, match="36 convolutions were expected"):
        rrdbnet_state_dict([convolution(1)] * 35, blocks=2)
    with pytest.raises(NcnnFormatError, match="convolutions were expected"):
        rrdbnet_state_dict([*[convolution(1)] * 35, Slopes(np.ones(2, np.float32))], blocks=2)
    slopes = Slopes(np.ones(2, np.float32))
    good: list[Convolution | Slopes] = [convolution(0), slopes, convolution(2), slopes, convolution(4)]
    assert list(srvggnet_state_dict(good, convolutions=1)) == [
        "body.0.weight",
        "body.0.bias",
        "body.1.weight",
        "body.2.weight",
        "body.2.bias",
        "body.3.weight",
        "body.4.weight",
        "body.4.bias",
    ]
    with pytest.raises(NcnnFormatError, match="were expected"):
        srvggnet_state_dict(good[:-1], convolutions=1)
    with pytest.raises(NcnnFormatError, match="layer 1 with weights is a Convolution"):
        srvggnet_state_dict([convolution(0)] * 5, convolutions=1)
