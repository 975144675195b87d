// SPDX-License-Identifier: Apache-2.0
// Gives every attention its cache, after proving that nothing else mixes tokens.
//
// Causality needs no proof here: `girih.attention` is causal by definition, and raise proved it of what it
// made one.
#include "compiler/specialize/passes.h"
#include "compiler/specialize/token_analysis.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/SymbolTable.h"
#include "llvm/Support/DebugLog.h"

#define DEBUG_TYPE "girih-insert-kv-cache"

namespace girih::compiler {

#define GEN_PASS_DEF_INSERTKVCACHE
#include "compiler/specialize/passes.h.inc"

namespace {

using namespace mlir;

// Appends an argument to a function that is not `@main`.
Value appendArgument(func::FuncOp function, Type type) {
  SmallVector<Type> types(function.getArgumentTypes());
  types.push_back(type);
  function.setType(FunctionType::get(function.getContext(), types, function.getResultTypes()));
  return function.front().addArgument(type, function.getLoc());
}

void appendOperand(func::CallOp call, Value operand) {
  call->insertOperands(call->getNumOperands(), operand);
}

class CacheInserter {
public:
  CacheInserter(ModuleOp module, Type element) : module(module), element(element) {}

  // Gives the attentions of `function`, and of what it calls, their caches; each is a new argument, or in
  // `@main` a layer of the cache. Returns the types of the new arguments.
  SmallVector<Type> insert(func::FuncOp function) {
    auto known = cachesOf.find(function);
    if (known != cachesOf.end())
      return known->second;
    SmallVector<Type> types;
    SmallVector<Operation *> users;
    function.walk([&](Operation *op) {
      if (isa<dialect::AttentionOp, func::CallOp>(op))
        users.push_back(op);
    });
    auto nextCache = [&](Operation *user, Type type) -> Value {
      if (!function.isPrivate()) {
        OpBuilder builder(user);
        return dialect::KvLayerOp::create(builder, user->getLoc(), type, numLayers++);
      }
      types.push_back(type);
      return appendArgument(function, type);
    };
    for (Operation *user : users) {
      if (auto call = dyn_cast<func::CallOp>(user)) {
        for (Type type : insert(module.lookupSymbol<func::FuncOp>(call.getCallee())))
          appendOperand(call, nextCache(user, type));
        continue;
      }
      auto attention = cast<dialect::AttentionOp>(user);
      Value key = attention.getKey(), value = attention.getValue(); // [T, G, D], [T, G, Dv]
      auto keyType = cast<RankedTensorType>(key.getType()),
           valueType = cast<RankedTensorType>(value.getType());
      auto type = dialect::KvType::get(module.getContext(), keyType.getDimSize(1), keyType.getDimSize(2),
                                       valueType.getDimSize(2), element);
      Value cache = nextCache(user, type);
      OpBuilder builder(attention);
      auto append = dialect::KvAppendOp::create(builder, attention.getLoc(), key, value, cache);
      attention.getKeyMutable().clear();
      attention.getValueMutable().clear();
      attention.getKvMutable().assign(append.getResult());
    }
    cachesOf[function] = types;
    return types;
  }

  int64_t numLayers = 0;

private:
  ModuleOp module;
  Type element;
  llvm::DenseMap<Operation *, SmallVector<Type>> cachesOf;
};

// Hands the positions of `@main` to functions that read a token's number, and reads the position instead.
class PositionReader {
public:
  PositionReader(ModuleOp module, Value positions) : module(module), positions(positions) {}

