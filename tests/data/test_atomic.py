import pytest

from pneumo.data.atomic import atomic_path, remove_leftovers


def test_a_file_takes_its_place_when_the_block_ends(tmp_path):
    with atomic_path(tmp_path / "a.txt") as beside:
        beside.write_text("new")
        assert not (tmp_path / "a.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "new"


@pytest.mark.parametrize("late", [False, True])
def test_after_an_error_the_old_file_stays_and_nothing_else(late, tmp_path):
    (tmp_path / "a.txt").write_text("old")

    def fail():
        raise OSError(28, "No space left on device")

    def write():
        with atomic_path(tmp_path / "a.txt", fail) as beside:
            beside.write_text("half of it")
            if not late:
                fail()

    with pytest.raises(OSError, match=r"a\.txt cannot be written \(No space left on device\)"):
        write()
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_what_killed_processes_left_is_removed_and_other_files_are_not(tmp_path):
    for name in (".last[1].pt.4711", ".last1.pt.4711", "last[1].pt"):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path / "last[1].pt")
    assert {path.name for path in tmp_path.iterdir()} == {".last1.pt.4711", "last[1].pt"}
