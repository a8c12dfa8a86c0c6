#include "model/tensor_output.h"

#include "bitnet/core/error.h"
#include "bitnet/core/mapped_file.h"
#include "bitnet/core/thread_pool.h"
#include "bitnet/quant/block_formats.h"
#include "model/checkpoint_builder.h"
#include "model/linear_encoder.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>

namespace bitnet {
namespace {

/// Encoded bytes held at a time: enough to keep all threads busy, small beside any model.
constexpr int64_t kWindowBytes = int64_t{32} << 20;

class TensorStreamer {
 public:
  TensorStreamer(const std::vector<OutputTensor>& tensors,
                 const std::function<void(std::span<const std::byte>)>& write,
                 const std::function<void(int64_t, int64_t)>& progress)
      : tensors_(tensors), write_(write), progress_(progress) {
    for (const OutputTensor& tensor : tensors) total_ += output_bytes(tensor);
  }

  OutputFindings run() {
    size_t next = 0;
    while (next < tensors_.size()) {
      if (tensors_[next].linear == nullptr) {
        in_context(tensors_[next].name, [&] { stream(tensors_[next]); });
        ++next;
        continue;
      }
      const size_t end = window_end(next);
      write_window(next, end);
      next = end;
    }
    return std::move(findings_);
  }

 private:
  void put(std::span<const std::byte> bytes) {
    write_(bytes);
    done_ += std::ssize(bytes);
    if (progress_) progress_(done_, total_);
  }

  void note_rounding(const std::string& what, double error) {
    double& worst = findings_.roundings[what];
    worst = std::max(worst, error);
  }

  /// Linear layers (and what lies between them) that are encoded together.
  size_t window_end(size_t first) const {
    int64_t bytes = 0;
    size_t end = first;
    while (end < tensors_.size() && tensors_[end].shape.size() <= 2) {
      const bool embedding = tensors_[end].dense != nullptr && tensors_[end].shape.size() == 2;
      bytes += output_bytes(tensors_[end]);
      if (embedding || (end > first && bytes > kWindowBytes && !tensors_[end - 1].scale_follows)) break;
      ++end;
    }
    return end;
  }

  void write_window(size_t first, size_t end) {
    std::vector<EncodedLinear> encoded(end - first);
    pool_.run([&](int worker, int workers) {
      for (size_t i = static_cast<size_t>(worker); i < encoded.size(); i += static_cast<size_t>(workers)) {
        const OutputTensor& tensor = tensors_[first + i];
        if (tensor.linear == nullptr) continue;
        in_context(tensor.name, [&] { encoded[i] = encode_linear(tensor); });
        tensor.linear->drop_resident();
      }
    });
    for (size_t i = 0; i < encoded.size(); ++i) {
      const OutputTensor& tensor = tensors_[first + i];
      if (tensor.linear != nullptr) {
        finish_linear(tensor, encoded[i]);
      } else if (i > 0 && tensors_[first + i - 1].scale_follows) {
        put(std::as_bytes(std::span(&encoded[i - 1].scale, 1)));
      } else {
        in_context(tensor.name, [&] { stream(tensor); });
      }
    }
  }

  void finish_linear(const OutputTensor& tensor, EncodedLinear& encoded) {
    put(encoded.bytes);
    encoded.bytes = {};
    const bool master = tensor.linear->kind() == TernarySource::Kind::kMaster;
    if (master && !tensor.keep_master) ++findings_.ternarized;
    if (encoded.scale_error == 0) return;
    const std::string_view what = tensor.keep_master ? "master weights" : "scales of the linear layers";
    const std::string_view to = is_ternary(tensor.dtype) ? "f16" : to_string(tensor.dtype);
    note_rounding(
        fmt::format("{} rounded to {}{}", what, to,
                    is_ternary(tensor.dtype) ? fmt::format(" in {} blocks", to_string(tensor.dtype)) : ""),
        encoded.scale_error);
  }

