#pragma once

#include "bitnet/core/dtype.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace bitnet {

/// A GGUF array. Integers of every width are held as int64 or uint64, f32 and f64 as double; strings are
/// bytes, usually (but not checked to be) UTF-8.
using GgufArray = std::variant<std::vector<int64_t>, std::vector<uint64_t>, std::vector<double>,
                               std::vector<bool>, std::vector<std::string>>;

enum class GgufType : uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};

/// A GGUF metadata value, held as in GgufArray.
struct GgufValue {
  GgufType type = GgufType::kU32;          ///< as stored
  GgufType element_type = GgufType::kU32;  ///< for arrays
  std::variant<uint64_t, int64_t, double, bool, std::string, GgufArray> value;

  static GgufValue u32(uint32_t v);
  static GgufValue f32(float v);
  static GgufValue boolean(bool v);
  static GgufValue string(std::string v);
  static GgufValue strings(std::vector<std::string> v);
  static GgufValue i32_array(const std::vector<int32_t>& v);
  static GgufValue f32_array(const std::vector<float>& v);
};

struct GgufTensor {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;  ///< outermost first (the file stores innermost first)
  std::span<const std::byte> bytes;
};

/// A GGUF file (version 2 or 3, little endian), mapped and fully checked at open(): every string, array,
/// offset and size lies inside the file, names are unique, tensors neither overlap nor run past the end.
/// Throws kCorruptData, kUnsupported (version 1, big endian, unknown tensor types: TL1/TL2 are named with
/// what to do), kNotFound, kIo. A file without tensors (vocabulary only) is valid.
class GgufFile {
 public:
  static GgufFile open(const std::filesystem::path& path);
  /// For tests and fuzzing: parses bytes that outlive the object.
  static GgufFile parse(std::span<const std::byte> bytes);
  GgufFile(GgufFile&&) noexcept;
  GgufFile& operator=(GgufFile&&) noexcept;
  ~GgufFile();

  [[nodiscard]] uint32_t version() const;
  [[nodiscard]] std::span<const std::byte> file_bytes() const;
  /// In file order.
  [[nodiscard]] const std::vector<std::pair<std::string, GgufValue>>& metadata() const;
  [[nodiscard]] const std::vector<GgufTensor>& tensors() const;

  [[nodiscard]] const GgufValue* find(std::string_view key) const;
  [[nodiscard]] const GgufTensor* find_tensor(std::string_view name) const;

  /// Typed access: nothing if the key is absent, kCorruptData if it has another kind of type. Any integer
  /// width is taken for integers; integers are taken for reals. Integer arrays of any width convert to int64.
  [[nodiscard]] std::optional<int64_t> get_integer(std::string_view key) const;
  [[nodiscard]] std::optional<double> get_real(std::string_view key) const;
  [[nodiscard]] std::optional<bool> get_bool(std::string_view key) const;
  [[nodiscard]] std::optional<std::string_view> get_string(std::string_view key) const;
  [[nodiscard]] const std::vector<std::string>* get_strings(std::string_view key) const;
  [[nodiscard]] std::optional<std::vector<int64_t>> get_integers(std::string_view key) const;
  [[nodiscard]] std::optional<std::vector<double>> get_reals(std::string_view key) const;

 private:
  GgufFile();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Writes GGUF v3 atomically. Order of calls: add metadata and tensors, begin(), then each tensor's bytes in
/// the order added (in as many pieces as wanted, none across two tensors), finish(). Throws kIo,
/// kInvalidArgument on wrong order, byte counts or values that do not fit their GGUF type, kUnsupported for
/// types that GGUF has no number for.
class GgufWriter {
 public:
  explicit GgufWriter(const std::filesystem::path& path);
  ~GgufWriter();
  void add(std::string key, const GgufValue& value);
  void add_tensor(std::string name, DType dtype, Shape shape);
  /// Writes header and metadata.
  void begin();
  void write(std::span<const std::byte> bytes);
  /// Checks that all is written, renames the file into place.
  void finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// ggml type number <-> DType; nothing if we do not handle it.
[[nodiscard]] std::optional<DType> dtype_from_ggml(uint32_t type);
[[nodiscard]] std::optional<uint32_t> ggml_from_dtype(DType dtype);

}  // namespace bitnet
