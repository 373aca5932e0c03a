"""Runs on an MLflow server with a password, behind a proxy's prefix, with its files on S3: real servers."""

import os
import re
import shutil
import subprocess
import sys
from contextlib import chdir
from dataclasses import replace
from urllib.parse import quote

import boto3
import mlflow
import pandas as pd
import pytest
import requests
from conftest import SMALL, Named, dying_in_epoch
from mlflow_server import serving
from moto.server import ThreadedMotoServer
from postgres import free_port
from reverse_proxy import proxied

from pneumo.cli import app
from pneumo.errors import AwayError, InputError
from pneumo.runs import query, tracking
from pneumo.runs.run import run
from pneumo.runs.server_errors import PASSWORD, USER, FilesError

TINY = [*SMALL, "model.width=4", "fit.precision=fp32"]
ADMIN, READER = ("admin", "adm1n: of/@ll"), ("reader", "r3ader: of/@ll")
PREFIX = "/team/mlflow"
REGION = "eu-west-1"
KEYS = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "n0t-to-be-seen",
    "AWS_DEFAULT_REGION": "eu-west-1",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """That of the machine, without addresses, users and keys; what a command leaves there goes with it."""
    for name in list(os.environ):
        if name.startswith(("MLFLOW_TRACKING_", "AWS_", "MLFLOW_S3_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv(tracking.RETRIES, "1")
    monkeypatch.setitem(tracking.BRIEF, "MLFLOW_HTTP_REQUEST_TIMEOUT", "120")  # a busy machine is no failure
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]


@pytest.fixture(scope="module")
def buckets(tmp_path_factory):
    """The address of an S3 server with one bucket, `films`."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    in_eu = {"CreateBucketConfiguration": {"LocationConstraint": REGION}}
    s3(address).create_bucket(Bucket="films", **in_eu)
    yield address
    server.stop()


def s3(address):
    return boto3.client(
        "s3",
        endpoint_url=address,
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        region_name=REGION,
    )


def files_in(address, under):
    """The keys of the bucket `films` that begin with this, without it."""
    listed = s3(address).list_objects_v2(Bucket="films", Prefix=under)
    return {one["Key"].removeprefix(under) for one in listed.get("Contents", [])}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, buckets):
    """The address of a server that asks for a password, behind a proxy that takes a prefix away; its files
    are on S3, which it alone can read. It knows a user who may only read."""
    folder, port = tmp_path_factory.mktemp("guarded"), free_port()
    own = {
        "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN[1],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "secret",
        "MLFLOW_S3_ENDPOINT_URL": buckets,
        **KEYS,
    }
    options = ("--app-name", "basic-auth", "--artifacts-destination", "s3://films/guarded")
    with (
        chdir(folder),
        serving(port, *options, environment=own),
        proxied(port, PREFIX, keeps_prefix=False) as address,
    ):
        made = requests.post(
            f"{address}/api/2.0/mlflow/users/create",
            json=dict(zip(("username", "password"), READER, strict=True)),
            auth=ADMIN,
        )
        assert made.status_code == 200, made.text
        yield address


def sign_in(monkeypatch, address, user=None):
    """Sets the environment variables of a server, and of a user's name and password."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    if user:
        monkeypatch.setenv(USER, user[0])
        monkeypatch.setenv(PASSWORD, user[1])


def run_resumed_and_predicted(composed, workdir, monkeypatch):
    """Trains in one folder, which dies and is gone; resumes in a second; predicts in a third, in which only
    the environment leads to the run. Returns its id and the predictions."""
    experiment, named = composed(*TINY, "fit.epochs=3"), Named()
    for name in ("first", "second", "third"):
        (workdir / name).mkdir()
    monkeypatch.chdir(workdir / "first")
    with dying_in_epoch(monkeypatch, 2):
        run(experiment, workdir / "first" / "out", named)
    shutil.rmtree(workdir / "first" / "out")
    monkeypatch.chdir(workdir / "second")
    run(replace(experiment, resume=named.run_id), workdir / "second" / "out")
    monkeypatch.chdir(workdir / "third")
    shutil.rmtree(workdir / "second")
    app.invoke(
        ["data", "export", "films", "--layout", "folders", "data.n_images=20", "data.image_side_px=64"]
    )
    assert app.invoke(["predict", "latest", "films", "--out", "scores.csv"]) == 0
    history = mlflow.MlflowClient().get_metric_history(named.run_id, "val/auroc")
    assert [point.step for point in history] == [1, 2, 3]
    return named.run_id, pd.read_csv("scores.csv")


def test_with_a_password_a_prefix_and_s3_the_environment_is_enough_to_train_resume_and_predict(
    guarded, buckets, composed, workdir, monkeypatch, capfd
):
    sign_in(monkeypatch, guarded, ADMIN)
    run_id, scores = run_resumed_and_predicted(composed, workdir, monkeypatch)
    assert scores["score"].between(0, 1).sum() >= 20
    files = files_in(buckets, f"guarded/{tracking.experiment_id('pneumo')}/{run_id}/artifacts/")
    assert {"checkpoints/last.pt", "checkpoints/best.pt", "results/predictions.csv"} <= files
    said = "".join(capfd.readouterr())
    assert f"{guarded}/#/experiments/" in said
    assert requests.get(f"{guarded}/", auth=ADMIN).status_code == 200
    for secret in (ADMIN[1], quote(ADMIN[1], safe=""), "n0t-to-be-seen"):
        assert secret not in said


def test_a_user_and_password_in_the_address_are_not_shown(guarded, workdir, monkeypatch):
    name, password = (quote(each, safe="") for each in ADMIN)
    sign_in(monkeypatch, guarded.replace("://", f"://{name}:{password}@"))
    tracking.connect()
    assert tracking.store_name() == tracking.pages_address() == guarded


@pytest.mark.parametrize(
    ("user", "said"),
    [
        (
            None,
            "it asks for a user and a password: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
        ),
        (("admin", "wr0ng"), "it refuses user admin: no such user, or MLFLOW_TRACKING_PASSWORD is wrong"),
        (("nobody", "wr0ng"), "it refuses user nobody: no such user, or MLFLOW_TRACKING_PASSWORD is wrong"),
    ],
)
def test_who_is_not_known_is_told_so_in_one_line(guarded, workdir, monkeypatch, user, said):
    sign_in(monkeypatch, guarded, user)
    with pytest.raises(AwayError) as refused:
        tracking.connect()
    assert str(refused.value) == f"MLflow at {guarded} cannot be used: {said}"


def test_who_may_only_read_reads_and_is_refused_to_train_before_the_data_are_read(
    guarded, composed, workdir, monkeypatch
):
    sign_in(monkeypatch, guarded, ADMIN)
    tracking.connect("pneumo")
    sign_in(monkeypatch, guarded, READER)
    tracking.connect()
    with pytest.raises(AwayError, match=r"it does not permit user reader to call \S+; to train, EDIT"):
        run(composed(*TINY, "fit.epochs=1"), workdir / "out")
    assert not list(workdir.rglob("*"))


def test_what_may_not_be_written_to_a_run_is_said_in_one_line_by_a_command(guarded, workdir, monkeypatch):
    sign_in(monkeypatch, guarded, ADMIN)
    tracking.connect()
    run_id = tracking.create_parent_run("pneumo", "of the admin", {})
    sign_in(monkeypatch, guarded, READER)
    monkeypatch.setattr(app, "invoke", lambda words: tracking.log_text(run_id, "text", "evaluation/a.md"))
    monkeypatch.setattr(sys, "argv", ["pneumo", "evaluate", run_id])
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert str(ended.value).startswith(f"MLflow at {guarded} cannot be used: it does not permit user reader")
    assert "\n" not in str(ended.value)


@pytest.fixture(scope="module")
def open_server(tmp_path_factory):
    """The port of a server without a password that has the prefix itself, and whose clients read and write
    the files in the bucket `films` themselves."""
    folder, port = tmp_path_factory.mktemp("open"), free_port()
    options = ("--no-serve-artifacts", "--default-artifact-root", "s3://films/direct")
    with chdir(folder), serving(port, *options, prefix=PREFIX):
        yield port


def with_keys(monkeypatch, address):
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", address)
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)


