// What a case's outputs must be: the float64 reference, compiled into this program, with activations, float caches and
// angles widened to F64 so that its results are unrounded; with the case's own dtypes where the bits are defined.
#include <algorithm>
#include <cmath>
#include <mutex>

#include "abi/concord_float.hpp"
#include "conformance/numerics/bounds.hpp"
#include "conformance/numerics/layout.hpp"
#include "device/device.hpp"
#include "reference/reference.hpp"

namespace concord::conformance {
namespace {

// One run of the reference. Buffers live as long as it does.
class Run {
 public:
  static Result<Run> open(const Problem& problem, std::span<const std::byte> inputs, bool wide) {
    static const Backends backends = Backends::builtin(reference::table());
    CONCORD_TRY(Device device, backends.open("reference"));
    return Run(std::move(device), problem, inputs, wide);
  }

  // z may be left out, so that the sums of a fused matmul are seen.
  Status run(bool without_z = false) {
    call_ = problem_->call;
    if (wide_) call_.accumulate = CONCORD_F64;
    for (const Operand& o : problem_->inputs) {
      if (without_z && o.role == Role::kSum) continue;
      CONCORD_CHECK(upload(o, inputs_.subspan(o.offset, o.bytes), call_.in[o.slot]));
    }
    if (without_z) call_.flags = 0, call_.n_in = 2, call_.in[2] = {};
    for (const Operand& o : problem_->outputs) {
      const bool kept = o.initial && problem_->call.op == CONCORD_OP_KV_APPEND;
      const std::vector<std::byte> zeros(kept ? 0 : o.bytes);
      CONCORD_CHECK(upload(o, kept ? inputs_.subspan(*o.initial, o.bytes) : std::span<const std::byte>(zeros),
                           call_.out[o.slot]));
      outputs_.push_back(buffers_.size() - 1);
    }
    Weight weight;
    if (problem_->weight) {
      concord_weight_desc desc = weight_desc(*problem_->weight, inputs_);
      if (wide_) desc.activation_dtype = CONCORD_F64;
      CONCORD_TRY(weight, device_.create_weight(desc));
      call_.weight = weight.get();
    }
    return device_.run(call_);
  }

  Result<std::vector<std::byte>> bytes(std::size_t output) {
    const Buffer& buffer = buffers_[outputs_[output]];
    std::vector<std::byte> out(buffer.size());
    CONCORD_CHECK(device_.download(buffer, 0, out));
    return out;
  }
  Result<std::vector<double>> values(std::size_t output) {
    CONCORD_TRY(const std::vector<std::byte> raw, bytes(output));
    const std::uint32_t dtype = call_.out[output].dtype;
    std::vector<double> v(raw.size() / concord_abi::dtype_bytes(dtype));
    if (dtype == CONCORD_I32)
      for (std::size_t i = 0; i < v.size(); ++i) v[i] = concord_abi::load_as<std::int32_t>(raw.data(), i);
    else
      concord_abi::load_f64(dtype, raw.data(), v.size(), v.data());
    return v;
  }

 private:
  Run(Device device, const Problem& problem, std::span<const std::byte> inputs, bool wide)
      : device_(std::move(device)), problem_(&problem), inputs_(inputs), wide_(wide) {}

  bool widens(const Operand& o) const {
    const bool number =
        o.role == Role::kActivation || o.role == Role::kSum || o.role == Role::kTable || o.role == Role::kCache;
    // The weights of TOPK_ROUTING are F32 by definition.
    return wide_ && number && concord_abi::is_float(o.dtype) &&
           !(problem_->call.op == CONCORD_OP_TOPK_ROUTING && o.name == "weight");
  }

  Status upload(const Operand& o, std::span<const std::byte> from, concord_tensor& t) {
    std::vector<std::byte> widened;
    if (widens(o) && o.dtype != CONCORD_F64) {
      const std::size_t n = from.size() / concord_abi::dtype_bytes(o.dtype);
      widened.resize(n * 8);
      concord_abi::load_f64(o.dtype, from.data(), n, reinterpret_cast<double*>(widened.data()));
      from = widened, t.dtype = CONCORD_F64;
    }
    CONCORD_TRY(Buffer buffer, device_.allocate(from.size()));
    CONCORD_CHECK(device_.upload(buffer, 0, from));
    t.buffer = buffer.get(), t.byte_offset = 0;
    buffers_.push_back(std::move(buffer));
    return {};
  }

