import pickle

import numpy as np
import pytest
import torch
from conftest import store_of

from pneumo.data import batches


@pytest.mark.parametrize("there_is_room", [True, False])
def test_pixels_lie_on_the_device_where_there_is_room_and_else_stay_on_disk(monkeypatch, there_is_room):
    monkeypatch.setattr(batches, "fits", lambda n_bytes, device: there_is_room)
    store = store_of(np.zeros((4, 8, 8), np.uint8))
    served = batches.Batches(store, np.zeros(4), torch.device("meta"), num_workers=0)
    assert (served._resident is not None) == there_is_room


def test_pixels_that_may_only_be_read_go_to_the_device_without_a_warning(recwarn):
    pixels = np.zeros((4, 8, 8), np.uint8)
    pixels.flags.writeable = False
    torch.set_warn_always(True)
    try:
        batches.Batches(store_of(pixels), np.zeros(4), torch.device("meta"), num_workers=0)
    finally:
        torch.set_warn_always(False)
    assert [str(found.message) for found in recwarn] == []


@pytest.fixture
def from_disk(tmp_path, monkeypatch):
    """Batches of memory-mapped pixels, which do not fit into the memory, by a worker; and the pixels."""
    monkeypatch.setattr(batches, "fits", lambda n_bytes, device: False)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 64), np.uint8)
    np.save(tmp_path / "pixels.npy", pixels)
    store = store_of(np.load(tmp_path / "pixels.npy", mmap_mode="r"))
    return batches.Batches(store, np.zeros(64), torch.device("cpu"), num_workers=1), pixels


def test_a_worker_gives_the_rows_and_leaves_the_generator_of_dropout_as_it_was(from_disk):
    served, pixels = from_disk
    before = torch.random.get_rng_state()
    rows = np.array([5, 3, 40])
    (batch,) = served.of(rows, batch_size=3)
    assert (batch.images[:, 0].numpy() == pixels[rows]).all()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_worker_that_is_not_forked_gets_the_place_of_the_pixels_and_not_the_pixels(from_disk):
    served, pixels = from_disk
    row_sets = batches._RowSets(served.store.pixels, [np.array([5, 3]), np.array([63])])
    sent = pickle.dumps(row_sets)
    assert len(sent) < 2000 < pixels.nbytes
    assert (pickle.loads(sent)[0].numpy() == pixels[[5, 3]]).all()


def test_pixels_in_memory_go_to_a_worker_as_they_are():
    pixels = np.arange(32, dtype=np.uint8).reshape(2, 4, 4)
    again = pickle.loads(pickle.dumps(batches._RowSets(pixels, [np.array([1])])))
    assert (again[0].numpy() == pixels[[1]]).all()
