"""Row formats: decoding equals gguf-py and ggml bit for bit, FP8 keeps its promises."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize
from numpy.typing import NDArray

from engram_local.errors import FormatError
from engram_local.llama import ggml
from engram_local.memory.rows import decode_rows, encode_rows
from engram_local.spec import MEMORY_TYPES, RowType
from tests.fakes import normal

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]

ALL_HALVES = np.arange(2**16, dtype="<u2")
"""Every half, with subnormal, infinite and NaN ones."""

BLOCK_TYPES = [RowType.Q8_0, RowType.Q4_0, RowType.FP8]


def decode(raw: U8, row_type: RowType, width: int) -> F32:
    """Decode rows that lie one behind the other."""
    n_rows, n_bytes = raw.shape
    assert n_bytes == row_type.row_bytes(width)
    starts = np.arange(n_rows, dtype=np.int64) * n_bytes
    out = np.full((n_rows, width), 12345, np.float32)
    return decode_rows(raw.reshape(-1), starts, row_type, out)


def assert_decodes_like_gguf(raw: U8, row_type: RowType, width: int) -> None:
    with np.errstate(all="ignore"):  # gguf-py computes with the NaN
        expected = dequantize(raw, GGMLQuantizationType[row_type.name])
    found = decode(raw, row_type, width)
    nan = np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(found), nan)
    bits, expected_bits = found.view(np.uint32), expected.view(np.uint32)
    np.testing.assert_array_equal(bits[~nan], expected_bits[~nan])


def test_every_half_decodes_like_gguf() -> None:
    raw = ALL_HALVES.view(np.uint8).reshape(256, 512)
    assert_decodes_like_gguf(raw, RowType.F16, 256)


def test_every_bfloat_decodes_like_gguf() -> None:
    raw = ALL_HALVES.view(np.uint8).reshape(256, 512)
    assert_decodes_like_gguf(raw, RowType.BF16, 256)


def test_any_float_decodes_like_gguf() -> None:
    bits = np.random.default_rng(0).integers(0, 2**32, (64, 7), np.uint32)
    bits[:5, 0] = [0, 1 << 31, 1, 0x7F800000, 0x7FC00001]  # 0, -0, subnormal, inf, NaN
    assert_decodes_like_gguf(bits.view(np.uint8), RowType.F32, 7)


@pytest.mark.parametrize(
    ("row_type", "n_quants"), [(RowType.Q8_0, 32), (RowType.Q4_0, 16)]
)
def test_every_scale_decodes_like_gguf(row_type: RowType, n_quants: int) -> None:
    quants = np.random.default_rng(1).integers(0, 256, (2**16, n_quants), np.uint8)
    scales = ALL_HALVES.view(np.uint8).reshape(-1, 2)
    raw = np.concatenate([scales, quants], axis=1)
    assert_decodes_like_gguf(raw, row_type, 32)


@pytest.mark.parametrize("row_type", [RowType.Q8_0, RowType.Q4_0])
def test_rows_of_several_blocks_decode_like_gguf(row_type: RowType) -> None:
    raw = encode_rows(normal(np.random.default_rng(2), 9, 160), row_type)
    assert_decodes_like_gguf(raw, row_type, 160)


@pytest.mark.parametrize("row_type", MEMORY_TYPES)
def test_rows_are_found_by_their_starts(row_type: RowType) -> None:
    rows = normal(np.random.default_rng(3), 10, 64)
    raw = encode_rows(rows, row_type)
    n_bytes = raw.shape[1]
    shifted = np.concatenate([np.full(5, 0xAA, np.uint8), raw.reshape(-1)])
    order = np.array([7, 0, 0, 9], np.int64)
    out = np.empty((4, 64), np.float32)
    decode_rows(shifted, 5 + order * n_bytes, row_type, out)
    np.testing.assert_array_equal(out, decode(raw, row_type, 64)[order])


@pytest.mark.parametrize("row_type", MEMORY_TYPES)
def test_encoded_rows_have_the_size_of_the_spec(row_type: RowType) -> None:
    raw = encode_rows(np.zeros((3, 96), np.float32), row_type)
    assert raw.dtype == np.uint8
    assert raw.shape == (3, row_type.row_bytes(96))
    np.testing.assert_array_equal(decode(raw, row_type, 96), 0)


@pytest.mark.parametrize(
    ("row_type", "relative"),
    [(RowType.F32, 0.0), (RowType.F16, 2**-11), (RowType.BF16, 2**-8)],
)
def test_floats_lose_only_their_last_bits(row_type: RowType, relative: float) -> None:
    rows = normal(np.random.default_rng(4), 20, 33)
    found = decode(encode_rows(rows, row_type), row_type, 33)
    assert (np.abs(found - rows) <= relative * np.abs(rows)).all()


@pytest.mark.parametrize("width", [1, 31, 33, 48])
@pytest.mark.parametrize("row_type", BLOCK_TYPES)
def test_a_width_that_does_not_fit_is_refused(row_type: RowType, width: int) -> None:
    with pytest.raises(FormatError, match=f"divisible by 32, found {width}"):
        encode_rows(np.zeros((2, width), np.float32), row_type)


@pytest.mark.parametrize("row_type", MEMORY_TYPES)
@pytest.mark.parametrize("width", [0, -32])
def test_a_row_without_values_is_refused(row_type: RowType, width: int) -> None:
    with pytest.raises(FormatError, match=f"found {width}"):
        row_type.row_bytes(width)


def test_row_sizes_of_the_published_tables() -> None:
    assert RowType.FP8.row_bytes(256) == 264  # DeepSeek-V4.1, packed
    assert RowType.Q8_0.row_bytes(256) == 272
    assert RowType.Q4_0.row_bytes(160) == 90  # Qwen3.8-Flash-Next
    assert RowType.BF16.row_bytes(160) == 320


# --- the types of models with a table of their own ------------------------------------

GGML_TYPES = [one for one in RowType if one is not RowType.FP8]
QUANTIZED = [one for one in GGML_TYPES if one not in MEMORY_TYPES[:3]]


@pytest.mark.parametrize("row_type", GGML_TYPES)
def test_blocks_are_those_of_gguf(row_type: RowType) -> None:
    block, n_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[row_type.name]]
    assert row_type.row_bytes(3 * block) == 3 * n_bytes
    with pytest.raises(FormatError, match=f"found {-block}"):
        row_type.row_bytes(-block)
    if block > 1:
        with pytest.raises(FormatError, match=f"divisible by {block}"):
            row_type.row_bytes(block + 1)


def dequantize_with_ggml(raw: U8, row_type: RowType, width: int) -> F32:
    """Decode rows with the function that llama.cpp's graph calls for each of them."""
    name = row_type.value.replace("_k", "_K")
    function = ctypes.CDLL(ggml.library_path())[f"dequantize_row_{name}"]
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
    function.restype = None
    out = np.empty((len(raw), width), np.float32)
    function(raw.ctypes.data, out.ctypes.data, out.size)
    return out