  void stream(const OutputTensor& tensor) {
    if (tensor.generate) return stream_generated(tensor);
    if (tensor.dense == nullptr) return put(std::as_bytes(std::span(tensor.values)));
    const DenseSource& source = *tensor.dense;
    const auto in_bytes = static_cast<size_t>(storage_bytes(source.dtype, std::array{source.shape.back()}));
    double worst = 0;
    for_batches(tensor, in_bytes, [&](int64_t row, size_t count) {
      const auto part = source.bytes.subspan(static_cast<size_t>(row) * in_bytes, count * in_bytes);
      if (source.dtype == tensor.dtype) {
        put(part);
      } else {
        worst = std::max(worst, put_rows(tensor, count, [&](size_t i, std::span<float> values) {
                           dequantize_row(source.dtype, part.subspan(i * in_bytes, in_bytes), values);
                         }));
      }
      MappedFile::drop_resident(part);
    });
    // Rows are compared as f32, so what f64 loses on the way there does not show.
    if (source.dtype == DType::kF64) worst = std::max(worst, 0x1p-24);
    if (worst == 0) return;
    note_rounding(fmt::format("{} changed from {} to {}", tensor.name, to_string(source.dtype),
                              to_string(tensor.dtype)),
                  worst);
  }

  void stream_generated(const OutputTensor& tensor) {
    const auto row_bytes = static_cast<size_t>(storage_bytes(tensor.dtype, std::array{tensor.shape.back()}));
    for_batches(tensor, row_bytes, [&](int64_t row, size_t count) {
      (void)put_rows(tensor, count, [&](size_t i, std::span<float> values) {
        tensor.generate(row + static_cast<int64_t>(i), values);
      });
    });
  }

  /// Calls body(first row, rows) for pieces of about a megabyte.
  template <class Body>
  static void for_batches(const OutputTensor& tensor, size_t row_bytes, Body&& body) {
    const int64_t rows = element_count(tensor.shape) / tensor.shape.back();
    const auto batch = std::max<int64_t>(1, (int64_t{1} << 20) / static_cast<int64_t>(row_bytes));
    for (int64_t row = 0; row < rows; row += batch)
      body(row, static_cast<size_t>(std::min(batch, rows - row)));
  }

  /// Loads rows as floats, writes them in the tensor's type, and returns the largest error.
  template <class Load>
  double put_rows(const OutputTensor& tensor, size_t rows, Load&& load) {
    const int64_t cols = tensor.shape.back();
    const auto out_bytes = static_cast<size_t>(storage_bytes(tensor.dtype, std::array{cols}));
    std::vector<std::byte> out(rows * out_bytes);
    std::vector<double> errors(static_cast<size_t>(pool_.size()), 0.0);
    pool_.run([&](int worker, int workers) {
      std::vector<float> values(static_cast<size_t>(cols)), stored(values.size());
      const auto [begin, end] = ThreadPool::split(static_cast<int64_t>(rows), 1, worker, workers);
      for (auto row = static_cast<size_t>(begin); row < static_cast<size_t>(end); ++row) {
        const std::span<std::byte> target(out.data() + row * out_bytes, out_bytes);
        load(row, values);
        quantize_row(tensor.dtype, values, target);
        if (tensor.dtype == DType::kF32) continue;
        dequantize_row(tensor.dtype, target, stored);
        double& error = errors[static_cast<size_t>(worker)];
        error = std::max(error, row_error(values, stored));
      }
    });
    put(out);
    return *std::max_element(errors.begin(), errors.end());
  }

  /// Largest error of a value, relative to the largest value of the row (small values of a block type may
  /// vanish).
  static double row_error(std::span<const float> exact, std::span<const float> stored) {
    double worst = 0, largest = 0;
    for (size_t i = 0; i < exact.size(); ++i) {
      worst = std::max(worst, std::fabs(static_cast<double>(exact[i]) - static_cast<double>(stored[i])));
      largest = std::max(largest, std::fabs(static_cast<double>(exact[i])));
    }
    return worst == 0 ? 0.0 : worst / largest;
  }

  const std::vector<OutputTensor>& tensors_;
  const std::function<void(std::span<const std::byte>)>& write_;
  const std::function<void(int64_t, int64_t)>& progress_;
  ThreadPool pool_;
  OutputFindings findings_;
  int64_t done_ = 0, total_ = 0;
};

}  // namespace

int64_t output_bytes(const OutputTensor& tensor) {
  return in_context(tensor.name, [&] { return storage_bytes(tensor.dtype, tensor.shape); });
}

OutputFindings write_tensors(const std::vector<OutputTensor>& tensors,
                             const std::function<void(std::span<const std::byte>)>& write,
                             const std::function<void(int64_t done, int64_t total)>& progress) {
  return TensorStreamer(tensors, write, progress).run();
}

}  // namespace bitnet
