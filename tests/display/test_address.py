"""What of an address may be shown, whoever repeats it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import mlflow
import pytest
from conftest import ROOT, SMALL
from postgres import PASSWORD, USER, free_port

from pneumo.display.address import apart, hidden, parsed, refuse_passwords, shown
from pneumo.errors import InputError
from pneumo.runs import tracking
from pneumo.sweep.storage import open_study
from pneumo.sweep.trial import TrialResult

SECRET = "s3c/r@t:#?%é"
SPELLED = quote(SECRET, safe="")
ADDRESSES = [
    f"postgresql://me:{SPELLED}@127.0.0.1:9/x",
    f"postgresql://127.0.0.1:9/x?user=me&password={SPELLED}",
    "postgresql://me:s3c/r@127.0.0.1:9/x",
    f"postgresql://me@127.0.0.1:9/x?options=-c%20x.password%3D{SPELLED}",
    f"postgresql://me@127.0.0.1:9/x?sslpassword={SPELLED}",
]
MALFORMED = [  # where the password ends cannot be told, or it is no address at all
    f"postgresql://me:{SECRET}@127.0.0.1:9/x",
    "postgresql://me:s3c@r@127.0.0.1:9/x",
    "postgresql://127.0.0.1?user=me&password=s3c@r",
    "postgresql://me:s3c#r/x",
    "mysql://me:s3c/r@127.0.0.1/x",
    "postgresql:me:s3c@127.0.0.1/x",
    "me:s3c@127.0.0.1/x",
    "host=127.0.0.1 user=me password=s3c",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_of_a_well_formed_address_kind_host_and_name_are_shown(address):
    assert shown(address) == "postgresql://127.0.0.1:9/x"


@pytest.mark.parametrize("address", MALFORMED)
def test_of_a_malformed_address_nothing_secret_is_shown_and_it_is_refused_without_repeating_it(address):
    assert "s3c" not in shown(address)
    with pytest.raises(InputError) as refused:
        open_study(address, "s", None)
    assert "s3c" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "address",
    [
        *(
            "mlflow.db",
            "sqlite:////home/me@work/a b/é.db",
            "sqlite:///study.db",
            "file:///mlruns",
            "./mlruns",
        ),
        *("http://127.0.0.1:5000", "postgresql://127.0.0.1/x", "http://[::1]:5000/base", "databricks"),
    ],
)
def test_an_address_without_a_secret_is_shown_as_it_is(address):
    assert shown(address) == address


@pytest.mark.parametrize("address", ADDRESSES)
def test_the_driver_is_given_what_the_address_says_and_the_address_keeps_no_secret(address):
    url, arguments = apart(parsed(address))
    assert "s3c" not in url.render_as_string(hide_password=False)
    (secret,) = arguments.values() if "user=" not in address else [arguments["password"]]
    assert secret in (SECRET, "s3c/r", f"-c x.password={SECRET}")


@pytest.mark.parametrize("address", ADDRESSES[:2] + MALFORMED[:2])
@pytest.mark.parametrize("name", ["PNEUMO_STORAGE", "MLFLOW_TRACKING_URI"])
def test_a_secret_of_the_environment_is_hidden_in_every_spelling(monkeypatch, name, address):
    monkeypatch.setenv(name, address)
    secret = "s3c@r" if "s3c@r" in address else SECRET
    for spelt in (secret, quote(secret), quote(secret, safe=""), repr(secret), json.dumps(secret)):
        text = hidden(f"cannot resolve {spelt} of {address}: {spelt}")
        assert "s3c" not in text
        assert text.startswith("cannot resolve ")
    assert "s3c" not in TrialResult("FAIL", kind="crash", reason=f"{secret}\n{address}").reason


def test_a_token_or_password_of_the_environment_is_hidden_and_a_short_one_only_as_a_word(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0ken-123")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "a")
    assert hidden("401 for t0ken-123 and a, at a bad place") == "401 for *** and ***, at *** bad place"


def test_a_message_without_a_secret_stays_as_it_is():
    message = "fe_sendauth: no password supplied for me@host, see http://host:5000/x (row 3: 5 of 7)"
    assert hidden(message) == message


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("before", ["storage=", "+storage=", "hydra.job.env_set.PNEUMO_STORAGE=", ""])
def test_a_password_among_a_command_s_words_is_refused(before, address):
    with pytest.raises(InputError, match="PNEUMO_STORAGE") as refused:
        refuse_passwords(["n_trials=3", before + address])
    assert "s3c" not in str(refused.value)
    refuse_passwords(["storage=postgresql://me@host/x", "data.root=/a@b:c", "data.columns.label=password"])


def test_mlflow_is_given_user_and_password_apart_from_the_address(workdir, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:{SPELLED}@127.0.0.1:{free_port()}/base")
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")  # restored at the end
    with pytest.raises(InputError, match="cannot be used: Connection refused"):
        tracking.connect()
    assert "@" not in mlflow.get_tracking_uri()
    assert mlflow.get_tracking_uri().endswith("/base")
    assert (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]) == ("me", SECRET)


SWEEP = [sys.executable, str(ROOT / "sweep.py"), "-m", *SMALL, "model.width=4", "fit.epochs=1", "study=s"]
AWAY = "hydra.sweeper.storage_minutes=0.01"


def typed(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def written(done):
    """Terminal and files, databases included."""
    files = [path for path in Path().rglob("*") if path.is_file()]
    return (done.stdout + done.stderr).encode() + b"".join(
        str(path).encode() + path.read_bytes() for path in files
    )


@pytest.mark.parametrize("address", [*ADDRESSES[1:4], MALFORMED[0], MALFORMED[3]])
def test_a_storage_that_is_away_or_malformed_leaves_no_secret_anywhere(workdir, monkeypatch, address):
    monkeypatch.setenv("PNEUMO_STORAGE", address)
    done = typed(*SWEEP, "n_trials=1", AWAY)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert b"s3c" not in written(done)


@pytest.mark.parametrize(("script", "address"), [("sweep.py", MALFORMED[0]), ("train.py", ADDRESSES[1])])
def test_a_password_on_the_command_line_is_refused_before_hydra_writes_it_down(workdir, script, address):
    done = typed(sys.executable, str(ROOT / script), "hydra/sweeper=optuna", f"storage='{address}'")
    assert done.returncode == 1
    assert b"s3c" not in written(done)
    assert list(workdir.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ["study", "s", "--storage", ADDRESSES[1]],
        ["confirm", "s", "--storage", MALFORMED[0]],
        ["report", "--study", "s", "--storage", ADDRESSES[2]],
        ["study", "s", "--storagee=postgresql://me:s3c r@127.0.0.1:9/x"],
        ["study", "s", "storage=postgresql://me:s3c r@127.0.0.1:9/x"],
        ["evaluate", "s", ADDRESSES[0]],
    ],
)
def test_no_verb_repeats_the_password_of_a_storage_that_is_typed(workdir, words):
    done = typed(sys.executable, "-c", "from pneumo.cli.app import main; main()", *words)
    assert done.returncode in (1, 2)
    assert b"s3c" not in written(done)


def test_a_sweep_on_a_server_writes_its_password_nowhere(workdir, monkeypatch, database):
    """Terminal, files, MLflow's database and the study's own, with the password in either place."""
    import psycopg

    spelled = quote(PASSWORD, safe="")
    plain = database.replace(f"{USER}:{spelled}@", "") + f"?user={USER}&password={spelled}"
    for n_trials, address in enumerate((database, plain), start=1):
        monkeypatch.setenv("PNEUMO_STORAGE", address)
        done = typed(*SWEEP, f"n_trials={n_trials}", "workers=2")
        assert done.returncode == 0, done.stderr
        found = written(done)
        with psycopg.connect(database) as connection:
            tables = connection.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
            ).fetchall()
            for (table,) in tables:
                found += repr(connection.execute(f"SELECT * FROM {table}").fetchall()).encode()
        for secret in (PASSWORD, quote(PASSWORD), spelled):
            assert secret.encode() not in found
    assert f"postgresql://{database.split('@')[1]}" in done.stdout
