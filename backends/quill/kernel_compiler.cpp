// SPDX-License-Identifier: Apache-2.0
// One pass over the text: an expression leaves its value in a register, a statement frees those that it took.
#include "kernel_compiler.h"

#include "lexer.h"

#include <girih/step.h>

#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <map>

namespace quill {
namespace {

enum class Type { Integer, Float, Address, Array };

struct Element {
  const char *name;
  uint32_t bytes;
  Op load, store;
};
constexpr Element kElements[] = {
    {"float", 4, Op::LoadF, Op::StoreF},    {"int64_t", 8, Op::Load64, Op::Store64}, {"int32_t", 4, Op::Load32, Op::Store32},
    {"int8_t", 1, Op::Load8S, Op::Store8},  {"uint8_t", 1, Op::Load8, Op::Store8},   {"uint16_t", 2, Op::Load16, Op::Store16},
};

struct Value {
  Type type;
  uint16_t reg = 0;
  const Element *element = nullptr;  // of an array, whose place is in `reg` when it is computed, else
  int64_t place = -1;                // here
};

struct BinaryOperator {
  const char *word;
  int precedence;
  Op integer, floating;  // Halt: there is none
  bool isSwapped;        // x > y is y < x
};
constexpr BinaryOperator kBinary[] = {
    {"||", 1, Op::Or, Op::Halt, false},          {"&&", 2, Op::And, Op::Halt, false},
    {"|", 3, Op::Or, Op::Halt, false},           {"&", 4, Op::And, Op::Halt, false},
    {"==", 5, Op::Equal, Op::EqualF, false},     {"!=", 5, Op::NotEqual, Op::NotEqualF, false},
    {"<", 6, Op::Less, Op::LessF, false},        {"<=", 6, Op::LessEqual, Op::LessEqualF, false},
    {">", 6, Op::Less, Op::LessF, true},         {">=", 6, Op::LessEqual, Op::LessEqualF, true},
    {"<<", 7, Op::Shl, Op::Halt, false},         {">>", 7, Op::Shr, Op::Halt, false},
    {"+", 8, Op::Add, Op::AddF, false},          {"-", 8, Op::Sub, Op::SubF, false},
    {"*", 9, Op::Mul, Op::MulF, false},          {"/", 9, Op::Div, Op::DivF, false},
    {"%", 9, Op::Rem, Op::Halt, false},
};
constexpr int kComparison = 5, kLastComparison = 6, kUnary = 10;

struct Function {
  const char *name;
  Op op;
  Type from, to;
};
constexpr Function kFunctions[] = {
    {"expf", Op::Exp, Type::Float, Type::Float},   {"sinf", Op::Sin, Type::Float, Type::Float},
    {"cosf", Op::Cos, Type::Float, Type::Float},   {"tanhf", Op::Tanh, Type::Float, Type::Float},
    {"sqrtf", Op::Sqrt, Type::Float, Type::Float}, {"logf", Op::Log, Type::Float, Type::Float},
    {"fabsf", Op::AbsF, Type::Float, Type::Float}, {"powf", Op::Pow, Type::Float, Type::Float},
    {"girih_f32_of_f16", Op::HalfToFloat, Type::Integer, Type::Float},
    {"girih_f16_of_f32", Op::FloatToHalf, Type::Float, Type::Integer},
    {"girih_f32_of_bits", Op::BitsToFloat, Type::Integer, Type::Float},
    {"girih_bits_of_f32", Op::FloatToBits, Type::Float, Type::Integer},
};

// The machine's builtins: operands in consecutive registers.
struct Builtin {
  const char *name;
  Op op;
  size_t numOperands;
};
constexpr Builtin kBuiltins[] = {{"quill_dma_in", Op::DmaIn, 5}, {"quill_dma_out", Op::DmaOut, 5}, {"quill_multiply", Op::Multiply, 3}};

struct Field {
  const char *name;
  Type type;
};
// Of girih_step_args, in its order.
constexpr Field kFields[] = {
    {"struct_size", Type::Integer},     {"num_tokens", Type::Integer},      {"num_sequences", Type::Integer},
    {"num_logit_rows", Type::Integer},  {"tokens", Type::Address},          {"positions", Type::Address},
    {"token_sequences", Type::Address}, {"kv_slots", Type::Address},        {"sequence_starts", Type::Address},
    {"context_lengths", Type::Address}, {"block_tables", Type::Address},    {"block_table_stride", Type::Integer},
    {"logit_rows", Type::Address},      {"logits", Type::Address},          {"weights", Type::Address},
    {"kv_pool", Type::Address},         {"arena", Type::Address},           {"barrier", Type::Address},
    {"team", Type::Address},            {"iteration", Type::Integer},
};

template <typename Row, size_t N> const Row *find(const Row (&table)[N], const std::string &name) {
  for (const Row &row : table)
    if (name == row.name)
      return &row;
  return nullptr;
}

class KernelCompiler {
public:
  explicit KernelCompiler(std::string_view text) : lexer(text) {}

