"""The configuration of a model that cannot be served here, as far as its files say. Blocking."""

from dataclasses import replace

from ortolan.core.checked_files import checks_of, private_companions
from ortolan.core.model_loader import LoadingOptions, read_config, wanted_versions
from ortolan.core.private_model import take_privately
from ortolan.errors import InvalidArgument, OrtolanError
from ortolan.execution.devices import CPU_PROVIDER, Placement, Provider
from ortolan.execution.model_mending import open_session
from ortolan.execution.session_settings import SessionSettings
from ortolan.repository.config_completion import complete
from ortolan.repository.graph_signature import GraphSignature
from ortolan.repository.model_config import InstanceKind, ModelConfig
from ortolan.repository.model_directory import DEFAULT_MODEL_FILENAME, ModelEntry, model_file

_ANY_CPU = Placement("", InstanceKind.CPU, 0, (Provider(CPU_PROVIDER),))


def config_as_known(entry: ModelEntry, options: LoadingOptions) -> ModelConfig | None:
    """What the file says, completed from the graph where both can be read and agree; None where the file cannot be.

    Instance groups stay as they are in the file where this machine does not have their devices.
    """
    try:
        config = read_config(replace(entry, problem=""))
    except OrtolanError:
        return None
    if config.is_ensemble:
        return config
    try:
        return _completed(config, _graph(entry, config, options), options)
    except OrtolanError:
        return config


def _completed(config: ModelConfig, graph: GraphSignature, options: LoadingOptions) -> ModelConfig:
    """Raises InvalidArgument where file and graph do not agree."""
    try:
        return complete(config, graph, options.defaults)
    except InvalidArgument:
        elsewhere = complete(replace(config, instance_groups=()), graph, options.defaults)
        return replace(elsewhere, instance_groups=config.instance_groups)


def _graph(entry: ModelEntry, config: ModelConfig, options: LoadingOptions) -> GraphSignature:
    """What the newest version takes and gives, by a session on the CPU without settings of its own."""
    version = wanted_versions(entry, config)[max(wanted_versions(entry, config))]
    model = model_file(version, config.default_model_filename or DEFAULT_MODEL_FILENAME)
    rules = options.file_rules
    checks = checks_of(entry, config, version.directory, model, rules)
    with private_companions(entry, config, checks, rules.directories) as companions:
        private = take_privately(entry, model, checks, options.copies)
        try:
            settings = SessionSettings(custom_op_libraries=companions.libraries)
            return open_session(private.source, config.name, settings, _ANY_CPU, private.folder)[0].signature
        finally:
            private.remove()
