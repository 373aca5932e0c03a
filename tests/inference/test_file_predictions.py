"""Files are predicted in their order, and only a few are held at a time."""

from pneumo.inference import file_predictions


def test_no_more_than_a_few_files_are_read_ahead(monkeypatch):
    read = []
    monkeypatch.setattr(file_predictions, "cores", lambda: 2)
    monkeypatch.setattr(file_predictions, "_read", lambda path, side: read.append(path) or path)
    stream = file_predictions.decoded([str(number) for number in range(1000)], 64)
    assert [next(stream), next(stream)] == ["0", "1"]
    assert len(read) <= 2 + 2 * file_predictions.READ_AHEAD
    assert list(stream) == [str(number) for number in range(2, 1000)]