  Device device_;
  const Problem* problem_;
  std::span<const std::byte> inputs_;
  bool wide_;
  concord_call call_{};
  std::vector<Buffer> buffers_;
  std::vector<std::size_t> outputs_;  // indices into buffers_
};

// Whether the exact family's inputs leave the arithmetic nothing to round in this case.
bool is_exact(const Problem& p, const MathMode& mode) {
  const std::uint32_t x = p.outputs[0].dtype;
  switch (p.call.op) {
    case CONCORD_OP_MATMUL:
      return p.call.flags != CONCORD_GATED;
    case CONCORD_OP_RMSNORM:  // the root is not exact, but its error cannot change the narrow result
      return x == CONCORD_F16 || x == CONCORD_BF16;
    case CONCORD_OP_LAYERNORM:
      return (x == CONCORD_F16 || x == CONCORD_BF16) && p.spec.axis("N") % 2 == 0;
    case CONCORD_OP_ATTENTION:  // exp(-64 * 63.5 / sqrt(D)) is 0 in F32 only; tf32 cuts the values
      return x != CONCORD_F64 && !mode.tf32 && p.spec.axis("D") <= 1024;
    default:
      return true;
  }
}

Judged embedding_judged(const Problem& p, const MathMode& mode) {
  const std::uint32_t form = p.weight->desc.dtype, x = p.outputs[0].dtype;
  if (form == CONCORD_U4) return Judged::kExact;  // the value is exact in F32
  if (form == CONCORD_I8) return x == CONCORD_F32 ? Judged::kExact : Judged::kBound;
  const bool narrowed = mode.weights_bf16 && form != CONCORD_BF16 && x != CONCORD_BF16;
  return narrowed ? Judged::kBound : Judged::kBits;
}

Judged judged_of(const Problem& p, const MathMode& mode, const Operand& o) {
  const bool exact = p.spec.option("in") == "exact";
  if (p.call.op == CONCORD_OP_KV_APPEND) return Judged::kBits;
  if (p.call.op == CONCORD_OP_EMBEDDING) return embedding_judged(p, mode);
  if (p.call.op == CONCORD_OP_TOPK_ROUTING && o.name == "weight") return Judged::kBound;
  if (p.call.op == CONCORD_OP_SAMPLE)
    return exact && p.spec.option("temp") == "cold" ? Judged::kIndex : Judged::kChoice;
  if (o.dtype == CONCORD_I32) return exact || p.call.op == CONCORD_OP_ARGMAX ? Judged::kIndex : Judged::kChoice;
  return exact && is_exact(p, mode) ? Judged::kExact : Judged::kBound;
}

double rounded(std::uint32_t dtype, double v) {
  std::byte narrow[8];
  concord_abi::store_f64(dtype, &v, 1, narrow);
  concord_abi::load_f64(dtype, narrow, 1, &v);
  return v;
}

// y from the sums and z. In the exact family the sum has no error, so that it is rounded as the device rounds it; else
// that rounding is part of the bound.
std::vector<double> combined(const Problem& p, std::span<const std::byte> inputs, const std::vector<double>& sums,
                             bool exact) {
  const Operand& z = p.input("z");
  std::vector<double> y(sums.size());
  concord_abi::load_f64(z.dtype, inputs.data() + z.offset, y.size(), y.data());
  for (std::size_t i = 0; i < y.size(); ++i) {
    const double sum = exact ? rounded(z.dtype, sums[i]) : sums[i];
    y[i] = p.call.flags == CONCORD_PLUS ? y[i] + sum : y[i] / (1 + std::exp(-y[i])) * sum;
  }
  return y;
}

Error as_oracle_error(const Error& e, const Problem& p) {
  const char* code = e.code == "device.unsupported" ? "oracle.unsupported" : "oracle.failed";
  return {ErrorKind::kInternal, code, p.spec.id() + ": the reference: " + e.message, {}, {}};
}

Result<Expectation> expected(const Problem& p, std::span<const std::byte> inputs, const MathMode& mode) {
  Expectation e;
  e.mode = mode;
  for (const Operand& o : p.outputs)
    e.outputs.push_back({o.name, o.dtype, o.dims, judged_of(p, mode, o), {}, {}, {}, {}, {}, {}});
  const bool bits = e.outputs[0].judged == Judged::kBits, fused = p.call.flags != 0 && p.call.op == CONCORD_OP_MATMUL;
  CONCORD_TRY(Run run, Run::open(p, inputs, !bits));
  CONCORD_CHECK(run.run(fused));
  std::vector<double> sums;
  for (std::size_t i = 0; i < e.outputs.size(); ++i) {
    if (bits) {
      CONCORD_TRY(e.outputs[i].bits, run.bytes(i));
    } else {
      CONCORD_TRY(e.outputs[i].want, run.values(i));
    }
  }
  if (fused) {
    sums = std::move(e.outputs[0].want);
    e.outputs[0].want = combined(p, inputs, sums, p.spec.option("in") == "exact");
  }
  add_bounds(p, inputs, sums, e);
  return e;
}

}  // namespace

Result<Expectation> expect(const Problem& problem, std::span<const std::byte> inputs, const MathMode& mode) {
  if (problem.expect_refusal)
    return fail(ErrorKind::kInternal, "oracle.unsupported",
                problem.spec.id() + ": a case that is refused has no expectation");
  auto e = expected(problem, inputs, mode);
  if (!e) return std::unexpected(as_oracle_error(e.error(), problem));
  return e;
}

std::string MathMode::name() const {
  std::string text;
  const auto add = [&](bool there, const char* feature) {
    if (!there) return;
    if (!text.empty()) text.push_back('+');
    text.append(feature);
  };
  add(weights_bf16, "weights-bf16"), add(products_flushed, "products-flushed"), add(tf32, "tf32");
  if (text.empty()) text.assign("f32");
  return text;
}

MathMode MathMode::from_features(std::string_view features) {
  MathMode mode;
  while (!features.empty()) {
    const std::size_t end = std::min(features.find(','), features.size());
    std::string_view name = features.substr(0, end);
    while (name.starts_with(' ')) name.remove_prefix(1);
    while (name.ends_with(' ')) name.remove_suffix(1);
    mode.weights_bf16 |= name == "weights-bf16", mode.products_flushed |= name == "products-flushed",
        mode.tf32 |= name == "tf32";
    features.remove_prefix(std::min(end + 1, features.size()));
  }
  return mode;
}

}  // namespace concord::conformance
