"""What is stored comes back to the bit, and what was damaged is never returned."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import CorruptData
from engine.storage.durable import link_folder, seal_folder, verify_folder
from engine.storage.kv import Store, Table
from engine.storage.records import (
    DocumentRecord,
    PassageBlock,
    decode_block,
    decode_document,
    encode_block,
    encode_blocks,
    encode_document,
)
from index.multi import TokenRows
from index.sparse_rows import SparseRows


def rows_of(rng, n, weights):
    picked = [np.unique(rng.integers(0, 2**40, rng.integers(0, 9))).astype(np.uint64) for _ in range(n)]
    return SparseRows.from_rows([(terms, weights(len(terms)).astype(np.float32)) for terms in picked])


def tokens_of(rng, n):
    return TokenRows.from_vectors([rng.normal(size=(rng.integers(0, 5), 6)) for _ in range(n)], 6)


def block_of(seed, n, dim, *, sparse, multi=False):
    rng = np.random.default_rng(seed)
    learned = rows_of(rng, n, rng.random)
    learned = SparseRows(learned.indptr, learned.terms % (1 << 32), learned.values) if sparse else None
    return PassageBlock(
        np.arange(n, dtype=np.uint32),
        np.arange(1, n + 1, dtype=np.uint32),
        rng.integers(0, 256, (n, 16), dtype=np.uint8),
        rng.normal(size=(n, dim)).astype(np.float16),
        rows_of(rng, n, lambda m: rng.integers(1, 9, m)),
        learned,
        tokens_of(rng, n) if multi else None,
    )


def same_rows(a, b):
    return all(np.array_equal(x, y) for x, y in ((a.indptr, b.indptr), (a.terms, b.terms), (a.values, b.values)))


def same_block(a, b):
    arrays = all(np.array_equal(getattr(a, f), getattr(b, f)) for f in ("starts", "ends", "keys", "dense"))
    return (
        arrays
        and same_rows(a.terms, b.terms)
        and (a.sparse is None if b.sparse is None else same_rows(a.sparse, b.sparse))
        and (a.multi is None if b.multi is None else same_tokens(a.multi, b.multi))
    )


def same_tokens(a, b):
    return all(np.array_equal(x, y) for x, y in ((a.indptr, b.indptr), (a.codes, b.codes), (a.scales, b.scales)))


@given(
    seed=st.integers(0, 10**6), n=st.integers(0, 6), dim=st.integers(0, 9), sparse=st.booleans(), multi=st.booleans()
)
def test_a_passage_block_survives_its_encoding(seed, n, dim, sparse, multi):
    block = block_of(seed, n, dim, sparse=sparse, multi=multi)
    assert same_block(decode_block(encode_block(block)), block)


@given(
    seed=st.integers(0, 10**6),
    lengths=st.lists(st.integers(0, 4), min_size=1, max_size=5),
    sparse=st.booleans(),
    multi=st.booleans(),
)
def test_encoding_joined_blocks_encodes_each(seed, lengths, sparse, multi):
    blocks = [block_of(seed + i, n, 3, sparse=sparse, multi=multi) for i, n in enumerate(lengths)]
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    assert encode_blocks(PassageBlock.concat(blocks), indptr) == [encode_block(block) for block in blocks]


@pytest.mark.parametrize(
    "damage", [lambda d: d[:-1], lambda d: d + b"x", lambda d: b"", lambda d: d[:6] + b"\xff\xff" + d[8:]]
)
def test_a_block_of_another_shape_is_corrupt(damage):
    with pytest.raises(CorruptData):
        decode_block(damage(encode_block(block_of(1, 3, 4, sparse=True))))


@pytest.mark.parametrize("damage", [lambda d: d[:-1], lambda d: d + b"x", lambda d: d[:30]])
def test_a_block_whose_token_vectors_have_another_shape_is_corrupt(damage):
    with pytest.raises(CorruptData):
        decode_block(damage(encode_block(block_of(1, 3, 4, sparse=True, multi=True))))


def test_a_block_without_token_vectors_has_the_bytes_that_it_had_before_there_were_any():
    terms = SparseRows.from_rows([(np.array([5], np.uint64), np.array([2], np.float32))])
    block = PassageBlock(
        np.array([0], np.uint32),
        np.array([7], np.uint32),
        np.arange(16, dtype=np.uint8)[None],
        np.array([[1.0, 0.5]], np.float16),
        terms,
        None,
    )
    assert encode_block(block).hex() == (
        "0100000002000100010000000000000000000000"  # header: 1 passage, 2 dimensions, format 1, 1 term, 0 sparse
        "0000000007000000000102030405060708090a0b0c0d0e0f003c0038"  # span, key, vector
        "0000000001000000050000000000000000000040"  # terms
    )


def test_a_document_record_survives_its_encoding():
    metadata = {"a": 1, "b": 1.5, "c": True, "d": "x", "e": ["x", 2, False]}
    record = DocumentRecord("id", "title", metadata, b"h" * 24, 3, 10, 9, 1, False, 7)
    assert decode_document(encode_document(record)) == record
    with pytest.raises(CorruptData):
        decode_document(b"\xc1")


def test_every_flipped_bit_of_a_value_is_noticed(tmp_path):
    store = Store(tmp_path)
    value = b"a value that is stored"
    with store.write() as transaction:
        transaction.put(Table.TEXTS, b"key", value)
        sealed = bytes(transaction._transaction.get(b"key", db=transaction._tables[Table.TEXTS]))
    for bit in range(len(sealed) * 8):
        flipped = bytearray(sealed)
        flipped[bit // 8] ^= 1 << (bit % 8)
        with store.write() as transaction:
            transaction._transaction.put(b"key", bytes(flipped), db=transaction._tables[Table.TEXTS])
        with store.read() as transaction, pytest.raises(CorruptData, match="checksum"):
            transaction.get(Table.TEXTS, b"key")
    store.close()


def test_a_value_under_another_key_is_noticed(tmp_path):
    store = Store(tmp_path)
    with store.write() as transaction:
        transaction.put(Table.TEXTS, b"one", b"value")
        table = transaction._tables[Table.TEXTS]
        transaction._transaction.put(b"two", transaction._transaction.get(b"one", db=table), db=table)
        with pytest.raises(CorruptData):
            transaction.get(Table.TEXTS, b"two")
    store.close()


def test_a_write_that_raises_leaves_nothing(tmp_path):
    store = Store(tmp_path)
    with pytest.raises(RuntimeError), store.write() as transaction:
        transaction.put(Table.TEXTS, b"key", b"value")
        raise RuntimeError
    with store.read() as transaction:
        assert transaction.get(Table.TEXTS, b"key") is None
    store.close()


def test_a_full_map_is_reported_and_leaves_nothing(tmp_path):
    from engine.errors import StoreFull

    store = Store(tmp_path, map_size=1 << 20)
    with pytest.raises(StoreFull, match="full"), store.write() as transaction:
        for number in range(100):
            transaction.put(Table.TEXTS, b"%d" % number, bytes(1 << 16))
    with store.read() as transaction:
        assert transaction.count(Table.TEXTS) == 0
    store.close()


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "add", "manifest"])
def test_every_damage_of_a_sealed_folder_is_noticed(tmp_path, damage):
    folder = tmp_path / "segment"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "a.npy").write_bytes(bytes(range(256)))
    seal_folder(folder)
    verify_folder(folder)
    path = folder / "inner" / "a.npy"
    if damage == "flip":
        path.write_bytes(bytes([1]) + path.read_bytes()[1:])
    elif damage == "truncate":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "remove":
        path.unlink()
    elif damage == "add":
        (folder / "b.npy").write_bytes(b"")
    else:
        (folder / "manifest.json").write_text("{")
    with pytest.raises(CorruptData):
        verify_folder(folder)


@pytest.mark.parametrize("links", [True, False])
def test_a_linked_folder_has_the_same_files_but_the_one_left_out(tmp_path, monkeypatch, links):
    old, new = tmp_path / "old", tmp_path / "new"
    (old / "inner").mkdir(parents=True)
    (old / "inner" / "kept").write_bytes(b"kept")
    (old / "inner" / "replaced").write_bytes(b"old")
    seal_folder(old)
    if not links:
        monkeypatch.setattr("os.link", refuse)
    link_folder(old, new, without="replaced")
    with pytest.raises(CorruptData):
        verify_folder(new)
    (new / "inner" / "replaced").write_bytes(b"new")
    seal_folder(new)
    verify_folder(old)
    verify_folder(new)
    assert (new / "inner" / "kept").read_bytes() == b"kept"
    assert (new / "inner" / "kept").samefile(old / "inner" / "kept") == links


def refuse(*_paths):
    raise PermissionError(1, "no hard links here")