  Program run() {
    while (!lexer.isAtEnd())
      lexer.take("static") ? table() : function();
    return std::move(program);
  }

private:
  // ---- Instructions, registers, places ----
  void emit(Op op, uint16_t d, uint16_t a = 0, uint16_t b = 0) { program.code.push_back({op, 0, d, a, b}); }

  uint16_t newRegister() {
    if (numRegisters == kRegisters)
      throw Refusal(GIRIH_RESOURCE_EXHAUSTED, "`" + entryName + "` has more than " + std::to_string(kRegisters) +
                                                  " variables at once; a core has that many registers");
    return uint16_t(numRegisters++);
  }

  uint16_t constant(uint64_t bits) {
    auto [known, isNew] = constantPlaces.emplace(bits, program.data.size());
    if (isNew)
      addData(bits);
    uint16_t reg = newRegister();
    emit(Op::Const, reg, known->second);
    return reg;
  }
  void addData(uint64_t word) {
    if (program.data.size() == kDataWords)
      throw Refusal(GIRIH_RESOURCE_EXHAUSTED, "a program has more than " + std::to_string(kDataWords) + " constants and numbers in tables");
    program.data.push_back(word);
  }
  Value integer(int64_t value) { return {Type::Integer, constant(uint64_t(value))}; }
  Value floating(float value) {
    return {Type::Float, constant(bitsOf(value))};
  }

  size_t jump(Op op, uint16_t reg = 0) {
    emit(op, reg);
    return program.code.size() - 1;
  }
  void land(size_t at, size_t target) {
    program.code[at].a = uint16_t(target & 0xffff);
    program.code[at].b = uint16_t(target >> 16);
  }
  void landHere(size_t at) { land(at, program.code.size()); }

  // ---- Expressions ----
  Value expression(int least = 0) {
    Value left = unary();
    while (const BinaryOperator *op = operatorHere(least)) {
      lexer.takeWord();
      if (op->precedence <= 2)
        left = truth(left);
      Value right = expression(op->precedence + 1);
      left = combine(*op, left, op->precedence <= 2 ? truth(right) : right);
    }
    return least == 0 && lexer.take("?") ? choice(left) : left;
  }

  const BinaryOperator *operatorHere(int least) {
    for (const BinaryOperator &op : kBinary)
      if (lexer.word() == op.word && op.precedence >= least)
        return &op;
    return nullptr;
  }

  Value truth(Value value) {
    need(value, Type::Integer);
    uint16_t zero = constant(0), reg = newRegister();
    emit(Op::NotEqual, reg, value.reg, zero);
    return {Type::Integer, reg};
  }

  Value combine(const BinaryOperator &op, Value left, Value right) {
    if (left.type == Type::Array && op.integer == Op::Add)
      return advanced(left, right);
    bool isAddress = left.type == Type::Address && op.integer == Op::Add && right.type == Type::Integer;
    if (left.type != right.type && !isAddress)
      lexer.fail("both sides of `" + std::string(op.word) + "` have one type");
    Op code = left.type == Type::Float ? op.floating : op.integer;
    if (code == Op::Halt || left.type == Type::Array)
      lexer.fail("`" + std::string(op.word) + "` is not for these operands");
    uint16_t reg = newRegister();
    emit(code, reg, op.isSwapped ? right.reg : left.reg, op.isSwapped ? left.reg : right.reg);
    bool isComparison = op.precedence >= kComparison && op.precedence <= kLastComparison;
    return {isComparison ? Type::Integer : left.type, reg};
  }

  // Where an array is, in a register.
  uint16_t placeOf(Value array) { return array.place >= 0 ? constant(uint64_t(array.place)) : array.reg; }

