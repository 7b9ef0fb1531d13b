// What a device with memory of its own can do, measured on it through the C ABI.
#pragma once
#include "bench/peaks.hpp"
#include "device/device.hpp"

namespace concord::bench {

// The device declares the feature "device-memory": the rates of the host's processor say nothing about it.
bool has_own_memory(const DeviceFacts& facts);

// Peaks::flops: the largest MATMUL of [m, n] x [n, n] in this dtype, random operands. Peaks::read: the largest ADD of
// two random tensors, two reads and one write counted. Sizes grow until a call would take a tenth of a second, the
// caps of docs/performance.md are reached, or the device's memory is short; each figure is the best of three batches of
// calls, each ended by synchronize(). All memory is given back. Errors: those of the device.
Result<Peaks> measure_device_peaks(Device& device, DType dtype);

}  // namespace concord::bench
