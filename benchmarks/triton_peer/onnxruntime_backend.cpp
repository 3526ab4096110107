// A backend of Triton over ONNX Runtime's C interface for the CPU, with as little between the two as can be.

#include <memory>
#include <string>

#include "instance.h"

#define EXPORTED extern "C" __attribute__((visibility("default")))

namespace {

template <typename Work>
TRITONSERVER_Error* guarded(Work work) {
  try {
    work();
    return nullptr;
  } catch (const std::exception& error) {
    return TRITONSERVER_ErrorNew(TRITONSERVER_ERROR_INTERNAL, error.what());
  }
}

ModelSettings settings_of(TRITONBACKEND_Model* model) {
  TRITONSERVER_Message* message = nullptr;
  check(TRITONBACKEND_ModelConfig(model, 1, &message));
  const std::unique_ptr<TRITONSERVER_Message, void (*)(TRITONSERVER_Message*)> kept(
      message, [](TRITONSERVER_Message* each) { log_if(TRITONSERVER_MessageDelete(each)); });
  const char* text = nullptr;
  size_t size_bytes = 0;
  check(TRITONSERVER_MessageSerializeToJson(message, &text, &size_bytes));
  return ModelSettings::from({text, size_bytes});
}

std::string file_of(TRITONBACKEND_Model* model, const ModelSettings& settings) {
  int artifact_type = 0;
  const char* directory = nullptr;
  uint64_t version = 0;
  check(TRITONBACKEND_ModelRepository(model, &artifact_type, &directory));
  check(TRITONBACKEND_ModelVersion(model, &version));
  return std::string(directory) + "/" + std::to_string(version) + "/" + settings.file;
}

const OnnxRuntime& runtime_of(TRITONBACKEND_Model* model) {
  TRITONBACKEND_Backend* backend = nullptr;
  void* state = nullptr;
  check(TRITONBACKEND_ModelBackend(model, &backend));
  check(TRITONBACKEND_BackendState(backend, &state));
  return *static_cast<OnnxRuntime*>(state);
}

}  // namespace

EXPORTED TRITONSERVER_Error* TRITONBACKEND_Initialize(TRITONBACKEND_Backend* backend) {
  return guarded([&] {
    uint32_t major = 0;
    uint32_t minor = 0;
    check(TRITONBACKEND_ApiVersion(&major, &minor));
    if (major != TRITONBACKEND_MAJOR) throw std::runtime_error("Triton has another major version of its interface");
    auto runtime = std::make_unique<OnnxRuntime>();
    check(TRITONBACKEND_BackendSetState(backend, runtime.get()));
    runtime.release();
  });
}

EXPORTED TRITONSERVER_Error* TRITONBACKEND_Finalize(TRITONBACKEND_Backend* backend) {
  return guarded([&] {
    void* state = nullptr;
    check(TRITONBACKEND_BackendState(backend, &state));
    delete static_cast<OnnxRuntime*>(state);
  });
}

EXPORTED TRITONSERVER_Error* TRITONBACKEND_ModelInstanceInitialize(TRITONBACKEND_ModelInstance* triton) {
  return guarded([&] {
    TRITONBACKEND_Model* model = nullptr;
    check(TRITONBACKEND_ModelInstanceModel(triton, &model));
    const ModelSettings settings = settings_of(model);
    auto instance = std::make_unique<Instance>(triton, runtime_of(model), file_of(model, settings), settings);
    check(TRITONBACKEND_ModelInstanceSetState(triton, instance.get()));
    instance.release();
  });
}

EXPORTED TRITONSERVER_Error* TRITONBACKEND_ModelInstanceFinalize(TRITONBACKEND_ModelInstance* triton) {
  return guarded([&] {
    void* state = nullptr;
    check(TRITONBACKEND_ModelInstanceState(triton, &state));
    delete static_cast<Instance*>(state);
  });
}

// Takes the requests over in any case: what fails is told to those who asked.
EXPORTED TRITONSERVER_Error* TRITONBACKEND_ModelInstanceExecute(TRITONBACKEND_ModelInstance* triton,
                                                                TRITONBACKEND_Request** requests, uint32_t count) {
  return guarded([&] {
    void* state = nullptr;
    check(TRITONBACKEND_ModelInstanceState(triton, &state));
    static_cast<Instance*>(state)->execute(requests, count);
  });
}