def test_the_server_may_have_the_prefix_and_its_clients_may_write_to_s3_themselves(
    open_server, buckets, composed, workdir, monkeypatch
):
    with_keys(monkeypatch, buckets)
    with proxied(open_server, PREFIX, keeps_prefix=True) as address:
        sign_in(monkeypatch, f"{address}/")
        run_id, _ = run_resumed_and_predicted(composed, workdir, monkeypatch)
        assert tracking.run_url("1", run_id).startswith(f"{address}/#/experiments/1/runs/{run_id}")
        assert requests.get(f"{tracking.pages_address()}/").status_code == 200
    assert "checkpoints/best.pt" in files_in(buckets, f"direct/1/{run_id}/artifacts/")


WITHOUT_BOTO3 = """
import importlib.abc, sys
class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "boto3":
            raise ModuleNotFoundError("No module named 'boto3'")
sys.meta_path.insert(0, Hidden())
"""
TRAIN = "from pneumo.cli.train import main; main()"
NO_KEYS = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_SHARED_CREDENTIALS_FILE": "none"}


@pytest.mark.parametrize(
    ("program", "environment_of", "cause"),
    [
        (TRAIN, KEYS, r"S3 at http://127\.0\.0\.1:9, where its files are, cannot be reached"),
        (TRAIN, NO_KEYS, "its files are on S3: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        (WITHOUT_BOTO3 + TRAIN, KEYS, r"its files are on S3: pip install 'pneumo\[s3\]'"),
    ],
)
def test_a_bucket_that_cannot_be_used_is_said_in_one_line_before_the_first_epoch(
    open_server, workdir, monkeypatch, program, environment_of, cause
):
    sign_in(monkeypatch, f"http://127.0.0.1:{open_server}{PREFIX}")
    environment = {**os.environ, "MLFLOW_S3_ENDPOINT_URL": "http://127.0.0.1:9", **environment_of}
    done = subprocess.run(
        [sys.executable, "-c", program, *TINY, "fit.epochs=1"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    at = f"http://127.0.0.1:{open_server}{PREFIX}"
    assert re.fullmatch(rf"MLflow at {at} cannot be used: {cause}", last)
    assert "Traceback" not in done.stderr
    assert "epoch  loss" not in done.stdout
    assert "n0t-to-be-seen" not in done.stdout + done.stderr
    tracking.connect()
    (latest,) = mlflow.search_runs(search_all_experiments=True, max_results=1, output_format="list")
    assert latest.info.status == "FAILED"


def test_a_file_that_a_bucket_does_not_have_is_said_to_be_gone(open_server, buckets, workdir, monkeypatch):
    with_keys(monkeypatch, buckets)
    sign_in(monkeypatch, f"http://127.0.0.1:{open_server}{PREFIX}")
    tracking.connect()
    run_id = tracking.create_parent_run("pneumo", "without files", {})
    with pytest.raises(InputError, match=r"has no results\.json: its files are gone"):
        query.read_text(run_id, "results.json")
    assert query.find_checkpoint(query.find_run(run_id), "last.pt") is None


def test_a_bucket_that_does_not_exist_is_named_by_the_answer_of_s3(buckets, workdir, monkeypatch):
    with_keys(monkeypatch, buckets)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tracking.connect()
    elsewhere = mlflow.create_experiment("elsewhere", artifact_location="s3://no-such-bucket")
    run_id = mlflow.MlflowClient().create_run(elsewhere).info.run_id
    with pytest.raises(FilesError, match=r"answers NoSuchBucket to PutObject: The specified bucket"):
        tracking.log_text(run_id, "text", "a.md")