@pytest.mark.parametrize("row_type", QUANTIZED)
def test_any_bytes_decode_as_ggml_decodes_them(row_type: RowType) -> None:
    width = 512  # two of the largest blocks
    shape = 2000, row_type.row_bytes(width)
    raw = np.random.default_rng(6).integers(0, 256, shape, np.uint8)
    expected = dequantize_with_ggml(raw, row_type, width)
    found = decode(raw, row_type, width)
    nan = np.isnan(expected)
    assert nan.mean() < 0.5
    np.testing.assert_array_equal(np.isnan(found), nan)
    bits, expected_bits = found.view(np.uint32), expected.view(np.uint32)
    np.testing.assert_array_equal(bits[~nan], expected_bits[~nan])


@pytest.mark.parametrize(
    ("row_type", "minimum_at"),
    [
        (RowType.Q4_1, 2),
        (RowType.Q5_1, 2),
        (RowType.Q2_K, 82),
        (RowType.Q4_K, 2),
        (RowType.Q5_K, 2),
    ],
)
def test_products_before_a_minimum_are_exact(
    row_type: RowType, minimum_at: int
) -> None:
    """So a compiler that fuses product and sum computes the same bits."""
    raw = np.random.default_rng(8).integers(0, 256, (999, row_type.row_bytes(256)))
    blocks = raw.astype(np.uint8).reshape(
        -1, GGML_QUANT_SIZES[GGMLQuantizationType[row_type.name]][1]
    )
    blocks[:, minimum_at : minimum_at + 2] = 0
    products = decode(blocks.reshape(999, -1), row_type, 256)
    finite = products[np.isfinite(products)]
    assert finite.any()
    assert not (finite.view(np.uint32) & 3).any()  # 22 of 24 bits


