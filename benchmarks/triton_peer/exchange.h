// One request that Triton hands over, and the response that it is given.

#pragma once

#include <chrono>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

#include "ort_session.h"
#include "triton_interface.h"

inline void check(TRITONSERVER_Error* error) {
  if (error == nullptr) return;
  const std::string message = TRITONSERVER_ErrorMessage(error);
  TRITONSERVER_ErrorDelete(error);
  throw std::runtime_error(message);
}

inline void log_if(TRITONSERVER_Error* error) {
  if (error == nullptr) return;
  TRITONSERVER_LogMessage(TRITONSERVER_LOG_ERROR, __FILE__, __LINE__, TRITONSERVER_ErrorMessage(error));
  TRITONSERVER_ErrorDelete(error);
}

inline uint64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

struct Times {
  uint64_t begin_ns = now_ns();
  uint64_t compute_ns = begin_ns;
  uint64_t computed_ns = begin_ns;
  uint64_t end_ns = begin_ns;
};

// One request on its way through the backend, and what it is answered.
struct Exchange {
  explicit Exchange(TRITONBACKEND_Request* asked) : request(asked) {
    error = TRITONBACKEND_ResponseNew(&response, request);
  }

  void fail(const std::string& message) {
    if (error == nullptr) error = TRITONSERVER_ErrorNew(TRITONSERVER_ERROR_INTERNAL, message.c_str());
  }

  bool wants(const std::string& output) const {
    uint32_t count = 0;
    check(TRITONBACKEND_RequestOutputCount(request, &count));
    for (uint32_t index = 0; index < count; ++index) {
      const char* name = nullptr;
      check(TRITONBACKEND_RequestOutputName(request, index, &name));
      if (output == name) return true;
    }
    return false;
  }

  // Where Triton wants an output of this request; it writes the answer from there.
  void* output(const TensorKind& kind, const Shape& shape, size_t size_bytes) {
    TRITONBACKEND_Output* made = nullptr;
    check(TRITONBACKEND_ResponseOutput(response, &made, kind.name.c_str(), triton_type(kind.onnx_type), shape.data(),
                                       static_cast<uint32_t>(shape.size())));
    void* data = nullptr;
    TRITONSERVER_memorytype_enum memory = TRITONSERVER_MEMORY_CPU;
    int64_t device = 0;
    check(TRITONBACKEND_OutputBuffer(made, &data, size_bytes, &memory, &device));
    if (memory == TRITONSERVER_MEMORY_GPU) throw std::runtime_error("outputs on a GPU are not supported");
    return data;
  }

  void answer(TRITONBACKEND_ModelInstance* instance, const Times& times) {
    const bool success = error == nullptr;
    if (response != nullptr) {
      log_if(TRITONBACKEND_ResponseSend(response, TRITON_RESPONSE_FINAL, error));
    }
    log_if(TRITONBACKEND_ModelInstanceReportStatistics(instance, request, success, times.begin_ns, times.compute_ns,
                                                       times.computed_ns, times.end_ns));
    if (error != nullptr) TRITONSERVER_ErrorDelete(error);
    log_if(TRITONBACKEND_RequestRelease(request, TRITON_RELEASE_ALL));
  }

  TRITONBACKEND_Request* request;
  TRITONBACKEND_Response* response = nullptr;
  TRITONSERVER_Error* error = nullptr;
  int64_t rows = 1;
};

// An input of one request, as Triton holds it.
struct GivenInput {
  GivenInput(TRITONBACKEND_Request* request, const std::string& name) {
    check(TRITONBACKEND_RequestInput(request, name.c_str(), &input));
    check(TRITONBACKEND_InputProperties(input, nullptr, &type, &shape, &rank, &size_bytes, &buffers));
  }

  std::pair<const void*, size_t> buffer(uint32_t index) const {
    const void* data = nullptr;
    uint64_t size = 0;
    TRITONSERVER_memorytype_enum memory = TRITONSERVER_MEMORY_CPU;
    int64_t device = 0;
    check(TRITONBACKEND_InputBuffer(input, index, &data, &size, &memory, &device));
    if (memory == TRITONSERVER_MEMORY_GPU) throw std::runtime_error("inputs on a GPU are not supported");
    return {data, size};
  }

  char* copied_to(char* place) const {
    for (uint32_t index = 0; index < buffers; ++index) {
      const auto [data, size] = buffer(index);
      std::memcpy(place, data, size);
      place += size;
    }
    return place;
  }

  TRITONBACKEND_Input* input = nullptr;
  int type = 0;
  const int64_t* shape = nullptr;
  uint32_t rank = 0;
  uint64_t size_bytes = 0;
  uint32_t buffers = 0;
};
