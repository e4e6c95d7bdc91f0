"""Canonical ids -> row ids: published vectors, and the kernel against the reference."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engram_local.memory import reference
from engram_local.memory.constants import derive_multipliers, derive_sizes, offsets_of
from engram_local.memory.hashing import DEAD_ID, RowHasher
from engram_local.spec import Boundary, HashSpec, Window
from tests.fakes import read_golden

I64 = NDArray[np.int64]


def numbers(text: str) -> list[int]:
    return [int(word) for word in text.split()]


def make_spec(
    multipliers: tuple[int, ...],
    sizes: list[int],
    *,
    n_heads: int,
    window: Window = Window.NEWEST_FIRST,
    boundary: Boundary = Boundary.PAD,
    fill_id: int = 2,
    min_ngram: int = 2,
) -> HashSpec:
    return HashSpec(
        multipliers=multipliers,
        sizes=tuple(sizes),
        offsets=offsets_of(sizes),
        n_heads=n_heads,
        window=window,
        boundary=boundary,
        fill_id=fill_id,
        min_ngram=min_ngram,
    )


# --- DeepSeek-V4.1: constants of the checkpoint, row ids recomputed from its rule -----

V41 = {
    1: make_spec(
        (76632096046245, 4839876093313, 35959672319349, 73987337458391),
        numbers(
            "16000057 16000079 16000081 16000097 16000121 16000129 16000133 16000183 "
            "16000189 16000207 16000211 16000253 16000277 16000289 16000307 16000321 "
            "16000339 16000381 16000393 16000399 16000403 16000409 16000447 16000463"
        ),
        n_heads=8,
    ),
    14: make_spec(
        (67716810739261, 51510806800915, 30921347202721, 82619226485591),
        numbers(
            "16000477 16000487 16000499 16000507 16000511 16000573 16000609 16000627 "
            "16000667 16000669 16000693 16000697 16000711 16000729 16000759 16000769 "
            "16000781 16000799 16000813 16000819 16000841 16000877 16000879 16000889"
        ),
        n_heads=8,
    ),
}
V41_IDS = [0, 1000, 2000, 99091, 12345]
V41_ROWS = {
    (1, 0): numbers(
        "5702652 24393184 39183301 61503783 78984481 90144770 103724983 121476532 "
        "131476717 152385926 164143652 191599181 198145581 217419202 238329687 "
        "247482304 257520185 283540304 288689443 315264704 322314652 348890037 "
        "367865216 380066193"
    ),
    (1, 4): numbers(
        "9897246 18295278 41032777 63866487 69231866 82517737 97316489 115060326 "
        "131163768 154853410 167513118 178676414 199312866 211025936 230339093 "
        "252140381 258107673 273896925 303179839 318140304 322898629 338213540 "
        "365477995 373614848"
    ),
    (14, 0): numbers(
        "14361964 29977809 32716444 61209771 67456205 84275051 108494439 120604547 "
        "132225184 150270452 174805952 178895254 193207923 211610196 226280582 "
        "252505246 261362261 279862797 301364059 312864848 328367036 349372619 "
        "363873742 372375971"
    ),
    (14, 4): numbers(
        "3178723 25724543 42522600 51868741 65586345 95224956 107120997 126215113 "
        "139887996 154558324 168222149 186279280 198980101 211887957 227513276 "
        "246790642 263980813 287003137 298579090 312988012 331115157 340390872 "
        "366548023 371917036"
    ),
}
V41_ROWS_AFTER_DEAD = numbers(
    "9897246 18295278 41032777 63866487 69231866 82517737 97316489 115060326 "
    "133084429 146076458 161693745 179942636 202367929 222982566 231656388 255856761 "
    "256645715 283727019 288996081 307981519 326101768 345476676 356274532 370362108"
)


@pytest.mark.parametrize(("layer_id", "position"), list(V41_ROWS))
def test_deepseek_v41_rows_match_the_vectors(layer_id: int, position: int) -> None:
    rows = RowHasher(V41[layer_id]).row_ids(np.array(V41_IDS))
    assert rows[position].tolist() == V41_ROWS[layer_id, position]


def test_a_dead_position_hides_everything_older() -> None:
    ids = [*V41_IDS[:2], DEAD_ID, *V41_IDS[3:]]
    rows = RowHasher(V41[1]).row_ids(np.array(ids))
    assert rows[4].tolist() == V41_ROWS_AFTER_DEAD
    assert reference.row_ids(ids, V41[1])[4] == V41_ROWS_AFTER_DEAD


def test_deepseek_v41_tables_have_the_rows_of_the_checkpoint() -> None:
    assert V41[1].n_rows == 384_006_168
    assert V41[14].n_rows == 384_016_682
    assert (V41[1].n_slots, V41[1].max_ngram) == (24, 4)


# --- Qwen3.8-Flash-Next: raw token ids, cut at EOS ------------------------------------

QWEN_EOS = 248044
QWEN = make_spec(
    (23703573157769, 20109073645365, 8052911324071),
    numbers(
        "20000003 20000023 20000033 20000047 20000059 20000063 20000069 20000077 "
        "20000081 20000093 20000107 20000147 20000153 20000159 20000161 20000171"
    ),
    n_heads=8,
    boundary=Boundary.EOS,
    fill_id=QWEN_EOS,
)
QWEN_IDS = [9707, 11, 1879, QWEN_EOS, 9707, 11, 1879]
QWEN_ROWS = [
    numbers(
        "16410909 39682429 55103279 60931720 87006904 116506179 131512017 152932897 "
        "169641436 182022480 209277433 237891023 256841529 277007269 290665954 "
        "300984276"
    ),
    numbers(
        "18158303 36390029 45652312 70783524 98191154 114024957 127804916 159566246 "
        "175132467 192583600 217919476 237199054 259336807 261799367 289359313 "
        "307699687"
    ),
    numbers(
        "6380558 26411572 56460672 78566983 94693008 106742196 124822692 148942556 "
        "164226950 190352573 210933682 238908951 242182004 265475238 299910982 "
        "312121804"
    ),
    numbers(
        "18827606 27700912 56521518 65780303 81132822 100518937 120474864 142052741 "
        "163793416 184135950 219854666 227756662 248975183 271245822 285569892 "
        "318943450"
    ),
]


def test_qwen_rows_match_the_vectors_and_restart_after_eos() -> None:
    rows = RowHasher(QWEN).row_ids(np.array(QWEN_IDS)).tolist()
    assert rows[:4] == QWEN_ROWS
    assert rows[4:] == QWEN_ROWS[:3]
    assert reference.row_ids(QWEN_IDS, QWEN) == rows


def test_qwen_offsets_are_the_running_sum() -> None:
    assert QWEN.offsets[:3] == (0, 20000003, 40000026)
    assert QWEN.offsets[-1] == 300001275
    assert QWEN.n_rows == 320_001_446


# --- rows that other programs computed ------------------------------------------------


@pytest.mark.parametrize("name", ["demo_a", "demo_b"])
def test_rows_equal_those_of_deepseeks_demo(golden: Path, name: str) -> None:
    arrays, meta = read_golden(golden / f"{name}.safetensors")
    for layer_id in meta["layer_ids"]:
        sizes = [size for order in meta["primes"][str(layer_id)] for size in order]
        spec = make_spec(
            tuple(meta["multipliers"][str(layer_id)]),
            sizes,
            n_heads=meta["n_head_per_ngram"],
            fill_id=meta["pad_id_canonical"],
        )
        rows = RowHasher(spec).row_ids(arrays["canonical_ids"])
        np.testing.assert_array_equal(rows, arrays[f"{layer_id}.row_ids"])


@pytest.mark.parametrize("name", ["demo_a", "demo_b"])
def test_constants_of_deepseeks_demo_can_be_derived(golden: Path, name: str) -> None:
    _, meta = read_golden(golden / f"{name}.safetensors")
    layer_ids = meta["layer_ids"]
    derived = derive_sizes(
        meta["engram_vocab_size"],
        n_layers=len(layer_ids),
        n_heads=meta["n_head_per_ngram"],
    )
    for layer_id, sizes in zip(layer_ids, derived, strict=True):
        primes = meta["primes"][str(layer_id)]
        assert sizes == tuple(size for order in primes for size in order)
        assert derive_multipliers(
            seed=meta["seed"],
            layer_id=layer_id,
            n_canonical=meta["compressed_vocab_size"],
            max_ngram=meta["max_ngram_size"],
        ) == tuple(meta["multipliers"][str(layer_id)])


@pytest.mark.parametrize("name", ["peft_a", "peft_b"])
def test_rows_equal_those_of_engram_peft(golden: Path, name: str) -> None:
    arrays, _ = read_golden(golden / name / "reference.safetensors")
    config = json.loads((golden / name / "config.json").read_text())
    layer_ids, n_heads = sorted(config["target_layers"]), config["n_head_per_ngram"]
    sizes_of = derive_sizes(
        [count // n_heads for count in config["engram_vocab_size_per_ngram"]],
        n_layers=len(layer_ids),
        n_heads=n_heads,
    )
    canonical_ids = arrays["token_map"][arrays["token_ids"]].astype(np.int64)
    for layer_id, sizes in zip(layer_ids, sizes_of, strict=True):
        spec = make_spec(
            derive_multipliers(
                seed=config["seed"],
                layer_id=layer_id,
                n_canonical=config["compressed_vocab_size"],
                max_ngram=config["max_ngram_size"],
            ),
            list(sizes),
            n_heads=n_heads,
            window=Window.OLDEST_FIRST,
            fill_id=int(arrays["token_map"][config["pad_id"]]),
        )
        rows = RowHasher(spec).row_ids(canonical_ids)
        np.testing.assert_array_equal(rows, arrays[f"{layer_id}.row_ids"])


# --- the kernel against the reference, on anything ------------------------------------

SEEDS = range(24)


def random_spec(random: np.random.Generator) -> HashSpec:
    """Return a hash of any shape, with multipliers whose products wrap."""
    max_ngram, n_heads = int(random.integers(1, 9)), int(random.integers(1, 4))
    min_ngram = int(random.integers(1, max_ngram + 1))
    n_slots = (max_ngram - min_ngram + 1) * n_heads
    drawn = random.integers(2**63, 2**64, max_ngram, dtype=np.uint64)
    return make_spec(
        tuple(int(number) | 1 for number in drawn),
        random.integers(1, 1000, n_slots).tolist(),
        n_heads=n_heads,
        window=list(Window)[random.integers(2)],
        boundary=list(Boundary)[random.integers(2)],
        fill_id=int(random.integers(0, 4)),
        min_ngram=min_ngram,
    )


def random_ids(random: np.random.Generator) -> I64:
    """Return few different ids, so that EOS is among them, some dead, some huge."""
    ids = random.integers(0, 6, 40)
    ids[random.random(40) < 0.1] = DEAD_ID
    ids[random.random(40) < 0.1] = 2**62 + 12345
    return ids


@pytest.mark.parametrize("seed", SEEDS)
def test_hash_in_one_call_equals_the_reference(seed: int) -> None:
    random = np.random.default_rng(seed)
    spec, ids = random_spec(random), random_ids(random)
    rows = RowHasher(spec).row_ids(ids)
    assert rows.tolist() == reference.row_ids(ids.tolist(), spec)
    assert rows.shape == (40, spec.n_slots)


def test_a_row_per_token_id_is_an_ngram_of_one() -> None:
    spec = make_spec((1,), [300], n_heads=1, min_ngram=1)
    ids = np.array([5, 299, 5, 0])
    assert RowHasher(spec).row_ids(ids).tolist() == [[5], [299], [5], [0]]
    assert reference.row_ids(ids.tolist(), spec) == [[5], [299], [5], [0]]


@pytest.mark.parametrize("seed", SEEDS)
def test_hash_step_by_step_equals_hash_in_one_call(seed: int) -> None:
    random = np.random.default_rng(seed)
    spec, ids = random_spec(random), random_ids(random)
    assert_chunks_agree(spec, ids, [1] * len(ids))


@pytest.mark.parametrize("seed", SEEDS)
def test_hash_in_uneven_chunks_equals_hash_in_one_call(seed: int) -> None:
    random = np.random.default_rng(seed)
    spec, ids = random_spec(random), random_ids(random)
    cuts = np.unique(random.integers(1, len(ids), 7))
    lengths = np.diff([0, *cuts.tolist(), len(ids)]).tolist()
    assert_chunks_agree(spec, ids, lengths)


def assert_chunks_agree(spec: HashSpec, ids: I64, lengths: list[int]) -> None:
    hasher = RowHasher(spec)
    assert hasher.context == spec.max_ngram - 1
    pieces, start = [], 0
    for length in lengths:
        n_before = min(start, hasher.context)
        chunk = ids[start - n_before : start + length]
        pieces.append(hasher.row_ids(chunk, n_before))
        start += length
    np.testing.assert_array_equal(np.concatenate(pieces), hasher.row_ids(ids))


def test_no_ids_give_no_rows() -> None:
    rows = RowHasher(QWEN).row_ids(np.empty(0, np.int64))
    assert rows.shape == (0, 16)


@pytest.mark.parametrize("seed", SEEDS)
def test_row_ids_stay_inside_their_slots(seed: int) -> None:
    random = np.random.default_rng(seed)
    spec = random_spec(random)
    rows = RowHasher(spec).row_ids(random_ids(random))
    assert (rows >= np.array(spec.offsets)).all()
    assert (rows < np.array(spec.offsets) + np.array(spec.sizes)).all()


def test_the_first_multiplier_belongs_to_the_newest_id() -> None:
    spec = make_spec((3, 1000003), [2**40], n_heads=1, fill_id=0)
    rows = RowHasher(spec).row_ids(np.array([5, 7]))
    assert rows[:, 0].tolist() == [5 * 3, (7 * 3) ^ (5 * 1000003)]


def test_oldest_first_gives_the_first_multiplier_to_the_oldest_id() -> None:
    spec = make_spec(
        (3, 1000003, 17), [2**40] * 2, n_heads=1, window=Window.OLDEST_FIRST, fill_id=0
    )
    rows = RowHasher(spec).row_ids(np.array([5, 7, 11]))
    order_2, order_3 = (5 * 3) ^ (7 * 1000003), (5 * 3) ^ (7 * 1000003) ^ (11 * 17)
    assert rows[2].tolist() == [order_2, order_3 + 2**40]
