// SPDX-License-Identifier: Apache-2.0
// One-shot bufferization of dialect `girih`: structured ops write their init in place; the cache is opaque.
#include "dialects/girih/dialect.h"

#include "mlir/Dialect/Bufferization/IR/BufferizableOpInterface.h"
#include "mlir/Dialect/Bufferization/IR/DstBufferizableOpInterfaceImpl.h"

using namespace mlir;
using namespace mlir::bufferization;
using namespace girih::dialect;

namespace {

// The operands of `op` with every tensor replaced by its buffer.
FailureOr<SmallVector<Value>> bufferOperands(Operation *op, RewriterBase &rewriter,
                                             const BufferizationOptions &options, const BufferizationState &state) {
  SmallVector<Value> operands;
  for (Value operand : op->getOperands()) {
    if (isa<TensorType>(operand.getType())) {
      FailureOr<Value> buffer = getBuffer(rewriter, operand, options, state);
      if (failed(buffer))
        return failure();
      operand = *buffer;
    }
    operands.push_back(operand);
  }
  return operands;
}

template <typename OpTy>
struct StructuredModel : DstBufferizableOpInterfaceExternalModel<StructuredModel<OpTy>, OpTy> {
  // All inputs are read; the init is only written.
  bool bufferizesToMemoryRead(Operation *op, OpOperand &operand, const AnalysisState &) const {
    return &operand != &cast<OpTy>(op).getInitMutable();
  }
  bool bufferizesToMemoryWrite(Operation *op, OpOperand &operand, const AnalysisState &) const {
    return &operand == &cast<OpTy>(op).getInitMutable();
  }
  LogicalResult bufferize(Operation *op, RewriterBase &rewriter, const BufferizationOptions &options,
                          BufferizationState &state) const {
    FailureOr<SmallVector<Value>> operands = bufferOperands(op, rewriter, options, state);
    if (failed(operands))
      return failure();
    OpTy::create(rewriter, op->getLoc(), TypeRange(), *operands, op->getAttrs());
    Value init = (*operands)[cast<OpTy>(op).getInitMutable().getOperandNumber()];
    replaceOpWithBufferizedValues(rewriter, op, init);
    return success();
  }
};

struct KvAppendModel : BufferizableOpInterface::ExternalModel<KvAppendModel, KvAppendOp> {
  bool bufferizesToMemoryRead(Operation *, OpOperand &, const AnalysisState &) const { return true; }
  bool bufferizesToMemoryWrite(Operation *, OpOperand &, const AnalysisState &) const { return false; }
  AliasingValueList getAliasingValues(Operation *, OpOperand &, const AnalysisState &) const { return {}; }
  LogicalResult bufferize(Operation *op, RewriterBase &rewriter, const BufferizationOptions &options,
                          BufferizationState &state) const {
    FailureOr<SmallVector<Value>> operands = bufferOperands(op, rewriter, options, state);
    if (failed(operands))
      return failure();
    auto append = KvAppendOp::create(rewriter, op->getLoc(), op->getResultTypes(), *operands, op->getAttrs());
    rewriter.replaceOp(op, append->getResults());
    return success();
  }
};

}  // namespace

void girih::dialect::registerBufferization(DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, GirihDialect *) {
    QuantizeRowsOp::attachInterface<StructuredModel<QuantizeRowsOp>>(*context);
    QMatmulOp::attachInterface<StructuredModel<QMatmulOp>>(*context);
    GatherRowsOp::attachInterface<StructuredModel<GatherRowsOp>>(*context);
    AttentionOp::attachInterface<StructuredModel<AttentionOp>>(*context);
    AttentionPartsOp::attachInterface<StructuredModel<AttentionPartsOp>>(*context);
    JoinPartsOp::attachInterface<StructuredModel<JoinPartsOp>>(*context);
    KvAppendOp::attachInterface<KvAppendModel>(*context);
  });
}
