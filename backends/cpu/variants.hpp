// The selectable devices of this backend.
#pragma once
#include "kernels.hpp"
#include "processor.hpp"
#include "tiles.hpp"

namespace cpu {

struct Variant {
  const char* id;
  const char* title;
  const Kernels* kernels;
  const TileSet* tiles;            // matmul; NULL: by oneDNN
  const TileSet* attention_tiles;  // float32, of the kernels' instruction set
  const char* isa_name;
  bool bf16_matmul;         // activations are BF16, and so is what is multiplied; sums are float32
  bool Processor::* needs;  // NULL: any x86-64
  const char* needs_name;
};

// Best first; those that a bare "cpu" must never take come last.
inline constexpr int kVariants = 5;
extern const Variant kVariantTable[kVariants];

// Empty where the variant can run here, else what is missing.
std::string missing(const Variant& variant, const Processor& processor);

}  // namespace cpu