  Value advanced(Value array, Value by) {
    need(by, Type::Integer);
    uint16_t size = constant(array.element->bytes), reg = newRegister(), begin = placeOf(array);
    emit(Op::Mul, reg, by.reg, size);
    emit(Op::Add, reg, begin, reg);
    return {Type::Array, reg, array.element};
  }

  Value choice(Value condition) {
    need(condition, Type::Integer);
    uint16_t reg = newRegister();
    size_t toElse = jump(Op::JumpIfZero, condition.reg);
    Value first = expression();
    emit(Op::Move, reg, first.reg);
    size_t toEnd = jump(Op::Jump);
    landHere(toElse);
    lexer.expect(":");
    Value second = expression();
    if (first.type != second.type || first.type == Type::Array)
      lexer.fail("both choices have one type");
    emit(Op::Move, reg, second.reg);
    landHere(toEnd);
    return {first.type, reg};
  }

  Value unary() {
    if (lexer.take("-")) {
      Value value = expression(kUnary);
      uint16_t reg = newRegister();
      if (value.type == Type::Float)
        emit(Op::NegF, reg, value.reg);
      else
        emit(Op::Sub, reg, constant(0), value.reg);
      return {value.type, reg};
    }
    if (lexer.take("(")) {
      for (const char *name : {"int64_t", "int32_t", "float", "girih_address"})
        if (lexer.take(name)) {
          lexer.expect(")");
          return cast(name, expression(kUnary));
        }
      Value value = expression();
      lexer.expect(")");
      return value;
    }
    return lexer.isNumber() ? number(lexer.takeWord()) : named(lexer.takeName());
  }

  Value cast(const std::string &to, Value value) {
    uint16_t reg = newRegister();
    if (to == "girih_address") {
      need(value, Type::Address);
      return value;
    }
    if (to == "float") {
      emit(value.type == Type::Float ? Op::Move : Op::ToFloat, reg, value.reg);
      return {Type::Float, reg};
    }
    emit(value.type == Type::Float ? Op::ToInteger : Op::Move, reg, value.reg);
    if (to == "int32_t")
      emit(Op::Cut32, reg, reg);
    return {Type::Integer, reg};
  }

  Value number(const std::string &word) {
    bool isHex = word.rfind("0x", 0) == 0;
    if (!isHex && word.find_first_of(".ef") != std::string::npos)
      return floating(std::strtof(word.c_str(), nullptr));
    return integer(int64_t(std::strtoull(word.c_str(), nullptr, 0)));
  }

  Value named(const std::string &name) {
    if (name == "INFINITY")
      return floating(INFINITY);
    if (name == "args")
      return field();
    if (lexer.take("("))
      return call(name);
    if (auto known = tablePlaces.find(name); known != tablePlaces.end())
      return tableElement(known->second);
    Value value = variable(name);
    return value.type == Type::Array && lexer.take("[") ? element(value) : value;
  }

  Value &variable(const std::string &name) {
    auto known = variables.find(name);
    if (known == variables.end())
      lexer.fail("`" + name + "` is not declared");
    return known->second;
  }

  Value field() {
    lexer.expect("->");
    const Field *field = find(kFields, lexer.takeName());
    if (!field)
      lexer.fail("the step has no such argument");
    uint16_t reg = newRegister();
    emit(Op::Argument, reg, uint16_t(field - kFields));
    return {field->type, reg};
  }

  Value index() {
    Value value = expression();
    lexer.expect("]");
    need(value, Type::Integer);
    return value;
  }
  Value tableElement(const std::pair<uint16_t, Type> &table) {
    lexer.expect("[");
    Value at = index();
    uint16_t reg = newRegister();
    emit(Op::Table, reg, at.reg, table.first);
    return {table.second, reg};
  }
  Value element(Value array) {
    Value at = index();
    uint16_t reg = newRegister();
    emit(array.element->load, reg, at.reg, uint16_t(array.place));
    return {array.element->load == Op::LoadF ? Type::Float : Type::Integer, reg};
  }

