"""`pneumo predict`: files and folders in, a CSV out."""

import csv
import io
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dicoms import save
from PIL import Image

from pneumo.cli import app
from pneumo.data.dataset import load_dataset
from pneumo.data.files import counted, image_files
from pneumo.errors import InputError
from pneumo.inference import file_predictions, radiograph
from pneumo.inference.model import load_model
from pneumo.runs import query


def chest(side=64, seed=0):
    return np.random.default_rng(seed).integers(40, 220, (side, side), np.uint8)


def png(path, pixels=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(chest() if pixels is None else pixels).save(path)
    return path


def table(path):
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def test_a_cohort_s_own_files_are_scored_as_the_run_scored_them(there, one_run, tmp_path):
    dataset = load_dataset(one_run[2].data, lambda done, total: None)
    ids = dataset.cohort.table["image_id"].to_numpy()
    known = pd.read_csv(io.StringIO(query.read_text(there, "predictions.csv"))).set_index("image_id")
    for row in np.flatnonzero(np.isin(ids, known.index)):
        png(tmp_path / "films" / f"{ids[row]}.png", np.asarray(dataset.store.pixels[row]))
    app.invoke(["predict", there, str(tmp_path / "films"), "--out", str(tmp_path / "out.csv")])
    rows = table(tmp_path / "out.csv")
    assert len(rows) == len(known) > 40
    threshold = load_model(there).threshold
    for row in rows:
        expected = known.loc[Path(row["path"]).stem, "score"]
        assert float(row["score"]) == pytest.approx(expected, abs=2e-6)
        assert row["decision"] == ("positive" if float(row["score"]) >= threshold else "negative")
        assert float(row["threshold"]) == pytest.approx(threshold, abs=1e-6)
        assert row["flag"] == row["error"] == ""
        assert 0 < float(row["probability"]) < 1


def test_a_file_beside_the_predictions_says_what_each_of_their_columns_means(there, tmp_path):
    app.invoke(["predict", there, str(png(tmp_path / "a.png")), "--out", str(tmp_path / "out.csv")])
    (row,), meanings = table(tmp_path / "out.csv"), table(tmp_path / "out.columns.csv")
    assert [one["column"] for one in meanings] == list(row)
    assert all(one["meaning"] for one in meanings)
    names = list(row)
    assert names.index("threshold") == names.index("score") + 1


def test_where_no_file_can_be_read_nothing_is_written(there, tmp_path):
    (tmp_path / "list.csv").write_text("image,label\na.png,1\n")
    with pytest.raises(InputError) as error:
        app.invoke(["predict", there, str(tmp_path / "list.csv"), "--out", str(tmp_path / "out.csv")])
    said = str(error.value)
    assert said.startswith(f"None of the 1 files can be read, e.g. {tmp_path / 'list.csv'}: ")
    assert said.endswith("; give PNG, JPEG or DICOM files, or folders of them")
    assert [path.name for path in tmp_path.iterdir()] == ["list.csv"]


def test_png_jpeg_and_dicom_of_one_radiograph_keep_the_order_given_with_the_broken_between(there, tmp_path):
    radiograph = np.kron(chest(16), np.ones((4, 4), np.uint8))
    Image.fromarray(radiograph).save(tmp_path / "b.jpg", quality=98)
    broken = tmp_path / "c.dcm"
    broken.write_bytes(b"no radiograph")
    given = [
        png(tmp_path / "d.png", radiograph),
        tmp_path / "b.jpg",
        broken,
        save(tmp_path / "a.dcm", radiograph),
    ]
    app.invoke(["predict", there, *map(str, given), "--out", str(tmp_path / "out.csv")])
    rows = table(tmp_path / "out.csv")
    assert [row["path"] for row in rows] == list(map(str, given))
    assert rows[2]["error"].startswith("c.dcm is not a DICOM file")
    assert rows[2]["score"] == ""
    assert rows[0]["score"] == rows[3]["score"]
    assert float(rows[1]["score"]) == pytest.approx(float(rows[0]["score"]), abs=0.02)


def test_names_with_line_breaks_commas_and_no_utf8_survive(there, tmp_path):
    names = ['two\nlines, "quoted".png', "größe 胸.png", os.fsdecode(b"latin \xe9.png")]
    for name in names:
        png(tmp_path / "films" / name)
    app.invoke(["predict", there, str(tmp_path / "films"), "--out", str(tmp_path / "out.csv")])
    rows = table(tmp_path / "out.csv")
    assert {row["path"] for row in rows} == {str(tmp_path / "films" / name) for name in names}
    assert all(row["score"] for row in rows)


def test_each_readable_radiograph_has_one_heat_map(there, tmp_path):
    png(tmp_path / "films" / "a.png")
    (tmp_path / "films" / "b.png").write_bytes(b"broken")
    png(tmp_path / "films" / "c.png")
    heat = tmp_path / "heat"
    app.invoke(
        ["predict", there, str(tmp_path / "films"), "--out", str(tmp_path / "o.csv"), "--heatmaps", str(heat)]
    )
    assert sorted(path.name for path in heat.iterdir()) == ["000001_a.png", "000003_c.png"]
    assert Image.open(heat / "000001_a.png").size == (512, 512)


def test_a_stopped_job_keeps_its_rows_and_leaves_the_last_result_alone(there, tmp_path, monkeypatch, capsys):
    from pneumo.cli.actions import predict

    for number in range(3):
        png(tmp_path / "films" / f"{number}.png")
    out = tmp_path / "out.csv"
    out.write_text("yesterday's")
    every = predict.predict_files

    def stopped(*given):
        yield next(every(*given))
        raise KeyboardInterrupt

    monkeypatch.setattr(predict, "predict_files", stopped)
    assert app.invoke(["predict", there, str(tmp_path / "films"), "--out", str(out)]) == 130
    assert out.read_text() == "yesterday's"
    assert len(table(tmp_path / "out.csv.part")) == 1
    assert "stopped after 1 of 3 files" in capsys.readouterr().out


def test_where_another_prediction_writes_its_rows_none_begins(there, tmp_path, monkeypatch):
    from pneumo.cli.actions import predict

    film, out, partial = png(tmp_path / "a.png"), tmp_path / "out.csv", tmp_path / "out.csv.part"
    partial.write_text("rows of another")
    monkeypatch.setattr(predict, "load_model", None)  # which would take seconds
    with pytest.raises(InputError) as error:
        app.invoke(["predict", there, str(film), "--out", str(out)])
    assert str(error.value) == (
        f"{partial} is there: another prediction writes it, or an interrupted one left it; move or delete it"
    )
    assert partial.read_text() == "rows of another"
    assert not out.exists()


def test_after_an_error_nothing_half_written_is_left(there, tmp_path, monkeypatch):
    from pneumo.cli.actions import predict

    film, out = png(tmp_path / "a.png"), tmp_path / "out.csv"
    with pytest.raises(InputError, match="has no run no-such-run"):
        app.invoke(["predict", "no-such-run", str(film), "--out", str(out)])
    every = predict.predict_files

    def failing(*given):
        yield next(every(*given))
        raise RuntimeError("out of memory")

    monkeypatch.setattr(predict, "predict_files", failing)
    with pytest.raises(RuntimeError, match="out of memory"):
        app.invoke(["predict", there, str(film), "--out", str(out)])
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_job_that_is_stopped_before_its_first_row_leaves_no_file(there, tmp_path, monkeypatch, capsys):
    def stopped(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(file_predictions, "decide", stopped)
    film = png(tmp_path / "a.png")
    assert app.invoke(["predict", there, str(film), "--out", str(tmp_path / "out.csv")]) == 130
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert capsys.readouterr().out.rstrip().endswith("stopped after 0 of 1 files")


@pytest.mark.parametrize("when", ["before its header is read", "after it is read"])
def test_a_file_that_disappears_meanwhile_costs_its_own_row(there, tmp_path, monkeypatch, when):
    films = [png(tmp_path / "films" / name) for name in ("a.png", "b.png", "c.png")]
    place, name = (
        (radiograph, "header_flag") if when.startswith("before") else (file_predictions, "read_radiograph")
    )
    every = getattr(place, name)

    def read(path, *given):
        found = None if when.startswith("before") else every(path, *given)
        if "b.png" in (path.name, *given):
            films[1].unlink()
        return every(path, *given) if found is None else found

    monkeypatch.setattr(place, name, read)
    out = tmp_path / "out.csv"
    app.invoke(["predict", there, str(tmp_path / "films"), "--out", str(out)])
    rows = table(out)
    assert [bool(row["score"]) for row in rows] == [True, False, True]
    assert rows[1]["error"] == "b.png cannot be read: No such file or directory"


def test_a_file_that_disappears_once_it_is_read_is_scored(there, tmp_path, monkeypatch):
    film, every = png(tmp_path / "a.png"), file_predictions.decide

    def deciding(*given):
        film.unlink()
        return every(*given)

    monkeypatch.setattr(file_predictions, "decide", deciding)
    app.invoke(["predict", there, str(film), "--out", str(tmp_path / "out.csv")])
    assert table(tmp_path / "out.csv")[0]["score"]


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("films", "lies in films, so the maps would be predicted the next time: name a folder elsewhere"),
        (
            "films/maps",
            "lies in films, so the maps would be predicted the next time: name a folder elsewhere",
        ),
        ("used", "holds files already, such as old.png: name a new folder"),
        ("film.png", "is not a folder"),
    ],
)
def test_heat_maps_get_a_folder_of_their_own(there, tmp_path, monkeypatch, folder, said):
    shutil.copy("mlflow.db", tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in ("films/a.png", "used/old.png", "film.png"):
        png(tmp_path / name)
    with pytest.raises(InputError) as error:
        app.invoke(["predict", there, "films", "--heatmaps", folder])
    assert str(error.value) == f"--heatmaps {folder} {said}"
    assert not (tmp_path / "films" / "maps").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["films"], "films is not there"),
        (["/dev/null"], "/dev/null is neither a file nor a folder"),
        (["empty"], "no PNG, JPEG or DICOM file is in it"),
        (["empty", "--out", "nowhere/x.csv"], "there is no folder nowhere"),
        (["empty", "--out", "empty"], "is a folder"),
        (["film.png", "--out", "pipe"], "--out pipe is no plain file"),
        (["film.png", "--out", "film.png"], "film.png is one of the files to be read"),
        (["film.png", "--out", "linked.png"], "linked.png is one of the files to be read"),
        (["film.png.part", "--out", "film.png"], "film.png.part is one of the files to be read"),
    ],
)
def test_what_cannot_be_predicted_is_refused_before_anything_is_written(one_run, workdir, words, said):
    folder, run_id, _ = one_run
    shutil.copy(folder / "mlflow.db", workdir)
    (workdir / "empty").mkdir()
    radiograph = png(workdir / "film.png").read_bytes()
    os.mkfifo(workdir / "pipe")
    (workdir / "linked.png").symlink_to("film.png")
    (workdir / "film.png.part").write_bytes(radiograph)
    with pytest.raises(InputError, match=said):
        app.invoke(["predict", run_id, *words])
    assert not list(workdir.glob("*.csv*"))
    assert (workdir / "film.png").read_bytes() == (workdir / "film.png.part").read_bytes() == radiograph
    assert (workdir / "pipe").is_fifo()


