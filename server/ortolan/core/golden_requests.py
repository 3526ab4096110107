"""Golden requests: whether a version that was just loaded gives the answers that were kept beside it.

What is compared is the graph's own answer, in the graph's shapes, from every session that is going to serve.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from ortolan.core.golden_answers import compare, fitted
from ortolan.errors import InvalidArgument, OrtolanError
from ortolan.execution.session import Session
from ortolan.repository.golden_files import (
    Check,
    DataSet,
    DataSetRefused,
    GoldenPlace,
    GoldenRule,
    data_set_directories,
    read_data_set,
)
from ortolan.repository.outside_text import NOT_SHOWN


def check_golden_requests(
    model_name: str,
    place: GoldenPlace,
    sessions: Sequence[Session],
    parameters: Mapping[str, str],
    rule: GoldenRule,
    check: Check,
) -> None:
    """Run every data set in ``place`` through every session.

    ``check`` is asked about each file. Raises InvalidArgument naming the data set that fails, or that there is none
    where ``rule`` requires one.
    """
    with refusing(model_name):
        for data_set in data_sets(place, rule, check):
            with quoting(data_set):
                for session in sessions:
                    _run(data_set, session, parameters)


def data_sets(place: GoldenPlace, rule: GoldenRule, check: Check) -> Iterator[DataSet]:
    """What is in ``place``, one after another. Raises DataSetRefused for what cannot be used, or is missing."""
    if rule == "off":
        return
    directories = data_set_directories(place.parents)
    if not directories and rule == "require":
        raise DataSetRefused("there is no directory test_data_set_0 beside it, and --golden-requests=require wants one")
    for directory in directories:
        yield read_data_set(directory, place.roots, check)


@contextmanager
def refusing(model_name: str) -> Iterator[None]:
    """Data sets that are refused refuse the model: raises InvalidArgument in their place."""
    try:
        yield
    except DataSetRefused as reason:
        raise InvalidArgument(f"the golden requests of model '{model_name}' refuse it: {reason}") from reason


@contextmanager
def quoting(data_set: DataSet) -> Iterator[None]:
    """Keeps what is in a data set that may not be shown out of the reason why it is refused."""
    try:
        yield
    except DataSetRefused:
        if data_set.may_be_shown:
            raise
        raise DataSetRefused(f"{data_set.name} does not fit, or has other answers; {NOT_SHOWN}") from None


def _run(data_set: DataSet, session: Session, parameters: Mapping[str, str]) -> None:
    inputs, expected = fitted(data_set, session.signature.inputs, session.signature.outputs)
    try:
        answers = session.run({name: given.array for name, given in inputs.items()}, list(expected))
    except OrtolanError as error:
        raise DataSetRefused(f"{data_set.name} fails: {error.message}") from error
    compare(data_set, expected, answers, parameters)
