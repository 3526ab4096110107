// The three settings that the backend reads of a model's configuration, which Triton gives as JSON.

#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

class Json {
 public:
  explicit Json(std::string_view text) : text_(text) {}

  // What stands after "key": in this object, and nothing if it has no such key. Triton's JSON is well formed.
  Json member(std::string_view key) const {
    int depth = 0;
    for (size_t at = 0; at < text_.size(); ++at) {
      const char letter = text_[at];
      if (letter == '{' || letter == '[') ++depth;
      if (letter == '}' || letter == ']') --depth;
      if (letter != '"') continue;
      const size_t end = string_end(at);
      const std::string_view found = text_.substr(at + 1, end - at - 1);
      at = end;
      const size_t colon = text_.find_first_not_of(" \n\t", end + 1);
      if (depth == 1 && found == key && colon < text_.size() && text_[colon] == ':') return value_from(colon + 1);
    }
    return Json({});
  }

  std::string text(const std::string& otherwise) const {
    return text_.size() < 3 ? otherwise : std::string(text_.substr(1, text_.size() - 2));
  }

  int number(int otherwise) const { return text_.empty() ? otherwise : std::stoi(std::string(text_)); }

 private:
  size_t string_end(size_t begin) const {
    for (size_t at = begin + 1; at < text_.size(); ++at) {
      if (text_[at] == '\\') ++at;
      else if (text_[at] == '"') return at;
    }
    throw std::runtime_error("the model's configuration ends within a string");
  }

  Json value_from(size_t begin) const {
    begin = text_.find_first_not_of(" \n\t", begin);
    int depth = 0;
    for (size_t at = begin; at < text_.size(); ++at) {
      const char letter = text_[at];
      if (letter == '"') at = string_end(at);
      if (letter == '{' || letter == '[') ++depth;
      if (depth == 0 && (letter == ',' || letter == '}' || letter == ']')) return Json(text_.substr(begin, at - begin));
      if (letter == '}' || letter == ']') --depth;
    }
    return Json(text_.substr(begin));
  }

  std::string_view text_;
};

struct ModelSettings {
  int max_batch_size;
  int threads;
  std::string file;

  static ModelSettings from(std::string_view config) {
    const Json json(config);
    const Json threads = json.member("parameters").member("intra_op_thread_count").member("string_value");
    return {json.member("max_batch_size").number(0), std::stoi(threads.text("1")),
            json.member("default_model_filename").text("model.onnx")};
  }
};
