"""Who asks for CUDA graphs, as options of providers; and what is refused beside them."""

import pytest

from ortolan.errors import InvalidArgument
from ortolan.execution.cuda_graphs import CUDA, TENSORRT, capturing, with_graphs
from ortolan.execution.devices import CPU_PROVIDER, Placement, Provider
from ortolan.execution.session_settings import SessionSettings
from ortolan.repository.model_config import InstanceKind, ModelConfig, Optimization

ASKED = ModelConfig("m", optimization=Optimization(cuda_graphs=True))
SILENT = ModelConfig("m")
CPU = Provider(CPU_PROVIDER)


def place(*providers: Provider) -> Placement:
    return Placement("m_0", InstanceKind.GPU, 0, (*providers, CPU))


@pytest.mark.parametrize(
    ("config", "settings", "providers", "expected"),
    [
        (SILENT, {}, [Provider(CUDA)], [{}]),
        (ASKED, {}, [Provider(CUDA, {"device_id": "0"})], [{"device_id": "0", "enable_cuda_graph": "1"}]),
        (ASKED, {}, [Provider(CUDA, {"enable_cuda_graph": "0"})], [{"enable_cuda_graph": "0"}]),  # its own word
        (SILENT, {"enable_cuda_graph": "1"}, [Provider(CUDA)], [{"enable_cuda_graph": "1"}]),
        (SILENT, {"enable_cuda_graph": "0"}, [Provider(CUDA)], [{}]),
        # Only one provider captures: the one that comes first.
        (ASKED, {}, [Provider(TENSORRT), Provider(CUDA)], [{"trt_cuda_graph_enable": "True"}, {}]),
        (
            SILENT,
            {"enable_cuda_graph": "1"},
            [Provider(TENSORRT), Provider(CUDA, {"enable_cuda_graph": "1"})],
            [{"trt_cuda_graph_enable": "True"}, {}],
        ),
        (ASKED, {}, [Provider("MIGraphXExecutionProvider")], [{}]),
        (ASKED, {}, [], []),
    ],
)
def test_graphs_become_the_first_providers_option(
    config: ModelConfig, settings: dict[str, str], providers: list[Provider], expected: list[dict[str, str]]
) -> None:
    (found,) = with_graphs(config, SessionSettings(provider_options=settings), [place(*providers)])
    assert [dict(each.options) for each in found.providers[:-1]] == expected


@pytest.mark.parametrize(
    ("providers", "expected"),
    [
        ([Provider(CUDA)], ""),
        ([Provider(CUDA, {"enable_cuda_graph": "0"})], ""),
        ([Provider(CUDA, {"enable_cuda_graph": "1"})], CUDA),
        ([Provider(TENSORRT, {"trt_cuda_graph_enable": "True"}), Provider(CUDA)], TENSORRT),
        ([Provider(TENSORRT), Provider(CUDA, {"enable_cuda_graph": "1"})], CUDA),
        ([], ""),
    ],
)
def test_which_provider_captures_is_told_by_its_options(providers: list[Provider], expected: str) -> None:
    assert capturing(place(*providers).providers) == expected


@pytest.mark.parametrize(("arenas", "refused"), [("gpu:0", True), ("cpu:0;gpu:0", True), ("cpu:0", False), ("", False)])
def test_an_arena_that_graphs_use_is_not_shrunk_after_each_run(arenas: str, refused: bool) -> None:
    settings = SessionSettings(arena_shrinkage=arenas)
    if refused:
        with pytest.raises(InvalidArgument, match="model 'm' asks for CUDA graphs, and by memory"):
            with_graphs(ASKED, settings, [place(Provider(CUDA))])
    else:
        with_graphs(ASKED, settings, [place(Provider(CUDA))])
    with_graphs(SILENT, settings, [place(Provider(CUDA))])
