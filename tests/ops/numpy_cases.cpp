// Writes random calls of every row of the table with their results, for numpy_property_test.py to judge.
//   numpy_cases FOLDER SEED
// A line of FOLDER/cases.txt per call: row number, expression, type computed in, parameters, then
// file:dtype:shape of the operands and last of the result.
#include "bitnet/core/error.h"
#include "bitnet/tensor/copy.h"
#include "cases.h"

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace bitnet::ops {
namespace {

constexpr int kCallsPerRow = 24;

class Writer {
 public:
  explicit Writer(const std::string& folder)
      : data_(folder + "/data.bin", std::ios::binary), cases_(folder + "/cases.txt") {}

  void begin(const OpInfo& info, const OpParams& params, int ndim) {
    std::vector<int> axes(params.axes.begin(), params.axes.begin() + params.axis_count);
    cases_ << fmt::format("{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}", info.name, info.numpy, fmt::join(axes, ","), ndim,
                          params.keepdims ? 1 : 0, params.ddof, params.quantile, params.eps)
           << fmt::format("\t{}\t{}\t{}", params.position, params.theta, params.interleaved ? 1 : 0)
           << fmt::format("\t{}\t{}\t{}\t{}", params.groups, fmt::join(params.stride, ","),
                          fmt::join(params.padding, ","), fmt::join(params.dilation, ","));
  }
  void tensor(const Tensor& tensor) {
    const Tensor dense = contiguous(tensor);
    cases_ << fmt::format("\t{}:{}:{}", offset_, to_string(dense.dtype()), fmt::join(dense.shape(), ","));
    data_.write(reinterpret_cast<const char*>(std::as_const(dense).bytes()), dense.nbytes());
    offset_ += dense.nbytes();
  }
  void end() { cases_ << "\n"; }
  [[nodiscard]] bool good() { return data_.flush().good() && cases_.flush().good(); }

 private:
  std::ofstream data_, cases_;
  int64_t offset_ = 0;
};

class Draw {
 public:
  explicit Draw(unsigned seed) : random(seed) {}
  int64_t number(int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random);
  }
  std::mt19937 random;
};

/// The same elements under a layout drawn at random: permuted axes, steps, reversed.
Tensor scattered(const Tensor& x, Draw& draw) {
  if (x.ndim() == 0) return x;
  const int axis = static_cast<int>(draw.number(0, x.ndim() - 1));
  switch (draw.number(0, 3)) {
    case 0: {
      const Tensor turned = clone(x.transpose(axis, 0));
      return turned.transpose(axis, 0);
    }
    case 1: {
      const Tensor reversed = clone(x.slice(axis, {}, {}, -1));
      return reversed.slice(axis, {}, {}, -1);
    }
    case 2: {  // every second element of a larger tensor
      Shape larger(x.shape().begin(), x.shape().end());
      larger[static_cast<size_t>(axis)] *= 2;
      const Tensor wide = zeros(larger, x.dtype());
      const Tensor part = wide.slice(axis, 0, {}, 2);
      copy_into(x, part);
      return part;
    }
    default:
      return x;
  }
}

DType type_for(const OpInfo& info, Draw& draw) {
  for (;;) {
    const DType dtype = kPlainTypes[static_cast<size_t>(draw.number(0, std::ssize(kPlainTypes) - 1))];
    if (info.dtypes != DTypeRule::kNumber || dtype != DType::kBool) return dtype;
  }
}

void reduce_some_axes(OpParams& params, const OpInfo& info, int ndim, Draw& draw) {
  params.keepdims = draw.number(0, 1) == 1;
  params.ddof = static_cast<double>(draw.number(0, 1));
  params.quantile = static_cast<double>(draw.number(0, 8)) / 8;
  const bool one = info.op == Op::kArgmin || info.op == Op::kArgmax;
  for (int axis = 0; axis < ndim; ++axis) {
    if (one ? axis == ndim / 2 : draw.number(0, 1) == 1) params.axes[params.axis_count++] = axis;
  }
  if (params.axis_count == 0) params.axes[params.axis_count++] = 0;
}

Case draw_case(const OpInfo& info, Draw& draw) {
  Shape shape(static_cast<size_t>(draw.number(1, 4)));
  for (int64_t& size : shape) size = draw.number(1, 9);
  if (info.family == OpFamily::kRow) shape.back() *= 2;
  Case call = make_case(info, shape, type_for(info, draw), draw.random);
  const bool mixes =
      info.family == OpFamily::kElementwise && info.dtypes != DTypeRule::kWhere && info.operands == 2;
  if (mixes) {  // another type, and a shape that broadcasts
    for (int64_t& size : shape) size = draw.number(0, 2) == 0 ? 1 : size;
    call.operands[1] =
        random_tensor(std::span(shape).subspan(shape.size() / 2), type_for(info, draw), draw.random);
  }
  if (info.family == OpFamily::kReduction)
    reduce_some_axes(call.params, info, static_cast<int>(shape.size()), draw);
  if (info.op == Op::kRope) call.params.interleaved = draw.number(0, 1) == 1;
  for (Tensor& operand : call.operands) operand = scattered(operand, draw);
  return call;
}

int write_all(const std::string& folder, unsigned seed) {
  Writer writer(folder);
  Draw draw(seed);
  for (const OpInfo& info : op_table()) {
    for (int i = 0; i < kCallsPerRow; ++i) {
      const Case call = draw_case(info, draw);
      const Tensor result = run(info, call);
      writer.begin(info, call.params, call.operands[0].ndim());
      for (const Tensor& operand : call.operands) writer.tensor(operand);
      writer.tensor(result);
      writer.end();
    }
  }
  return writer.good() ? 0 : 1;
}

}  // namespace
}  // namespace bitnet::ops

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: numpy_cases FOLDER SEED\n";
    return 2;
  }
  try {
    return bitnet::ops::write_all(argv[1], static_cast<unsigned>(std::strtoul(argv[2], nullptr, 10)));
  } catch (const bitnet::Error& error) {
    std::cerr << error.report();
    return 1;
  }
}
