"""What a server is among others on the same ports; nothing where it is alone."""

from typing import TYPE_CHECKING, Protocol

from ortolan.core.whole_server import Processes

if TYPE_CHECKING:
    from ortolan.server import Server


class Membership(Protocol):
    """Tells a server when to begin, and the others that it has."""

    @property
    def number(self) -> int:
        """Among the processes, from 1 on; 0 for one that is alone."""

    @property
    def opens_late(self) -> bool:
        """Whether to listen only when everything is loaded that can be, because others answer meanwhile."""

    @property
    def processes(self) -> Processes | None:
        """All of them; None where there is one."""

    async def before_loads(self, server: "Server") -> None:
        """Return when models are to be loaded."""

    async def after_loads(self) -> None:
        """Models are loaded; return when requests are to be answered."""


class Alone:
    """The membership of a server without others."""

    number = 0
    opens_late = False
    processes = None

    async def before_loads(self, server: "Server") -> None: ...

    async def after_loads(self) -> None: ...
