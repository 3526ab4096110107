"""Operators of a model's own: a shared library against ONNX Runtime's C interface, built here and loaded for real.

The library declares the few parts of the interface that it uses. Their order never changes, so no
header of ONNX Runtime is needed, which its wheel does not have.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx_models
import pytest
from onnx import TensorProto, helper

from ortolan.core.model_loader import LoadingOptions, load_version, read_config, wanted_versions
from ortolan.core.model_version import LoadedModel
from ortolan.errors import InvalidArgument
from ortolan.execution.device_share import DeviceShares
from ortolan.execution.devices import DeviceInventory
from ortolan.repository.directory import walk

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None, reason="needs a C compiler that makes .so files"
)

TRIPLE = """
#include <stddef.h>
#include <stdint.h>
typedef void *status;  /* NULL is success. */
typedef struct { const void *const *(*functions)(uint32_t version); const char *(*version)(void); } base;
enum { CREATE_DOMAIN = 26, ADD_TO_DOMAIN = 27, ADD_DOMAIN = 28, DATA = 51, COUNT = 64, SHAPE_INFO = 65, RANK = 61,
       DIMS = 62, INPUT = 90, OUTPUT = 91, RELEASE_SHAPE_INFO = 99 };
#define CALL(index, result, ...) ((result (*)(__VA_ARGS__))ort[index])
static const void *const *ort;

static void *create(const void *op, const void *api, const void *info) { return (void *)op; }
static const char *name(const void *op) { return "Triple"; }
static const char *provider(const void *op) { return NULL; }
static int float_type(const void *op, size_t index) { return 1; }
static size_t one(const void *op) { return 1; }
static int required(const void *op, size_t index) { return 0; }
static void destroy(void *kernel) {}
static void compute(void *kernel, void *context) {
    const void *input; void *info, *output; size_t rank, count; int64_t dims[8]; const float *x; float *y;
    CALL(INPUT, status, const void *, size_t, const void **)(context, 0, &input);
    CALL(SHAPE_INFO, status, const void *, void **)(input, &info);
    CALL(RANK, status, const void *, size_t *)(info, &rank);
    CALL(DIMS, status, const void *, int64_t *, size_t)(info, dims, rank);
    CALL(COUNT, status, const void *, size_t *)(info, &count);
    CALL(RELEASE_SHAPE_INFO, void, void *)(info);
    CALL(OUTPUT, status, void *, size_t, const int64_t *, size_t, void **)(context, 0, dims, rank, &output);
    CALL(DATA, status, void *, void **)((void *)input, (void **)&x);
    CALL(DATA, status, void *, void **)(output, (void **)&y);
    for (size_t i = 0; i < count; i++) y[i] = 3 * x[i];
}
static const struct {
    uint32_t version;
    void *(*create)(const void *, const void *, const void *);
    const char *(*name)(const void *), *(*provider)(const void *);
    int (*input_type)(const void *, size_t); size_t (*inputs)(const void *);
    int (*output_type)(const void *, size_t); size_t (*outputs)(const void *);
    void (*compute)(void *, void *), (*destroy)(void *);
    int (*input_kind)(const void *, size_t), (*output_kind)(const void *, size_t);
} triple = {8, create, name, provider, float_type, one, float_type, one, compute, destroy, required, required};

status RegisterCustomOps(void *options, const base *api) {
    void *domain;
    ort = api->functions(8);
    status failed = CALL(CREATE_DOMAIN, status, const char *, void **)("ortolan.test", &domain);
    if (!failed) failed = CALL(ADD_TO_DOMAIN, status, void *, const void *)(domain, &triple);
    return failed ? failed : CALL(ADD_DOMAIN, status, void *, void *)(options, domain);
}
"""


def built(directory: Path, source: str) -> Path:
    """The shared library of ``source``."""
    library = directory / "libops.so"
    command = ["cc", "-shared", "-fPIC", "-O1", "-w", "-x", "c", "-", "-o", str(library)]
    subprocess.run(command, input=source.encode(), check=True, timeout=60)
    return library


def loaded(repository: Path, library: str) -> LoadedModel:
    """The model whose only node is the operator, loaded with ``library``."""
    shape = (TensorProto.FLOAT, ["batch", 4])
    node = helper.make_node("Triple", ["x"], ["y"], domain="ortolan.test")
    proto = onnx_models.model([node], [("x", *shape)], [("y", *shape)])
    proto.opset_import.append(helper.make_opsetid("ortolan.test", 1))
    config = f'model_operations {{ op_library_filename: "{library}" }}' if library else ""
    onnx_models.save_version(repository, "m", proto, config=config)
    entry = walk([repository]).models["m"]
    parsed = read_config(entry)
    (version,) = wanted_versions(entry, parsed).values()
    return load_version(entry, parsed, version, LoadingOptions(DeviceInventory(cores=1), DeviceShares(1)))


def test_an_operator_of_a_models_own_library_computes(tmp_path: Path) -> None:
    model = loaded(tmp_path / "repository", str(built(tmp_path, TRIPLE)))
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    (y,) = model.instances[0][1].run({"x": x}, ["y"])
    np.testing.assert_array_equal(y, 3 * x)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("int nothing;", "RegisterCustomOps"),
        ("not C at all", "libops.so' "),
        (None, "libops.so' "),
    ],
)
def test_a_library_that_is_none_is_named_without_its_path(tmp_path: Path, source: str | None, said: str) -> None:
    library = tmp_path / "libops.so"
    if source == "not C at all":
        library.write_text(source)
    elif source is not None:
        built(tmp_path, source)
    with pytest.raises(InvalidArgument) as refused:
        loaded(tmp_path / "repository", str(library))
    assert "model 'm'" in refused.value.message
    assert said in refused.value.message
    assert str(tmp_path) not in refused.value.message


def test_a_model_without_its_library_says_which_operator_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument) as refused:
        loaded(tmp_path / "repository", "")
    assert "Triple" in refused.value.message
    assert 'model_operations { op_library_filename: "PATH" }' in refused.value.message


def test_a_model_whose_library_lacks_its_operator_says_so(tmp_path: Path) -> None:
    other = TRIPLE.replace('"Triple"', '"Double"')
    with pytest.raises(InvalidArgument, match=r"Triple.* is not in 'libops\.so' either, which the model names"):
        loaded(tmp_path / "repository", str(built(tmp_path, other)))


@pytest.mark.parametrize(
    ("library", "said"),
    [
        ("libnone.so", "'libnone.so' is not there, .*LD_LIBRARY_PATH"),
        ("ops/libnone.so", "'ops/libnone.so' is not there, .*the directory that the server was started in"),
        (
            "/nowhere/libnone.so",
            "'libnone.so' is not there, where model_operations in .* says that it is: put it there",
        ),
    ],
)
def test_a_library_that_is_not_there_says_where_it_must_be(tmp_path: Path, library: str, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said) as refused:
        loaded(tmp_path, library)
    assert "/nowhere" not in refused.value.message
