// An instance of a model: one session, and the batches that Triton has it run.
//
// A lone request is run over Triton's own buffers: its input's if it lies in one piece, and, where the shape is known
// before the run, its output's. Several requests that Triton's batcher gives together are put one behind the other in
// buffers that the instance keeps, run as one batch, and their rows handed out.

#pragma once

#include <cstdlib>
#include <functional>
#include <memory>
#include <new>
#include <numeric>
#include <string>
#include <vector>

#include "exchange.h"
#include "model_settings.h"

inline size_t elements(const Shape& shape) {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

// Memory that grows and is kept, so that a batch costs no allocation.
class Buffer {
 public:
  char* of(size_t size_bytes) {
    if (size_bytes > size_bytes_ || !memory_) {
      size_bytes_ = (size_bytes / ALIGNED + 1) * ALIGNED;
      memory_.reset(static_cast<char*>(std::aligned_alloc(ALIGNED, size_bytes_)));
      if (!memory_) throw std::bad_alloc();
    }
    return memory_.get();
  }

 private:
  static constexpr size_t ALIGNED = 64;
  size_t size_bytes_ = 0;
  std::unique_ptr<char, void (*)(void*)> memory_{nullptr, std::free};
};

class Instance {
 public:
  Instance(TRITONBACKEND_ModelInstance* triton, const OnnxRuntime& runtime, const std::string& file,
           const ModelSettings& settings)
      : triton_(triton),
        model_(runtime, file, settings.threads),
        batches_(settings.max_batch_size > 0),
        input_buffers_(model_.inputs.size()),
        output_buffers_(model_.outputs.size()) {}

  void execute(TRITONBACKEND_Request** requests, uint32_t count) {
    const uint32_t together = batches_ ? count : 1;
    for (uint32_t begin = 0; begin < count; begin += together) execute_batch(requests + begin, together);
  }

 private:
  void execute_batch(TRITONBACKEND_Request** requests, uint32_t count) {
    Times times;
    exchanges_.clear();
    for (uint32_t index = 0; index < count; ++index) exchanges_.emplace_back(requests[index]);
    try {
      run(times);
    } catch (const std::exception& error) {
      for (Exchange& each : exchanges_) each.fail(error.what());
    }
    times.end_ns = now_ns();
    for (Exchange& each : exchanges_) each.answer(triton_, times);
    log_if(TRITONBACKEND_ModelInstanceReportBatchStatistics(triton_, total_rows(), times.begin_ns, times.compute_ns,
                                                            times.computed_ns, times.end_ns));
  }

  void run(Times& times) {
    for (const Exchange& each : exchanges_)
      if (each.error != nullptr) throw std::runtime_error("Triton has no response for a request of the batch");
    std::vector<Value> kept;
    kept.reserve(model_.inputs.size() + model_.outputs.size());
    given_.clear();
    for (size_t index = 0; index < model_.inputs.size(); ++index) {
      kept.push_back(input(index));
      given_.push_back(kept.back().value);
    }
    found_.assign(model_.outputs.size(), nullptr);
    placed_.assign(model_.outputs.size(), false);
    for (size_t index = 0; index < model_.outputs.size(); ++index) place_output(index, kept);
    times.compute_ns = now_ns();
    model_.run(given_, found_);
    times.computed_ns = now_ns();
    // Those that ONNX Runtime allocated are ours to release; those of buffers are in kept already.
    for (OrtValue* each : found_)
      if (!owned_by(kept, each)) kept.emplace_back(model_.api(), each);
    for (size_t index = 0; index < model_.outputs.size(); ++index)
      if (!placed_[index]) hand_out(index);
  }

  Value input(size_t index) {
    const TensorKind& kind = model_.inputs[index];
    given_inputs_.clear();
    size_t size_bytes = 0;
    for (Exchange& each : exchanges_) {
      const GivenInput& given = given_inputs_.emplace_back(each.request, kind.name);
      if (given.type != triton_type(kind.onnx_type)) throw std::runtime_error("'" + kind.name + "' has another type");
      size_bytes += given.size_bytes;
      if (batches_ && index == 0) each.rows = given.rank > 0 ? given.shape[0] : 1;
    }
    const GivenInput& first = given_inputs_.front();
    Shape shape(first.shape, first.shape + first.rank);
    if (batches_ && !shape.empty()) shape[0] = total_rows();
    if (elements(shape) * TRITONSERVER_DataTypeByteSize(first.type) != size_bytes)
      throw std::runtime_error("'" + kind.name + "' has not as many bytes as its shape has");
    if (given_inputs_.size() == 1 && first.buffers == 1) {
      return model_.over(const_cast<void*>(first.buffer(0).first), size_bytes, shape, kind.onnx_type);
    }
    char* gathered = input_buffers_[index].of(size_bytes);
    char* place = gathered;
    for (const GivenInput& each : given_inputs_) place = each.copied_to(place);
    return model_.over(gathered, size_bytes, shape, kind.onnx_type);
  }

  // Where the shape is known before the run, ONNX Runtime writes where we say: to the only request's own buffer.
  void place_output(size_t index, std::vector<Value>& kept) {
    const TensorKind& kind = model_.outputs[index];
    Shape shape = kind.shape;
    if (!batches_ || shape.empty() || shape[0] >= 0) return;
    shape[0] = total_rows();
    for (const int64_t each : shape)
      if (each < 0) return;
    const size_t size_bytes = elements(shape) * TRITONSERVER_DataTypeByteSize(triton_type(kind.onnx_type));
    void* place = nullptr;
    if (exchanges_.size() > 1) {
      place = output_buffers_[index].of(size_bytes);
    } else if (exchanges_.front().wants(kind.name)) {
      place = exchanges_.front().output(kind, shape, size_bytes);
      placed_[index] = true;
    } else {
      return;
    }
    kept.push_back(model_.over(place, size_bytes, shape, kind.onnx_type));
    found_[index] = kept.back().value;
  }

  void hand_out(size_t index) {
    const TensorKind& kind = model_.outputs[index];
    Shape shape = model_.shape(found_[index]);
    const char* data = static_cast<const char*>(model_.data(found_[index]));
    const int64_t rows = total_rows();
    if (batches_ && (shape.empty() || shape[0] != rows))
      throw std::runtime_error("'" + kind.name + "' does not have a row for each row of the batch");
    const size_t size_bytes = elements(shape) * TRITONSERVER_DataTypeByteSize(triton_type(kind.onnx_type));
    const size_t row_bytes = batches_ && rows > 0 ? size_bytes / rows : size_bytes;
    for (Exchange& each : exchanges_) {
      if (batches_) shape[0] = each.rows;
      const size_t part_bytes = row_bytes * each.rows;
      hand_to(each, kind, shape, data, part_bytes);
      data += part_bytes;
    }
  }

  // A request whose buffer is not to be had fails alone.
  static void hand_to(Exchange& exchange, const TensorKind& kind, const Shape& shape, const char* data, size_t bytes) {
    try {
      if (exchange.error == nullptr && exchange.wants(kind.name))
        std::memcpy(exchange.output(kind, shape, bytes), data, bytes);
    } catch (const std::exception& error) {
      exchange.fail(error.what());
    }
  }

  static bool owned_by(const std::vector<Value>& kept, const OrtValue* value) {
    for (const Value& each : kept)
      if (each.value == value) return true;
    return false;
  }

  int64_t total_rows() const {
    int64_t rows = 0;
    for (const Exchange& each : exchanges_) rows += each.rows;
    return rows;
  }

  TRITONBACKEND_ModelInstance* triton_;
  OrtModel model_;
  const bool batches_;
  std::vector<Buffer> input_buffers_;
  std::vector<Buffer> output_buffers_;
  // Of the batch that runs; kept for their memory. Triton never runs two on one instance.
  std::vector<Exchange> exchanges_;
  std::vector<GivenInput> given_inputs_;
  std::vector<OrtValue*> given_;
  std::vector<OrtValue*> found_;
  std::vector<bool> placed_;
};
