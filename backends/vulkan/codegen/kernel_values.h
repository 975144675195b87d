// SPDX-License-Identifier: Apache-2.0
// KernelValues: what the values of a dispatch are in its shader: scalars, views of buffers, packed weights, caches.
#pragma once

#include "backends/vulkan/codegen/shader_builder.h"
#include "dialects/girih/dialect.h"
#include "runtime/base/expected.h"

#include "mlir/Dialect/MemRef/IR/MemRef.h"

namespace girih::vulkan {

// Elements of a buffer. Strides are static, as the step's form promises; only the outermost extent is not.
struct View {
  uint32_t memory = 0;    // a binding, or shared memory
  uint32_t source = 0;    // where its elements are loaded from: the same, or its texels
  mlir::Value array = {}; // instead: an array that the shader carries along
  mlir::Value offset;     // of element (0, ..., 0), in elements
  int64_t divisor = 1;    // of the offset, as far as that is known
  llvm::SmallVector<int64_t> strides;
  llvm::SmallVector<mlir::Value> extents;
  mlir::Type element; // f32 or i32, of which each is a word; f16, bf16 or i8, of which a word has 2 or 4
  int64_t perWord() const { return 32 / int64_t(element.getIntOrFloatBitWidth()); }
};

struct PackedWeight {
  uint32_t memory;
  mlir::Value offset; // in words
  dialect::PackedType type;
};

struct Cache {
  uint32_t source;    // where it is loaded from
  mlir::Value offset; // of the layer in a block, in words
  int64_t blockWords;
  dialect::KvType type;
};

// What a dispatch takes from outside of its shader: values of the host function, each a push constant.
struct KernelInputs {
  llvm::SmallVector<mlir::Value> weightOffsets; // in bytes; the first push constants, each with a binding
  llvm::SmallVector<int64_t> weightBytes;
  struct Word {
    mlir::Value value; // an index of the host function, or a memref whose offset is meant
    bool isOffset;     // then it is that memref's, in bytes; the constant is in words
  };
  llvm::SmallVector<Word> words; // the others
};

// What shaders do that not every device can, or should.
struct ShaderTraits {
  bool sharesRegisters = false; // 8 neighbouring invocations can read each other's
  bool readsTexels = false;     // what a dispatch only reads is loaded through texel buffers
};

// Facts of the entry that a dispatch is in.
struct EntryFacts {
  StepLayout layout;
  int64_t arenaBytes;  // the team's buffers end here; what each thread of a team has of its own follows
  int64_t sharedBytes; // that a workgroup may share
  int64_t lanes;       // invocations that keep a unit busy
  ShaderTraits traits;
};

// Resolves values on demand, where the builder stands; so ask for an operation's operands before opening a loop.
// A value that has no form in a shader is remembered as the reason why there is none.
class KernelValues {
public:
  KernelValues(ShaderBuilder &k, const EntryFacts &entry) : k(k), entry(entry) {}

  // An index, integer or float of the dispatch or of the host function.
  mlir::Value scalar(mlir::Value value);
  mlir::Value scalar(mlir::OpFoldResult value);
  View view(mlir::Value memref);  // of words
  View anyView(mlir::Value memref); // of narrower elements too
  PackedWeight packed(mlir::Value weight);
  Cache cache(mlir::Value kv);
  void set(mlir::Value value, mlir::Value shaderValue) { scalars[value] = shaderValue; }
  mlir::Value evaluate(mlir::AffineExpr expr, mlir::ValueRange dimensions, mlir::ValueRange symbols = {});

  // What the dispatch writes, which must not be loaded as texels. Requires: before any view.
  void noteWrites(mlir::Operation *dispatch);
  // Shared memory for each buffer of the unit's own, told apart by their offsets. Requires: before any view.
  void shareScratch(mlir::Operation *dispatch, int64_t maxTokens);
  void fail(const mlir::Twine &reason) {
    if (error.empty())
      error = reason.str();
  }

  const EntryFacts &facts() const { return entry; }

  KernelInputs inputs;
  std::string error;

private:
  mlir::Value computeScalar(mlir::Value value);
  mlir::Value cloneArithmetic(mlir::Operation *op);
  mlir::Value pushed(mlir::Value value, bool isOffset);
  uint32_t weightBinding(mlir::Value offset, int64_t numBytes, mlir::Value &wordOffset);
  View computeView(mlir::Value memref);
  View bufferView(dialect::BufferAtOp op);
  View subview(mlir::memref::SubViewOp op);
  View withShape(View view, mlir::MemRefType type, llvm::ArrayRef<mlir::Value> extents);
  View shapeOf(mlir::Value memref, mlir::Value rows);
  uint32_t sourceOf(uint32_t memory, mlir::Value memref = {}) const;

  ShaderBuilder &k;
  const EntryFacts entry;
  llvm::DenseMap<mlir::Value, mlir::Value> scalars;
  llvm::DenseMap<mlir::Value, View> views;
  llvm::DenseMap<mlir::Value, std::pair<uint32_t, mlir::Value>> weights; // by offset: binding, words
  llvm::DenseMap<int64_t, int64_t> scratch;                              // by offset: words of shared memory
  llvm::SmallPtrSet<mlir::Operation *, 8> written;                       // buffers of the arena
  bool writesCache = false;
};

// A number of which the index is always a multiple; 0 of a 0.
int64_t divisorOf(mlir::OpFoldResult index);

// The buffer that a memref of the host function is when the loop around it begins: through views, loop arguments, results.
mlir::Value firstLeafOf(mlir::Value memref);

} // namespace girih::vulkan
