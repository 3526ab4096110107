"""Sessions that write a compiled model, and sessions of one."""

from dataclasses import replace
from pathlib import Path

from ortolan.execution.compiled_entry import WEIGHTS, CompiledModel
from ortolan.execution.devices import Placement
from ortolan.execution.session import Session
from ortolan.execution.session_settings import SessionSettings

_NO_OPTIMISATION = 2


def writing(settings: SessionSettings, target: Path) -> SessionSettings:
    """``settings`` for a session that writes ``target`` while it loads, its weights as the processor wants them."""
    entries = {
        "session.save_external_prepacked_constant_initializers": "1",
        "session.optimized_model_external_initializers_file_name": WEIGHTS,
    }
    return replace(settings, optimised_model_file=str(target), config_entries={**settings.config_entries, **entries})


def open_compiled(model: CompiledModel, name: str, settings: SessionSettings, placement: Placement) -> Session:
    """A session of ``model``, which was written for ``settings``. Raises InvalidArgument when it does not load."""
    # It is what the optimisers made of the model; a second time they might make something else of it.
    as_it_is = replace(settings, graph_level=_NO_OPTIMISATION)
    return Session(model.path, name, as_it_is, placement, model.path.parent)