  void replace(linalg::IndexOp read) {
    auto structured = read->getParentOfType<linalg::LinalgOp>();
    auto function = structured->getParentOfType<func::FuncOp>();
    Value source = positionsIn(function);
    // A generic operation with one more input: the positions, along the loop of the tokens.
    OpBuilder builder(structured);
    IRRewriter rewriter(builder);
    auto generic = dyn_cast<linalg::GenericOp>(structured.getOperation());
    assert(generic && "only generic operations read loop indices");
    SmallVector<AffineMap> maps = generic.getIndexingMapsArray();
    unsigned numInputs = generic.getNumDpsInputs();
    maps.insert(maps.begin() + numInputs,
                AffineMap::get(generic.getNumLoops(), 0, {builder.getAffineDimExpr(read.getDim())},
                               module.getContext()));
    Type elementType = cast<RankedTensorType>(source.getType()).getElementType();
    Value element = generic.getBody()->insertArgument(numInputs, elementType, read.getLoc());
    generic.getInputsMutable().append(source);
    generic.setIndexingMapsAttr(builder.getAffineMapArrayAttr(maps));
    builder.setInsertionPoint(read);
    Value position = arith::IndexCastOp::create(builder, read.getLoc(), builder.getIndexType(), element);
    read.replaceAllUsesWith(position);
    read.erase();
  }

private:
  Value positionsIn(func::FuncOp function) {
    if (!function.isPrivate())
      return positions;
    Value &argument = positionsOf[function];
    if (argument)
      return argument;
    argument = appendArgument(function, positions.getType());
    Value result = argument;
    SmallVector<func::CallOp> calls;
    module.walk([&](func::CallOp call) {
      if (call.getCallee() == function.getName())
        calls.push_back(call);
    });
    for (func::CallOp call : calls)
      appendOperand(call, positionsIn(call->getParentOfType<func::FuncOp>()));
    return result;
  }

  ModuleOp module;
  Value positions;
  llvm::DenseMap<Operation *, Value> positionsOf;
};

struct InsertKvCachePass : impl::InsertKvCacheBase<InsertKvCachePass> {
  using InsertKvCacheBase::InsertKvCacheBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    if (kvElement != "f16" && kvElement != "f32" && kvElement != "int8") {
      module.emitError("the cache's element type is `") << kvElement << "`; it is f32, f16 or int8";
      return signalPassFailure();
    }
    auto main = module.lookupSymbol<func::FuncOp>("main");
    if (!main || main.isExternal()) {
      module.emitError("the module has no function `main` with a body");
      return signalPassFailure();
    }
    TokenAnalysis analysis(module);
    Value positions = positionsOf(main);
    if (!analysis.isTokenWise())
      return keepStateless(analysis);
    PositionReader reader(module, positions);
    for (linalg::IndexOp read : analysis.positionReads())
      reader.replace(read);
    Builder builder(&getContext());
    CacheInserter inserter(module,
                           kvElement == "int8"  ? Type(builder.getI8Type())
                           : kvElement == "f16" ? Type(builder.getF16Type())
                                                : Type(builder.getF32Type()));
    inserter.insert(main);
    LDBG() << inserter.numLayers << " layers have a cache";
  }

  // The second argument of `main`: the tokens' positions; appended when the graph counts by itself.
  Value positionsOf(func::FuncOp main) {
    auto isPositions = [](Type type) {
      auto tensor = dyn_cast<RankedTensorType>(type);
      return tensor && tensor.getRank() == 1 && tensor.isDynamicDim(0) &&
             tensor.getElementType().isInteger(32);
    };
    if (main.getNumArguments() > 1 && isPositions(main.getArgumentTypes()[1]))
      return main.getArgument(1);
    Type type = RankedTensorType::get({ShapedType::kDynamic}, IntegerType::get(&getContext(), 32));
    SmallVector<Type> types(main.getArgumentTypes());
    types.insert(types.begin() + 1, type);
    main.setType(FunctionType::get(&getContext(), types, main.getResultTypes()));
    return main.front().insertArgument(1, type, main.getLoc());
  }

  void keepStateless(const TokenAnalysis &analysis) {
    Builder builder(&getContext());
    SmallVector<Attribute> notes;
    if (auto known = getOperation()->getAttrOfType<ArrayAttr>("girih.notes"))
      llvm::append_range(notes, known);
    for (const TokenAnalysis::Refusal &refusal : analysis.refusals()) {
      refusal.op->emitRemark("runs without a cache: ") << refusal.reason;
      std::string text;
      llvm::raw_string_ostream stream(text);
      refusal.op->getLoc().print(stream);
      stream << ": runs without a cache: `" << refusal.op->getName() << "` " << refusal.reason;
      notes.push_back(builder.getStringAttr(text));
    }
    getOperation()->setAttr("girih.notes", builder.getArrayAttr(notes));
    getOperation()->setAttr("girih.recompute", builder.getUnitAttr());
  }
};

} // namespace
} // namespace girih::compiler