  Value call(const std::string &name) {
    Value first = expression();
    if (name == "fmaf") {
      Value second = argument(), third = argument();
      lexer.expect(")");
      uint16_t reg = newRegister();
      emit(Op::Move, reg, third.reg);
      emit(Op::Fma, reg, first.reg, second.reg);
      return {Type::Float, reg};
    }
    const Function *function = find(kFunctions, name);
    if (!function)
      lexer.fail("`" + name + "` is no function that a text may call");
    need(first, function->from);
    Value second = function->op == Op::Pow ? argument() : first;
    lexer.expect(")");
    uint16_t reg = newRegister();
    emit(function->op, reg, first.reg, second.reg);
    return {function->to, reg};
  }
  Value argument() {
    lexer.expect(",");
    return expression();
  }

  void need(Value value, Type type) {
    if (value.type != type)
      lexer.fail(std::string("an operand of another type is expected: ") + (type == Type::Float     ? "float"
                                                                            : type == Type::Integer ? "int64_t"
                                                                                                    : "girih_address"));
  }

  // ---- Statements ----
  // A block frees its names, registers and places.
  void block() {
    lexer.expect("{");
    auto names = variables;
    uint32_t registers = numRegisters, bytes = usedBytes;
    while (!lexer.take("}"))
      statement();
    variables = std::move(names);
    numRegisters = registers;
    usedBytes = bytes;
  }

  void statement() {
    if (lexer.word() == "{")
      return block();
    if (lexer.take("for"))
      return loop();
    if (lexer.take("if"))
      return condition();
    std::string first = lexer.takeName();
    const Element *type = find(kElements, first);
    if (type || first == "girih_address")
      return declaration(first, type);
    uint32_t registers = numRegisters;
    if (lexer.take("("))
      builtin(first);
    else if (lexer.take("["))
      store(variable(first));
    else
      assign(variable(first));
    lexer.expect(";");
    numRegisters = registers;
  }

  Type scalarType(const std::string &name) {
    if (name != "int64_t" && name != "float" && name != "girih_address")
      lexer.fail("a variable is an int64_t, a float or a girih_address");
    return name == "int64_t" ? Type::Integer : name == "float" ? Type::Float : Type::Address;
  }

  void declaration(const std::string &typeName, const Element *element) {
    std::string name = lexer.takeName();
    if (element && lexer.take("[")) {
      array(name, element);
      return lexer.expect(";");
    }
    declareScalar(name, scalarType(typeName));
    lexer.expect(";");
  }

  void declareScalar(const std::string &name, Type type) {
    uint16_t reg = newRegister();
    lexer.expect("=");
    Value value = expression();
    need(value, type);
    emit(Op::Move, reg, value.reg);
    numRegisters = reg + 1u;
    variables[name] = {type, reg};
  }

  void array(const std::string &name, const Element *element) {
    uint64_t count = std::strtoull(lexer.takeWord().c_str(), nullptr, 0);
    lexer.expect("]");
    uint64_t begin = (usedBytes + 15u) / 16 * 16;
    if (count == 0 || count > kScratchpadBytes || begin + count * element->bytes > kScratchpadBytes)
      throw Refusal(GIRIH_RESOURCE_EXHAUSTED, "`" + entryName + "` needs " + std::to_string(begin + count * element->bytes) +
                                                  " bytes of scratchpad for `" + name + "`; a core has " +
                                                  std::to_string(kScratchpadBytes) + ": smaller tiles are needed");
    variables[name] = {Type::Array, 0, element, int64_t(begin)};
    usedBytes = uint32_t(begin + count * element->bytes);
  }

  void store(Value array) {
    Value at = index();
    lexer.expect("=");
    Value value = expression();
    need(value, array.element->store == Op::StoreF ? Type::Float : Type::Integer);
    emit(array.element->store, value.reg, at.reg, uint16_t(array.place));
  }

  void assign(Value variable) {
    lexer.expect("=");
    Value value = expression();
    need(value, variable.type);
    emit(Op::Move, variable.reg, value.reg);
  }

