"""What an error of an MLflow server, or of the store of its files, says in one line.

MLflow, requests and boto3 raise many kinds of errors, and one wraps another as text, so they are told apart
by their text."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mlflow.exceptions import MlflowException

from pneumo.display.address import hidden

USER, PASSWORD, TOKEN = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"
ABSENT = r"\((?:404|NoSuchKey)\) when calling"  # a file that S3 does not have
FOLLOWING = r"(?:(?!\\?['\"]}|\n).)*"  # up to the end of a quoted text


AWAY = r"(?i:connection refused|timed out|name or service not known|unreachable)"


class FilesError(MlflowException):
    """The store of a run's files cannot be used; the message is the cause, as `cause_of` gives it."""


def cause_of(error: Exception) -> str | None:
    """The cause, as a part of a sentence without what is secret; None of an error that says nothing of the
    server or the store, such as that a file is not there."""
    text = hidden(str(error))
    if isinstance(error, FilesError):
        return text
    if re.search(ABSENT, text):
        return None
    for pattern, said in CAUSES:
        if match := re.search(pattern, text):
            return said(match)
    causes: list[str] = re.findall(AWAY, text)
    return causes[-1] if causes else None  # the last in the long line of causes that MLflow gives


def refused(match: re.Match[str]) -> str:
    """What to say where the server does not know who asks."""
    if user := os.environ.get(USER):
        return f"it refuses user {user}: no such user, or {PASSWORD} is wrong"
    if os.environ.get(TOKEN):
        return f"it refuses {TOKEN}"
    return f"it asks for a user and a password: set {USER} and {PASSWORD}"


def forbidden(match: re.Match[str]) -> str:
    """What to say where the server knows who asks, and does not permit it."""
    user = os.environ.get(USER)
    call = re.search(r"/api/\d\.\d/(?:mlflow/|mlflow-artifacts/)?([\w/-]+)", match.string)
    asked = f"to call {call[1][:60]}" if call else "this"
    who = f"user {user}" if user else "you"
    return f"it does not permit {who} {asked}; to train, EDIT on the experiment is needed"


def server_error(match: re.Match[str]) -> str:
    """What to say where the server fails, most often because it cannot reach the store of its files."""
    about = "its files" if "mlflow-artifacts" in match.string else "a call"
    return f"it answers {match[1]} to {about}: its own log says why"


CAUSES: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (  # the first that matches
    (r"error code 401|\b401 Client Error", refused),
    (r"error code 403|\b403 Client Error|PERMISSION_DENIED", forbidden),
    (r"No module named '(?:boto3|botocore)'", lambda _: "its files are on S3: pip install 'pneumo[s3]'"),
    (
        r"Unable to locate credentials|Partial credentials found",
        lambda _: "its files are on S3: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    ),
    (
        r'(?:Could not connect to the endpoint URL|timeout on endpoint URL): \\?"(\w+://[^/"\\]*)',
        lambda match: f"S3 at {match[1]}, where its files are, cannot be reached",
    ),
    (
        rf"An error occurred \((\w+)\) when calling the (\w+) operation[^:]*: ({FOLLOWING})",
        lambda match: f"S3, where its files are, answers {match[1]} to {match[2]}: {match[3].strip()[:200]}",
    ),
    (
        r"QueuePool limit",  # which MLflow answers as a request that is wrong
        lambda _: (
            "it has more to do than connections to its database: set MLFLOW_SQLALCHEMYSTORE_POOL_SIZE=20 "
            "where it is started"
        ),
    ),
    (r"(?:error code |too many |\b)(5\d\d)(?: != 200| error responses| Server Error)", server_error),
)


@contextmanager
def files_reached() -> Iterator[None]:
    """Inside the block, what the store of a run's files raises where it cannot be used is a FilesError, which
    is handled as an MLflow that is away."""
    try:
        yield
    except Exception as error:
        if isinstance(error, FilesError) or (cause := cause_of(error)) is None:
            raise
        raise FilesError(cause) from error


@contextmanager
def passing_over_absent() -> Iterator[None]:
    """As `files_reached`, and the block is left where a file is not there."""
    try:
        with files_reached():
            yield
    except FilesError:
        raise
    except Exception as error:
        if not (isinstance(error, MlflowException | OSError) or re.search(ABSENT, str(error))):
            raise