@pytest.mark.parametrize("row_type", [RowType.Q5_K, RowType.IQ4_NL])
def test_rows_of_other_types_are_found_by_their_starts(row_type: RowType) -> None:
    shape = 10, row_type.row_bytes(256)
    raw = np.random.default_rng(7).integers(0, 60, shape, np.uint8)
    shifted = np.concatenate([np.full(5, 0xAA, np.uint8), raw.reshape(-1)])
    order = np.array([7, 0, 0, 9], np.int64)
    out = np.empty((4, 256), np.float32)
    decode_rows(shifted, 5 + order * shape[1], row_type, out)
    np.testing.assert_array_equal(out, decode(raw, row_type, 256)[order])


# --- FP8: E4M3 values, one E8M0 scale per 32 ------------------------------------------


def fp8_row(codes: list[int], scale: int = 127) -> F32:
    row = np.zeros(33, np.uint8)
    row[: len(codes)] = codes
    row[32] = scale
    return decode(row[None], RowType.FP8, 32)[0, : len(codes)]


def test_e4m3_codes_have_their_values() -> None:
    found = fp8_row([0x00, 0x38, 0x01, 0x08, 0x7E, 0xB8, 0xFE, 0x07, 0x80])
    expected = [0, 1, 2**-9, 2**-6, 448, -1, -448, 7 * 2**-9, 0]
    np.testing.assert_array_equal(found, np.array(expected, np.float32))
    assert np.signbit(found[-1])


def test_e4m3_has_nan_and_no_infinity() -> None:
    values = [fp8_row([code])[0] for code in range(256)]
    nan = [code for code in range(256) if np.isnan(values[code])]
    assert nan == [0x7F, 0xFF]
    assert not np.isinf(values).any()
    assert np.all(np.diff(values[:0x7F]) > 0)


@pytest.mark.parametrize(
    ("scale", "factor"), [(127, 1.0), (128, 2.0), (120, 2.0**-7), (0, 2.0**-127)]
)
def test_e8m0_scales_are_powers_of_two(scale: int, factor: float) -> None:
    assert fp8_row([0x38, 0x40], scale).tolist() == [factor, 2 * factor]


def test_e8m0_255_is_nan() -> None:
    assert np.isnan(fp8_row([0x38], 255)).all()


def test_scales_stand_at_the_end_of_the_row_one_per_32_values() -> None:
    row = np.full(66, 0x38, np.uint8)
    row[64:] = [127, 129]
    found = decode(row[None], RowType.FP8, 64)[0]
    assert found.tolist() == [1.0] * 32 + [4.0] * 32


def test_fp8_keeps_what_it_can_hold_exactly() -> None:
    values = [fp8_row([code])[0] for code in range(0x7F)]
    rows = np.array([*values, 448.0], np.float32).reshape(4, 32)
    rows = np.concatenate([rows, -rows])
    rows[:, -1] = 448  # so that every block has the scale 1
    raw = encode_rows(rows, RowType.FP8)
    assert (raw[:, -1] == 127).all()
    np.testing.assert_array_equal(decode(raw, RowType.FP8, 32), rows)


@pytest.mark.parametrize("exponent", [-120, -30, 0, 30, 110])
def test_fp8_error_is_bounded(exponent: int) -> None:
    random = np.random.default_rng(5)
    rows = np.ldexp(normal(random, 50, 64), exponent)
    raw = encode_rows(rows, RowType.FP8)
    found = decode(raw, RowType.FP8, 64)
    scale = np.repeat(np.ldexp(1.0, raw[:, 64:].astype(int) - 127), 32, axis=1)
    # Half a step: 2^-4 of a value, or half of the least subnormal times the scale.
    bound = np.maximum(np.abs(rows.astype(np.float64)) * 2**-4, scale * 2**-10)
    assert (np.abs(found - rows.astype(np.float64)) <= bound).all()


def test_fp8_uses_the_least_scale_that_fits() -> None:
    for largest, scale in ((448.0, 127), (449.0, 128), (224.0, 126), (1.0, 119)):
        rows = np.zeros((1, 32), np.float32)
        rows[0, 3] = -largest
        assert encode_rows(rows, RowType.FP8)[0, 32] == scale


def test_fp8_keeps_signs_and_zeros() -> None:
    rows = np.array([[0.0, -0.0, 1.0, -1.0] * 8], np.float32)
    found = decode(encode_rows(rows, RowType.FP8), RowType.FP8, 32)
    np.testing.assert_array_equal(found, rows)
    np.testing.assert_array_equal(np.signbit(found), np.signbit(rows))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_fp8_refuses_values_that_are_no_numbers(value: float) -> None:
    rows = np.ones((2, 32), np.float32)
    rows[1, 5] = value
    with pytest.raises(FormatError, match="NaN or infinite"):
        encode_rows(rows, RowType.FP8)