  void builtin(const std::string &name) {
    if (name == "quill_barrier") {
      expectWords({"args", ",", "thread", ")"});
      return emit(Op::Barrier, 0);
    }
    const Builtin *builtin = find(kBuiltins, name);
    if (!builtin)
      lexer.fail("`" + name + "` is no unit of this machine");
    uint16_t first = newRegister();
    for (size_t operand = 1; operand < builtin->numOperands; ++operand)
      newRegister();
    for (size_t operand = 0; operand < builtin->numOperands; ++operand) {
      Value value = operand == 0 ? expression() : argument();
      bool isMemory = builtin->op == (operand == 0 ? Op::DmaOut : Op::DmaIn);
      need(value, operand > 1 && builtin->op != Op::Multiply ? Type::Integer
                  : operand < 2 && isMemory && builtin->op != Op::Multiply ? Type::Address
                                                                           : Type::Array);
      emit(Op::Move, uint16_t(first + operand), value.type == Type::Array ? placeOf(value) : value.reg);
    }
    lexer.expect(")");
    emit(builtin->op, first);
  }

  void expectWords(std::initializer_list<const char *> words) {
    for (const char *word : words)
      lexer.expect(word);
  }

  // for (int64_t i = begin; i < end; i += step) { ... }
  void loop() {
    auto names = variables;
    uint32_t registers = numRegisters;
    expectWords({"(", "int64_t"});
    std::string name = lexer.takeName();
    declareScalar(name, Type::Integer);
    uint16_t counter = variables[name].reg, end = newRegister(), step = newRegister();
    expectWords({";", name.c_str(), "<"});
    // Neither changes while the loop runs: nothing but tables, arguments and variables of before it is in them.
    emit(Op::Move, end, expression().reg);
    expectWords({";", name.c_str(), "+="});
    emit(Op::Move, step, expression().reg);
    lexer.expect(")");
    numRegisters = step + 1u;
    size_t begin = program.code.size();
    uint16_t goesOn = newRegister();
    emit(Op::Less, goesOn, counter, end);
    size_t toEnd = jump(Op::JumpIfZero, goesOn);
    block();
    emit(Op::Add, counter, counter, step);
    land(jump(Op::Jump), begin);
    landHere(toEnd);
    variables = std::move(names);
    numRegisters = registers;
  }

  void condition() {
    uint32_t registers = numRegisters;
    lexer.expect("(");
    Value value = expression();
    need(value, Type::Integer);
    lexer.expect(")");
    size_t toElse = jump(Op::JumpIfZero, value.reg);
    numRegisters = registers;
    block();
    if (lexer.take("else")) {
      size_t toEnd = jump(Op::Jump);
      landHere(toElse);
      block();
      landHere(toEnd);
    } else {
      landHere(toElse);
    }
  }

  // ---- What stands outside ----
  void table() {
    lexer.expect("const");
    Type type = scalarType(lexer.takeName());
    std::string name = lexer.takeName();
    lexer.expect("[");
    uint64_t count = std::strtoull(lexer.takeWord().c_str(), nullptr, 0);
    expectWords({"]", "=", "{"});
    tablePlaces[name] = {uint16_t(program.data.size()), type};
    size_t end = program.data.size() + count;
    do {
      bool isNegative = lexer.take("-");
      std::string word = lexer.takeWord();
      float value = word == "INFINITY" ? INFINITY : std::strtof(word.c_str(), nullptr);
      int64_t whole = int64_t(std::strtoull(word.c_str(), nullptr, 0));
      addData(type == Type::Float ? bitsOf(isNegative ? -value : value) : uint64_t(isNegative ? -whole : whole));
    } while (lexer.take(","));
    if (program.data.size() != end)
      lexer.fail("a table has as many numbers as it says");
    expectWords({"}", ";"});
  }

  static uint64_t bitsOf(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    return bits;
  }

  void function() {
    lexer.expect("void");
    entryName = lexer.takeName();
    expectWords({"(", "const", "girih_step_args", "*", "args", ",", "int64_t", "thread", ",", "int64_t", "threads", ")"});
    variables = {{"thread", {Type::Integer, 0}}, {"threads", {Type::Integer, 1}}};
    numRegisters = 2;
    usedBytes = 0;
    program.entries.push_back({entryName, uint32_t(program.code.size())});
    block();
    emit(Op::Halt, 0);
  }

  Lexer lexer;
  Program program;
  std::string entryName;
  std::map<std::string, Value> variables;
  std::map<std::string, std::pair<uint16_t, Type>> tablePlaces;
  std::map<uint64_t, uint16_t> constantPlaces;
  uint32_t numRegisters = 2, usedBytes = 0;
};

}  // namespace

Program compileKernels(std::string_view text) { return KernelCompiler(text).run(); }

}  // namespace quill
