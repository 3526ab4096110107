"""Compiling one model: the session's graph and weights are written, read back, and tried against the original."""

import errno
import os

from ortolan.errors import OrtolanError
from ortolan.execution.compiled_check import answers, trials
from ortolan.execution.compiled_entry import MODEL, WEIGHTS, CompiledModel, size_bytes, write_model, write_refusal
from ortolan.execution.compiled_job import CompileJob
from ortolan.execution.compiled_layout import NotMovable, align_weights
from ortolan.execution.compiled_session import open_compiled, writing
from ortolan.execution.compiled_store import free_bytes
from ortolan.execution.devices import CPU_PROVIDER, Placement, Provider
from ortolan.execution.model_mending import open_session
from ortolan.execution.sequence_plan import with_own_inputs
from ortolan.execution.session import Session
from ortolan.execution.session_settings import SessionSettings
from ortolan.execution.warm_up import Inputs
from ortolan.repository import config_completion
from ortolan.repository.graph_signature import GraphSignature
from ortolan.repository.model_config import InstanceKind

SURVIVED = "survived"
"""A file that says that the model as it is was loaded and run, so that a crash after it is of the compiled one."""

_PLACE = Placement("compiler", InstanceKind.CPU, 0, (Provider(CPU_PROVIDER),))


class NotCompilable(Exception):
    """There is to be no compiled model: why, as the end of a sentence."""


def make(job: CompileJob) -> None:
    """Write the compiled model, or why there is none, into the job's folder.

    Raises OrtolanError when the model cannot be loaded at all, OSError when nothing can be written.
    """
    try:
        mendings, signature, inputs, expected = _tried(job)
        (job.folder / SURVIVED).touch()
        model = _written(job, mendings)
        _compare(job, model, signature, inputs, expected)
    except NotCompilable as reason:
        write_refusal(job.folder, job.key_text, str(reason))
    else:
        write_model(job.folder, job.key_text, mendings)


def _tried(job: CompileJob) -> tuple[tuple[str, ...], GraphSignature, list[Inputs], list[str]]:
    """The model as it is: what was mended, its tensors, what it was tried with and the answers."""
    session, mendings = open_session(job.model, job.config.name, job.settings, _PLACE, job.model.parent)
    completed = config_completion.complete(job.config, session.signature, job.defaults)
    inputs = trials(with_own_inputs(completed), job.directory)
    expected = answers(session, inputs)
    if not any(expected):
        raise NotCompilable("it takes none of the made-up inputs that it was tried with; give it model_warmup samples")
    if answers(session, inputs) != expected:
        raise NotCompilable("its answers to the same inputs differ from run to run")
    return mendings, session.signature, inputs, expected


def _written(job: CompileJob, mendings: tuple[str, ...]) -> CompiledModel:
    target = job.folder / MODEL
    settings: SessionSettings = writing(job.settings, target)
    try:
        open_session(job.model, job.config.name, settings, _PLACE, job.model.parent)
    except OrtolanError as error:
        _require_room(job)
        raise NotCompilable(f"ONNX Runtime cannot write it: {error.message}") from error
    try:
        align_weights(target, job.folder / WEIGHTS)
    except (NotMovable, ImportError) as error:
        raise NotCompilable(f"ONNX Runtime wrote what cannot be aligned: {error}") from error
    return CompiledModel(target, mendings)


def _require_room(job: CompileJob) -> None:
    """Raises OSError where others may have filled the disk meanwhile, which says nothing about the model."""
    if free_bytes(job.folder) < size_bytes(job.model.parent):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _compare(
    job: CompileJob, model: CompiledModel, signature: GraphSignature, inputs: list[Inputs], expected: list[str]
) -> None:
    try:
        session: Session = open_compiled(model, job.config.name, job.settings, _PLACE)
    except OrtolanError as error:
        raise NotCompilable(f"ONNX Runtime does not load what it wrote: {error.message}") from error
    if session.signature != signature:
        raise NotCompilable("what ONNX Runtime wrote has other inputs or outputs")
    if answers(session, inputs) != expected:
        raise NotCompilable("what ONNX Runtime wrote gives other answers")
