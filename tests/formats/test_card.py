"""Model cards: sums against published totals, sources, and what is refused."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from engram_local.errors import FileError, FormatError
from engram_local.figures import Source
from engram_local.formats.card import MAX_CARD_BYTES, read_card
from engram_local.model_spec import ModelSpec, Part
from engram_local.units import GIB, MIB

MODELS = Path(__file__).parents[2] / "models"
CARDS = sorted(MODELS.glob("*.toml"))

PUBLISHED = {
    # name: (all parameters, active ones) in billions, as the makers round them. Active
    # ones do not say whether the output matrix counts; here it does.
    "DeepSeek-V4.1-Flash": (763.2, 16),
    "Engram-27B": (27.0, 3.8),  # 26.7 and the token embedding
    "Engram-40B": (39.8, 3.8),
    "LongCat-Flash-Lite": (68.5, 4.5),
    "Llama-3.1-8B": (8.03, 7.5),
    "Qwen2.5-1.5B": (1.78, 1.54),
    "Qwen3-30B-A3B": (30.5, 3.3),
    "Qwen3-8B": (8.2, 7.6),
    "Qwen3.8-Flash-Next": (176.9, 6),
    "SmolLM2-135M-Instruct": (0.1345, 0.1345),
    "gemma-3-27b": (27.0, 27.0),
    "gemma-3n-E2B": (4.46, 2.4),
    "gemma-3n-E4B": (6.87, 4.5),
    "gemma-4-E2B": (4.65, 2.3),
    "gemma-4-E4B": (7.52, 4.7),
    "gpt-oss-20b": (20.9, 3.6),
}
TABLE_BYTES = {
    ("DeepSeek-V4.1-Flash", "FP8"): 202_758_032_400,
    ("Qwen3.8-Flash-Next", "UD-Q4_K_XL"): 28_800_138_240,
    ("Qwen3.8-Flash-Next", "Q8_0"): 54_400_261_120,
    ("LongCat-Flash-Lite", "BF16"): 62_813_970_432,
    ("gemma-4-E4B", "UD-Q4_K_XL"): 1_937_768_448,
}
TABLE_PARAMS = {
    "DeepSeek-V4.1-Flash": 196_613_849_600,
    "Engram-27B": 5_791_744_000,
    "Qwen3.8-Flash-Next": 51_200_245_760,
    "LongCat-Flash-Lite": 31_406_985_216,
}

CARD = """
name = "Tiny"
architecture = "llama"
context_length = 1_024
vocab_size = 100
hidden_size = 8
n_layers = 2
n_heads = 2
ffn_size = 16

[parameters]
embedding = 800
output = 800
layers = 3_200

[[caches]]
kind = "attention"
n_layers = 2
key_size = 4
value_size = 4

[[tables]]
layer_id = 1
n_rows = 1_000
width = 4
rows_per_token = 2
orders = [2]
n_heads = 2

[[weights]]
name = "Q8_0"
file_bytes = 11_300
table_row_bytes = 5
url = "https://example.com/tiny"

