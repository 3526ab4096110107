// One session of ONNX Runtime: its inputs and outputs, and runs over buffers that others own.

#pragma once

#include <array>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "onnxruntime_interface.h"

using Shape = std::vector<int64_t>;

class OnnxRuntime {
 public:
  OnnxRuntime() : api(*OrtGetApiBase()->GetApi(ORT_VERSION_ASKED_FOR)) {
    check(api.CreateEnv(ORT_WARNINGS, "triton", &env));
    check(api.CreateCpuMemoryInfo(ORT_DEVICE_ALLOCATOR, ORT_DEFAULT_MEMORY, &memory));
  }
  OnnxRuntime(const OnnxRuntime&) = delete;
  ~OnnxRuntime() {
    api.ReleaseMemoryInfo(memory);
    api.ReleaseEnv(env);
  }

  void check(OrtStatus* status) const {
    if (status == nullptr) return;
    const std::string message = api.GetErrorMessage(status);
    api.ReleaseStatus(status);
    throw std::runtime_error("onnxruntime: " + message);
  }

  const OrtApi& api;
  OrtEnv* env = nullptr;
  OrtMemoryInfo* memory = nullptr;
};

// An element type as ONNX Runtime and as Triton number it.
inline int triton_type(int onnx_type) {
  constexpr std::array<int, 14> TYPES = {0, 11, 2, 6, 3, 7, 8, 9, 0, 1, 10, 12, 4, 5};
  const int found = onnx_type >= 0 && onnx_type < static_cast<int>(TYPES.size()) ? TYPES[onnx_type] : 0;
  if (found == 0) throw std::runtime_error("element type " + std::to_string(onnx_type) + " is not supported");
  return found;
}

struct TensorKind {
  std::string name;
  int onnx_type;
  Shape shape;  // -1 for what varies
};

class Value {
 public:
  explicit Value(const OrtApi& api, OrtValue* taken = nullptr) : value(taken), api_(&api) {}
  Value(Value&& other) noexcept : value(std::exchange(other.value, nullptr)), api_(other.api_) {}
  ~Value() {
    if (value != nullptr) api_->ReleaseValue(value);
  }

  OrtValue* value;

 private:
  const OrtApi* api_;
};

class OrtModel {
 public:
  OrtModel(const OnnxRuntime& runtime, const std::string& file, int threads) : runtime_(runtime) {
    OrtSessionOptions* options = nullptr;
    runtime.check(api().CreateSessionOptions(&options));
    const std::unique_ptr<OrtSessionOptions, void (*)(OrtSessionOptions*)> kept(options, api().ReleaseSessionOptions);
    runtime.check(api().SetIntraOpNumThreads(options, threads));
    runtime.check(api().CreateSession(runtime.env, file.c_str(), options, &session_));
    inputs = kinds(api().SessionGetInputCount, api().SessionGetInputName, api().SessionGetInputTypeInfo);
    outputs = kinds(api().SessionGetOutputCount, api().SessionGetOutputName, api().SessionGetOutputTypeInfo);
    for (const TensorKind& input : inputs) input_names_.push_back(input.name.c_str());
    for (const TensorKind& output : outputs) output_names_.push_back(output.name.c_str());
  }
  OrtModel(const OrtModel&) = delete;
  ~OrtModel() {
    if (session_ != nullptr) api().ReleaseSession(session_);
  }

  Value over(void* data, size_t size_bytes, const Shape& shape, int onnx_type) const {
    Value made(api());
    runtime_.check(api().CreateTensorWithDataAsOrtValue(runtime_.memory, data, size_bytes, shape.data(), shape.size(),
                                                        onnx_type, &made.value));
    return made;
  }

  // Outputs that are null on entry are allocated by ONNX Runtime.
  void run(const std::vector<OrtValue*>& given, std::vector<OrtValue*>& found) const {
    runtime_.check(api().Run(session_, nullptr, input_names_.data(), given.data(), given.size(), output_names_.data(),
                             found.size(), found.data()));
  }

  void* data(OrtValue* value) const {
    void* data = nullptr;
    runtime_.check(api().GetTensorMutableData(value, &data));
    return data;
  }

  Shape shape(const OrtValue* value) const {
    OrtTensorTypeAndShapeInfo* info = nullptr;
    runtime_.check(api().GetTensorTypeAndShape(value, &info));
    const std::unique_ptr<OrtTensorTypeAndShapeInfo, void (*)(OrtTensorTypeAndShapeInfo*)> kept(
        info, api().ReleaseTensorTypeAndShapeInfo);
    return shape_in(info);
  }

  const OrtApi& api() const { return runtime_.api; }

  std::vector<TensorKind> inputs;
  std::vector<TensorKind> outputs;

 private:
  template <typename Count, typename Name, typename Type>
  std::vector<TensorKind> kinds(Count count_of, Name name_of, Type type_of) const {
    size_t count = 0;
    OrtAllocator* allocator = nullptr;
    runtime_.check(count_of(session_, &count));
    runtime_.check(api().GetAllocatorWithDefaultOptions(&allocator));
    std::vector<TensorKind> found;
    for (size_t index = 0; index < count; ++index) {
      char* name = nullptr;
      OrtTypeInfo* type = nullptr;
      runtime_.check(name_of(session_, index, allocator, &name));
      const std::string named = name;
      runtime_.check(api().AllocatorFree(allocator, name));
      runtime_.check(type_of(session_, index, &type));
      const std::unique_ptr<OrtTypeInfo, void (*)(OrtTypeInfo*)> kept(type, api().ReleaseTypeInfo);
      found.push_back(kind(named, type));
    }
    return found;
  }

  TensorKind kind(const std::string& name, const OrtTypeInfo* type) const {
    const OrtTensorTypeAndShapeInfo* info = nullptr;
    runtime_.check(api().CastTypeInfoToTensorInfo(type, &info));
    if (info == nullptr) throw std::runtime_error("'" + name + "' is no tensor, and only tensors are supported");
    int onnx_type = 0;
    runtime_.check(api().GetTensorElementType(info, &onnx_type));
    triton_type(onnx_type);
    return {name, onnx_type, shape_in(info)};
  }

  Shape shape_in(const OrtTensorTypeAndShapeInfo* info) const {
    size_t rank = 0;
    runtime_.check(api().GetDimensionsCount(info, &rank));
    Shape shape(rank);
    runtime_.check(api().GetDimensions(info, shape.data(), rank));
    return shape;
  }

  const OnnxRuntime& runtime_;
  OrtSession* session_ = nullptr;
  std::vector<const char*> input_names_;
  std::vector<const char*> output_names_;
};
