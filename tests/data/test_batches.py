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