[sources]
shape = "a"
parameters = "b"
caches = "c"
tables = "d"
"""


def named(name: str) -> ModelSpec:
    return read_card(MODELS / f"{name}.toml")


@pytest.fixture
def card(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(CARD)
    return path


def refused(path: Path, old: str, new: str) -> str:
    """Return the error of the card with one text replaced."""
    assert old in CARD
    path.write_text(CARD.replace(old, new, 1))
    with pytest.raises(FormatError) as caught:
        read_card(path)
    return caught.value.message


def test_there_is_a_published_total_for_every_card() -> None:
    assert {path.stem for path in CARDS} == set(PUBLISHED)


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_a_card_is_named_like_its_file_and_fits_on_two_screens(path: Path) -> None:
    assert read_card(path).name == path.stem
    assert len(path.read_text().splitlines()) < 110


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_parameters_add_up_to_what_the_maker_says(path: Path) -> None:
    spec = read_card(path)
    total, active = PUBLISHED[path.stem]
    assert spec.n_params / 1e9 == pytest.approx(total, rel=0.005)
    assert spec.n_active_params / 1e9 == pytest.approx(active, rel=0.12)


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_parts_add_up_to_the_file(path: Path) -> None:
    spec = read_card(path)
    sizes = [weights.file_bytes for weights in spec.weights]
    assert sizes == sorted(sizes)
    for weights in spec.weights:
        missing = weights.file_bytes - sum(weights.parts.values())
        assert 0 <= missing <= 2 * MIB, weights.name  # the header


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_no_part_takes_fewer_bits_than_it_can(path: Path) -> None:
    card = tomllib.loads(path.read_text())["parameters"]
    for weights in read_card(path).weights:
        for part in (Part.EMBEDDING, Part.LAYERS, Part.EXPERTS):
            count = card.get(part.name.lower(), 0)
            assert weights.part(part) * 8 >= 1.5 * count, (weights.name, part)
            assert weights.part(part) * 8 <= 16 * count, (weights.name, part)


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_every_number_has_a_source(path: Path) -> None:
    spec = read_card(path)
    assert spec.source is Source.PUBLISHED
    assert {"shape", "parameters"} <= set(spec.urls)
    assert ("caches" in spec.urls) == bool(spec.caches)
    assert ("tables" in spec.urls) == bool(spec.tables)
    for weights in spec.weights:
        assert weights.url.startswith("https://") or weights.name == "BF16"


@pytest.mark.parametrize(("name", "quantization"), TABLE_BYTES)
def test_tables_take_the_bytes_that_were_published(
    name: str, quantization: str
) -> None:
    weights = {one.name: one for one in named(name).weights}[quantization]
    assert weights.part(Part.TABLE) == TABLE_BYTES[name, quantization]


@pytest.mark.parametrize("name", TABLE_PARAMS)
def test_tables_have_the_parameters_that_were_published(name: str) -> None:
    assert named(name).table_params == TABLE_PARAMS[name]


def test_rows_per_token() -> None:
    names = ("DeepSeek-V4.1-Flash", "Qwen3.8-Flash-Next", "LongCat-Flash-Lite")
    assert [named(name).rows_per_token for name in names] == [48, 16, 12]


def test_the_released_weights_of_deepseek_are_exact_to_the_byte() -> None:
    weights = named("DeepSeek-V4.1-Flash").weights[-1]
    assert weights.source is Source.PUBLISHED
    assert sum(weights.parts.values()) == weights.file_bytes == 510_286_023_000


def test_bytes_per_token_of_deepseek_caches() -> None:
    """3,200 in 16 bits: what people who read the code count."""
    groups = [
        group for group in named("DeepSeek-V4.1-Flash").caches if not group.window
    ]
    values = [g.n_layers * (g.key_size + g.value_size) / g.ratio for g in groups]
    assert sum(values) * 2 == 3200


def test_parts_on_the_gpu_are_what_llama_cpp_reported() -> None:
    """Of loads with every layer on a GPU; sources as in the cards."""
    flash = {one.name: one for one in named("Qwen3.8-Flash-Next").weights}
    large = flash["UD-Q4_K_XL"]
    parts = (Part.LAYERS, Part.OUTPUT, Part.EXPERTS)
    found = sum(large.part(part) for part in parts)
    assert found == pytest.approx(78_056 * MIB, rel=0.0002)
    gemma = {one.name: one for one in named("gemma-4-E4B").weights}["UD-Q4_K_XL"]
    found = gemma.part(Part.LAYERS) + gemma.part(Part.EMBEDDING)
    assert found == pytest.approx(2.95 * GIB, rel=0.01)


def test_states_of_flash_next_are_what_llama_cpp_reported() -> None:
    """0.44 GiB for the 4 sequences of the default server."""
    states = named("Qwen3.8-Flash-Next").states
    n_bytes = sum(state.n_layers * state.n_bytes for state in states)
    assert 4 * n_bytes / GIB == pytest.approx(0.44, abs=0.005)


def test_a_small_card(card: Path) -> None:
    spec = read_card(card)
    assert (spec.n_params, spec.n_active_params) == (8_800, 4_000)
    weights = spec.weights[0]
    assert weights.part(Part.TABLE) == 5_000
    assert weights.parts[Part.LAYERS] == 4_200  # 6,300 in proportion to parameters
    assert weights.source is Source.ESTIMATED


def test_without_published_weights_they_are_computed(card: Path) -> None:
    head, _, tail = CARD.partition("[[weights]]")
    card.write_text(head + tail[tail.index("[sources]") :])
    weights = read_card(card).weights
    assert [one.name for one in weights] == ["BF16"]
    assert weights[0].file_bytes == 2 * 8_800
    assert weights[0].source is Source.ESTIMATED


def test_a_table_of_unknown_type_gets_its_share(card: Path) -> None:
    card.write_text(CARD.replace("table_row_bytes = 5\n", ""))
    weights = read_card(card).weights[0]
    assert weights.table_row_bytes == 0
    assert weights.part(Part.TABLE) == 5_137  # 11,300 * 4,000 / 8,800, rounded up


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("n_layers = 2", "n_layers = 0", "n_layers is 0"),
        ("n_layers = 2", "n_layers = -2", "n_layers is -2"),
        ("n_layers = 2", "n_layers = true", "n_layers is True"),
        ("n_layers = 2", 'n_layers = "2"', "n_layers is '2'"),
        ("hidden_size = 8", "hidden_size = nan", "hidden_size is nan"),
        ("hidden_size = 8", "hidden_size = inf", "hidden_size is inf"),
        ("hidden_size = 8", "hidden_sice = 8", "hidden_size is missing"),
        ("vocab_size = 100", f"vocab_size = {2**63}", "vocab_size is 9223"),
        ("ffn_size = 16", "ffn_size = 16\nn_experts_used = 1", "n_experts_used is 1"),
        ("ffn_size = 16", "ffn_size = 16\nspeed = 9", "speed is not known"),
        ("layers = 3_200", "layers = 3_200\ntotal = 9", "total is 9, the parts are"),
        ("layers = 3_200", "", "layers is missing"),
        ("layers = 3_200", "layers = 3_200\nother = 9", "parameters.other"),
        ('kind = "attention"', 'kind = "magic"', "magic is no kind of cache"),
        ("value_size = 4", "value_size = 4\nbits = 4", "caches[0].bits"),
        ("orders = [2]", "orders = [2.5]", "tables[0].orders"),
        ("orders = [2]", "orders = 2", "tables[0].orders"),
        ("n_rows = 1_000", "n_rows = 0", "tables[0].n_rows is 0"),
        ("file_bytes = 11_300", "file_bytes = 100", "weights[0]: the parts differ"),
        ("file_bytes = 11_300", "file_bytes = -1", "weights[0].file_bytes"),
        ('url = "https://example.com/tiny"', "", "weights[0].url is missing"),
        ('tables = "d"', "", "sources.tables is missing"),
        ('shape = "a"', 'shape = " "', "shape is empty"),
        ("[parameters]", "[[parameters]]", "parameters"),
        ('name = "Tiny"', "name = [[[", "is no TOML"),
        ('name = "Tiny"', "name = " + "[" * 5_000, "is no TOML"),
    ],
)
def test_hostile_cards_are_refused_with_file_and_key(
    card: Path, old: str, new: str, sentence: str
) -> None:
    message = refused(card, old, new)
    assert str(card) in message
    assert sentence in message


def test_parts_that_leave_much_of_the_file_over_are_refused(card: Path) -> None:
    parts = "parts = { embedding = 1, output = 1, layers = 1 }"
    message = refused(card, "file_bytes = 11_300", f"file_bytes = {100 * MIB}\n{parts}")
    assert "the parts differ from file_bytes by" in message


def test_a_name_cannot_drive_the_terminal(card: Path) -> None:
    card.write_text(CARD.replace('"Tiny"', '"\\u001b[31mTiny"'))
    assert "\x1b" not in read_card(card).name


def test_a_large_file_is_no_card(card: Path) -> None:
    card.write_bytes(b"#" * (MAX_CARD_BYTES + 1))
    with pytest.raises(FormatError, match="larger than 65,536 bytes"):
        read_card(card)


def test_bytes_that_are_no_text_are_no_card(card: Path) -> None:
    card.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FormatError, match="is no TOML"):
        read_card(card)


def test_a_folder_is_no_card(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="is a folder"):
        read_card(tmp_path)
