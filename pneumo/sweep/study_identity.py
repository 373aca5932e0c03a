"""What must stay the same for a study to be continued under its name: its plan and its data."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from pneumo.data.dataset import Dataset
from pneumo.errors import InputError, listed
from pneumo.runs.identity import DatasetIdentity, configuration, differing_aspects
from pneumo.sweep import private_api
from pneumo.sweep.attributes import DATA, IDENTITY, QUEUE, SPLIT_HASH
from pneumo.sweep.storage import StudyStorage


def begin_or_continue(
    storage: StudyStorage,
    queue: Sequence[Mapping[str, Any]],
    identity: Mapping[str, Any],
    attributes: Mapping[str, Any],
    defaults: Mapping[str, Any],
) -> None:
    """Queues a new study's first trials and stores its identity; queues the trials of `queue` that a known
    study does not have yet; stores the attributes of any study.
    `defaults` are of settings that did not exist yet in older versions, which may also lack a topic of the
    identity. InputError: a study of that name exists with another identity."""
    study = storage.study
    given = [dict(values) for values in queue]
    with storage.lock():
        found = study.user_attrs
        known = found.get(IDENTITY)
        if known is None:
            for values in given[len(storage.trials()) :]:  # a process may have died in the middle of it
                study.enqueue_trial(values)
            study.set_user_attr(IDENTITY, dict(identity))
            differing = []
        else:
            missing = {name: defaults[name] for name in identity["settings"] if name in defaults}
            settings = {**missing, **configuration(known["settings"])}
            differing = differences({**identity, **known, "settings": settings}, identity)
            if not differing and found.get(QUEUE) != given:
                for values in not_there(given, storage):
                    study.enqueue_trial(values)
        if not differing:
            for name, value in {**attributes, QUEUE: given}.items():
                if found.get(name) != value:
                    study.set_user_attr(name, value)
    if differing:
        heading = f"The study {study.study_name} exists with other settings; study=NAME begins another one:"
        raise InputError(listed(heading, differing, shown=len(differing)))


def not_there(queue: Sequence[dict[str, Any]], storage: StudyStorage) -> list[dict[str, Any]]:
    """The trials of the queue whose parameters no trial of the study has, whether it was given or sampled.
    Each is looked for at its own place first, where a study that began with this queue has it."""
    known = [private_api.known_params(trial) for trial in storage.trials()]
    return [
        values
        for place, values in enumerate(queue)
        if not any(values.items() <= there.items() for there in chain(known[place : place + 1], known))
    ]


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """A line for each setting that differs; both map topic -> name -> value."""
    missing = "not there"
    return [
        f"{name}: then {then.get(topic, {}).get(name, missing)}, now {now[topic].get(name, missing)}"
        for topic in now
        for name in sorted(then.get(topic, {}).keys() | now[topic].keys())
        if then.get(topic, {}).get(name) != now[topic].get(name)
    ]


def has_known_data(storage: StudyStorage) -> bool:
    """Whether a trial of the study has loaded its data before."""
    return not {DATA, SPLIT_HASH}.isdisjoint(storage.study.user_attrs)


def refuse_other_data(storage: StudyStorage, dataset: Dataset, style: str | None = None) -> None:
    """Stores the identity of the data, if it is not known. A design that has data of several styles knows
    each. InputError: images, labels, lesions, patients or split differ from those of earlier trials. Studies
    of older versions know the split alone."""
    aspects, split_hash = DatasetIdentity.of(dataset).aspects, dataset.split.hash
    name = f"{DATA}: {style}" if style else DATA
    with storage.lock():
        known = storage.study.user_attrs
        if data := known.get(name):
            differing = differing_aspects(data, aspects)
        elif known.get(SPLIT_HASH, split_hash) != split_hash:
            differing = ["the split"]
        else:
            differing = []
            storage.study.set_user_attr(SPLIT_HASH, split_hash)
            storage.study.set_user_attr(name, aspects)
    if differing:
        raise InputError(
            f"The data are not those the study {storage.study.study_name} began with: "
            f"{', '.join(differing)} differ. Restore them, or begin another study with study=NAME"
        )
