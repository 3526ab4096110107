"""Every overlay and component of k8s/, as a cluster gets it."""

import pytest
from kustomize import Manifest, Rendered, found


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    """What is sent for ``base``, for an overlay, or for the overlay ``cpu`` with components: once for each name."""
    program = found()
    if isinstance(program, str):
        pytest.skip(program)
    done: dict[str, list[Manifest]] = {}

    def render(name: str) -> list[Manifest]:
        if name not in done:
            done[name] = program.rendered_by_name(name, tmp_path_factory.mktemp("overlay"))
        return done[name]

    return render
