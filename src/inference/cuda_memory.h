#pragma once

#include "kernels/cuda_table.h"

#include <cstddef>
#include <memory>
#include <utility>

namespace bitnet::cuda {

/// Memory of the GPU in use when it was made. Move-only.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  explicit DeviceBuffer(size_t bytes)
      : data_(bytes == 0 ? nullptr : table().allocate(bytes)), bytes_(bytes) {}
  /// A part of another, which lives as long.
  DeviceBuffer(std::shared_ptr<const DeviceBuffer> whole, size_t offset, size_t bytes)
      : data_(whole->as<std::byte>() + offset), bytes_(bytes), whole_(std::move(whole)) {}
  DeviceBuffer(DeviceBuffer&& other) noexcept { swap(other); }
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    swap(other);
    return *this;
  }
  ~DeviceBuffer() {
    if (data_ != nullptr && whole_ == nullptr) table().release(data_);
  }

  [[nodiscard]] void* data() const { return data_; }
  [[nodiscard]] size_t bytes() const { return bytes_; }
  template <class T>
  [[nodiscard]] T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  void swap(DeviceBuffer& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(whole_, other.whole_);
  }
  void* data_ = nullptr;
  size_t bytes_ = 0;
  std::shared_ptr<const DeviceBuffer> whole_;  ///< null: this has its memory for itself
};

/// Host memory that the GPU copies from and to without staging.
class PinnedBuffer {
 public:
  explicit PinnedBuffer(size_t bytes) : data_(table().allocate_pinned(bytes)), bytes_(bytes) {}
  PinnedBuffer(const PinnedBuffer&) = delete;
  PinnedBuffer& operator=(const PinnedBuffer&) = delete;
  ~PinnedBuffer() { table().release_pinned(data_); }

  [[nodiscard]] size_t bytes() const { return bytes_; }
  template <class T>
  [[nodiscard]] T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  void* data_;
  size_t bytes_;
};

class OwnedStream {
 public:
  OwnedStream() : stream_(table().create_stream()) {}
  OwnedStream(const OwnedStream&) = delete;
  OwnedStream& operator=(const OwnedStream&) = delete;
  ~OwnedStream() { table().destroy_stream(stream_); }
  [[nodiscard]] Stream get() const { return stream_; }

 private:
  Stream stream_;
};

class OwnedEvent {
 public:
  OwnedEvent() : event_(table().create_event()) {}
  OwnedEvent(const OwnedEvent&) = delete;
  OwnedEvent& operator=(const OwnedEvent&) = delete;
  ~OwnedEvent() { table().destroy_event(event_); }
  [[nodiscard]] Event get() const { return event_; }

 private:
  Event event_;
};

class OwnedGraph {
 public:
  OwnedGraph() = default;
  OwnedGraph(const OwnedGraph&) = delete;
  OwnedGraph& operator=(const OwnedGraph&) = delete;
  ~OwnedGraph() {
    if (graph_ != nullptr) table().destroy_graph(graph_);
  }
  void reset(Graph graph) {
    if (graph_ != nullptr) table().destroy_graph(graph_);
    graph_ = graph;
  }
  [[nodiscard]] Graph get() const { return graph_; }

 private:
  Graph graph_ = nullptr;
};

}  // namespace bitnet::cuda