def test_a_folder_is_walked_sorted_without_loops_hidden_files_and_other_documents(tmp_path):
    for name in ("b/2.png", "b/10.PNG", "a/IM0001", "a/1.2.840.99", "a/notes.txt", ".hidden/x.png", ".x.png"):
        png_path = tmp_path / name
        png_path.parent.mkdir(exist_ok=True)
        png_path.write_bytes(b"")
    (tmp_path / "b" / "loop").symlink_to(tmp_path, target_is_directory=True)
    os.mkfifo(tmp_path / "a" / "pipe")
    for name in ("b/1.gif", "b/1.bmp", "a/x.TXT", "a/y.tar.gz"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "a" / "gone.png").symlink_to("nowhere.png")
    paths, left_out = image_files([str(tmp_path)])
    found = [path.removeprefix(f"{tmp_path}/") for path in paths]
    assert found == ["a/1.2.840.99", "a/IM0001", "b/1.bmp", "b/1.gif", "b/10.PNG", "b/2.png"]
    assert counted(left_out) == "2 .txt, 1 broken link, 1 pipe or device, 1 .gz, 1 linked folder"


def test_a_file_that_is_named_twice_is_read_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("films/a.png", "films/b.png"):
        png(tmp_path / name)
    assert image_files(["films", "films/a.png", "./films/b.png", str(tmp_path / "films")])[0] == [
        "films/a.png",
        "films/b.png",
    ]
    assert image_files(["films/b.png", "films"])[0] == ["films/b.png", "films/a.png"]


def test_other_files_of_a_folder_are_counted(there, tmp_path, capsys):
    png(tmp_path / "films" / "a.png")
    Image.fromarray(chest()).save(tmp_path / "films" / "b.gif")
    for name in ("notes.txt", "more.txt", "report.pdf", ".hidden.txt"):
        (tmp_path / "films" / name).write_text("no radiograph")
    app.invoke(["predict", there, str(tmp_path / "films"), "--out", str(tmp_path / "out.csv")])
    assert "2 · left out: 2 .txt, 1 .pdf" in capsys.readouterr().out
    rows = table(tmp_path / "out.csv")
    assert rows[0]["score"] == rows[1]["score"] != ""
    (tmp_path / "films" / "a.png").unlink()
    (tmp_path / "films" / "b.gif").unlink()
    with pytest.raises(InputError, match=r"no PNG, JPEG or DICOM file is in it \(left out: 2 .txt, 1 .pdf\)"):
        app.invoke(["predict", there, str(tmp_path / "films"), "--out", str(tmp_path / "out.csv")])
