// The checks themselves, grouped by file. Each is a row of the table in plugin_check.cpp.
#pragma once
#include "device/plugin_probe.hpp"

namespace concord::plugin_check {

// plugin_check_file.cpp: the file and its table, without a device
void check_load(Probe& p);
void check_table(Probe& p);
void check_symbols(Probe& p);
void check_exports(Probe& p);
void check_version(Probe& p);
void check_entry_twice(Probe& p);
void check_device_info(Probe& p);
void check_older_host(Probe& p);

// plugin_check_device.cpp: devices, buffers, copies, streams
void check_open_close(Probe& p);
void check_two_devices(Probe& p);
void check_buffers(Probe& p);
void check_buffer_leaks(Probe& p);
void check_copies(Probe& p);
void check_streams(Probe& p);
void check_null_arguments(Probe& p);

// plugin_check_calls.cpp: weights and operator calls
void check_weights(Probe& p);
void check_weight_leaks(Probe& p);
void check_supports(Probe& p);
void check_witness(Probe& p);
void check_bad_calls(Probe& p);
void check_call_leaks(Probe& p);

// plugin_check_later.cpp: what a table may have since ABI 2.1
void check_host_memory(Probe& p);
void check_stream_order(Probe& p);
void check_weight_digest(Probe& p);
void check_memory(Probe& p);

}  // namespace concord::plugin_check
