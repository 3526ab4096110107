"""What a process that compiles a model is told: as data, and as a line of text."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ortolan.execution.session_settings import SessionSettings
from ortolan.repository import config_file, config_rendering
from ortolan.repository.config_completion import CompletionDefaults
from ortolan.repository.model_config import ModelConfig


@dataclass(frozen=True, slots=True)
class CompileJob:
    """``model`` is to be compiled into ``folder``. Both are private to the server."""

    model: Path
    folder: Path
    key_text: str
    config: ModelConfig
    """As the model's file has it, with its instance groups."""
    directory: Path
    """The model's, in which its warm-up samples are."""
    settings: SessionSettings
    defaults: CompletionDefaults

    def to_line(self) -> str:
        plain = {
            "model": str(self.model),
            "folder": str(self.folder),
            "key": self.key_text,
            "name": self.config.name,
            "config": json.dumps(config_rendering.to_json(self.config)),
            "directory": str(self.directory),
            "settings": asdict(self.settings),
            "defaults": asdict(self.defaults),
        }
        return json.dumps(plain) + "\n"

    @staticmethod
    def from_line(line: str) -> "CompileJob":
        """Raises InvalidArgument for a configuration that its own server did not understand."""
        plain = json.loads(line)
        return CompileJob(
            model=Path(plain["model"]),
            folder=Path(plain["folder"]),
            key_text=plain["key"],
            config=config_file.parse_json(plain["config"], plain["name"]),
            directory=Path(plain["directory"]),
            settings=SessionSettings(**_with_tuples(plain["settings"])),
            defaults=CompletionDefaults(**_with_tuples(plain["defaults"])),
        )


def _with_tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
