// SPDX-License-Identifier: Apache-2.0
// oneDNN's matmul on given shapes: what a good library does with the same numbers, beside our emitted kernels.
//
//   onednn_bench [--threads N] [--rows 1,8,512] [--shapes 960x576,...] [--format json]
//   onednn_bench --judge FILE     compares the answers in FILE (cpu_matmul_answers) with those of its f32 matmul
//
// A shape is columns x depth. Before it is timed, each primitive's answer is compared with plain loops in f64. Weights
// are those of as many layers as exceed a last-level cache's share, one after the other, as a step reads them.
#include <oneapi/dnnl/dnnl.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace {

using dnnl::memory;
using DataType = memory::data_type;
using Clock = std::chrono::steady_clock;

constexpr int64_t kWeightBytes = 96'000'000; // of all layers together: as the default model's
constexpr double kSecondsEach = 0.15;        // of timing a primitive
constexpr double kMostOperations = 5e9;      // a head over a whole chunk of prompt is what no step computes
[[maybe_unused]] constexpr int64_t kGroup = 32; // weights that share a scale, as in the default model

struct Shape {
  int64_t columns, depth;
};
struct Options {
  std::vector<int64_t> rows = {1, 8, 512};
  std::vector<Shape> shapes = {{960, 576}, {576, 576}, {3072, 576}, {576, 1536}, {49152, 576}};
  bool isJson = false;
  std::string judged; // a file of answers
};
struct Kind {
  const char *name;
  DataType source, weights, result;
  double weightBytes; // of one weight, without scales
  double tolerance;   // of the largest result
};

// Integers as small as these are exact in every type here, so that only the order of sums may differ.
float sourceValue(int64_t index) { return float(index * 7 % 5) - 2; }
float weightValue(int64_t index) { return float(index * 11 % 7) - 3; }

void store(memory &to, const std::vector<float> &values, DataType type, const memory::dims &extents,
           dnnl::stream &stream) {
  memory::desc plain(extents, DataType::f32, memory::format_tag::ab);
  memory from(plain, to.get_engine(), const_cast<float *>(values.data()));
  if (type == DataType::f32 && plain == to.get_desc())
    std::memcpy(to.get_data_handle(), values.data(), values.size() * sizeof(float));
  else
    dnnl::reorder(from, to).execute(stream, from, to);
  stream.wait();
}

// One primitive with its memory, ready to run layer after layer.
class Matmul {
public:
  Matmul(const dnnl::engine &engine, const Kind &kind, int64_t rows, Shape shape)
      : engine(engine), stream(engine), kind(kind), rows(rows), shape(shape) {
    memory::desc source({rows, shape.depth}, kind.source, memory::format_tag::ab);
    memory::desc weights({shape.depth, shape.columns}, kind.weights, memory::format_tag::any);
    memory::desc result({rows, shape.columns}, kind.result, memory::format_tag::ab);
    dnnl::primitive_attr attributes;
#if DNNL_VERSION_MAJOR >= 3
    if (kind.weights == DataType::u4) {
      // The weights stay packed; kernels make floats of them with a scale for each group.
      attributes.set_fpmath_mode(dnnl::fpmath_mode::bf16, true);
      attributes.set_scales(DNNL_ARG_WEIGHTS, (1 << 0) | (1 << 1), {kGroup, 1}, DataType::f32);
      attributes.set_zero_points(DNNL_ARG_WEIGHTS, (1 << 0) | (1 << 1), {kGroup, 1}, DataType::u8);
    }
    description = std::make_unique<dnnl::matmul::primitive_desc>(engine, source, weights, result, attributes);
#else
    description = std::make_unique<dnnl::matmul::primitive_desc>(dnnl::matmul::desc(source, weights, result),
                                                                 attributes, engine);
#endif
    primitive = dnnl::matmul(*description);
    fill(source, result);
  }

  void run(size_t layer) {
    arguments[DNNL_ARG_WEIGHTS] = layers[layer % layers.size()];
    primitive.execute(stream, arguments);
    stream.wait();
  }

  // The first row against plain loops.
  bool isRight() {
    run(0);
    std::vector<float> answer(size_t(rows * shape.columns));
    memory::desc plain({rows, shape.columns}, DataType::f32, memory::format_tag::ab);
    memory read(plain, engine, answer.data());
    memory &written = arguments[DNNL_ARG_DST];
    dnnl::reorder(written, read).execute(stream, written, read);
    stream.wait();
    double worst = 0, largest = 0;
    for (int64_t column = 0; column < shape.columns; ++column) {
      double sum = 0;
      for (int64_t k = 0; k < shape.depth; ++k)
        sum += double(sourceValue(k)) * weightValue(k * shape.columns + column);
      worst = std::max(worst, std::abs(sum - answer[size_t(column)]));
      largest = std::max(largest, std::abs(sum));
    }
    return worst <= kind.tolerance * largest;
  }

  std::string implementation() const { return description->impl_info_str(); }

private:
  void fill(const memory::desc &source, const memory::desc &result) {
    std::vector<float> values(size_t(rows * shape.depth));
    for (size_t index = 0; index < values.size(); ++index)
      values[index] = sourceValue(int64_t(index) % shape.depth);
    arguments[DNNL_ARG_SRC] = memory(source, engine);
    store(arguments[DNNL_ARG_SRC], values, kind.source, {rows, shape.depth}, stream);
    arguments[DNNL_ARG_DST] = memory(result, engine);
    bool isPacked = kind.weightBytes < 1;
    values.resize(size_t(shape.depth * shape.columns));
    for (size_t index = 0; index < values.size(); ++index)
      values[index] = weightValue(int64_t(index)) + (isPacked ? 8 : 0);
    int64_t numLayers =
        std::clamp<int64_t>(kWeightBytes / int64_t(kind.weightBytes * double(values.size())), 1, 64);
    for (int64_t layer = 0; layer < numLayers; ++layer) {
      layers.emplace_back(description->weights_desc(), engine);
      store(layers.back(), values, kind.weights, {shape.depth, shape.columns}, stream);
    }
#if DNNL_VERSION_MAJOR >= 3
    if (!isPacked)
      return;
    memory::dims groups = {shape.depth / kGroup, shape.columns};
    memory scales({groups, DataType::f32, memory::format_tag::ab}, engine);
    std::fill_n(static_cast<float *>(scales.get_data_handle()), groups[0] * groups[1], 1.0f);
    memory zeros({groups, DataType::u8, memory::format_tag::ab}, engine);
    std::memset(zeros.get_data_handle(), 8, size_t(groups[0] * groups[1]));
    arguments[DNNL_ARG_ATTR_SCALES | DNNL_ARG_WEIGHTS] = scales;
    arguments[DNNL_ARG_ATTR_ZERO_POINTS | DNNL_ARG_WEIGHTS] = zeros;
#endif
  }

  dnnl::engine engine;
  dnnl::stream stream;
  const Kind kind;
  const int64_t rows;
  const Shape shape;
  std::unique_ptr<dnnl::matmul::primitive_desc> description;
  dnnl::matmul primitive;
  std::vector<memory> layers;
  std::unordered_map<int, memory> arguments;
};

struct Timing {
  double median = 0, least = 0, most = 0;
};

Timing timed(Matmul &matmul) {
  std::vector<double> seconds;
  for (double spent = 0; spent < kSecondsEach || seconds.size() < 5;) {
    auto begin = Clock::now();
    matmul.run(seconds.size());
    seconds.push_back(std::chrono::duration<double>(Clock::now() - begin).count());
    spent += seconds.back();
  }
  std::sort(seconds.begin(), seconds.end());
  return {seconds[seconds.size() / 2], seconds.front(), seconds.back()};
}

void measure(const dnnl::engine &engine, const Kind &kind, int64_t rows, Shape shape, bool isJson,
             bool &isFirst) {
  auto m = static_cast<long long>(rows), n = static_cast<long long>(shape.columns),
       k = static_cast<long long>(shape.depth);
  try {
    Matmul matmul(engine, kind, rows, shape);
    if (matmul.implementation().starts_with("ref")) {
      std::fprintf(stderr, "onednn_bench: %s %lld x %lld x %lld has only oneDNN's reference code here\n",
                   kind.name, m, n, k);
      return;
    }
    if (!matmul.isRight()) {
      std::fprintf(stderr, "onednn_bench: %s %lld x %lld x %lld gives another answer than plain loops\n",
                   kind.name, m, n, k);
      return;
    }
    Timing timing = timed(matmul);
    double operations = 2.0 * double(rows) * double(shape.columns) * double(shape.depth);
    double bytes = kind.weightBytes * double(shape.columns) * double(shape.depth);
    if (isJson)
      std::printf("%s\n  {\"rows\": %lld, \"columns\": %lld, \"depth\": %lld, \"type\": \"%s\", \"seconds\": "
                  "%.9f, \"seconds_min\": %.9f, "
                  "\"seconds_max\": %.9f, \"implementation\": \"%s\"}",
                  isFirst ? "" : ",", m, n, k, kind.name, timing.median, timing.least, timing.most,
                  matmul.implementation().c_str());
    else
      std::printf("%4lld x %5lld x %4lld  %-5s %9.1f us (%.1f .. %.1f)  %7.1f GB/s  %8.1f Gop/s  %s\n", m, n,
                  k, kind.name, timing.median * 1e6, timing.least * 1e6, timing.most * 1e6,
                  bytes / timing.median / 1e9, operations / timing.median / 1e9,
                  matmul.implementation().c_str());
    isFirst = false;
    std::fflush(stdout);
  } catch (const dnnl::error &error) {
    std::fprintf(stderr, "onednn_bench: %s %lld x %lld x %lld: %s\n", kind.name, m, n, k, error.what());
  }
}

// ---- Judging the answers of other kernels ----
std::vector<float> floats(std::istream &file, int64_t count) {
  std::vector<float> values(static_cast<size_t>(count));
  file.read(reinterpret_cast<char *>(values.data()), count * int64_t(sizeof(float)));
  return values;
}

// The f32 product of x [rows, depth] and w [depth, columns].
std::vector<float> product(const dnnl::engine &engine, std::vector<float> &x, std::vector<float> &w,
                           int64_t rows, Shape shape) {
  memory::desc source({rows, shape.depth}, DataType::f32, memory::format_tag::ab);
  memory::desc weights({shape.depth, shape.columns}, DataType::f32, memory::format_tag::ab);
  memory::desc result({rows, shape.columns}, DataType::f32, memory::format_tag::ab);
#if DNNL_VERSION_MAJOR >= 3
  dnnl::matmul::primitive_desc description(engine, source, weights, result);
#else
  dnnl::matmul::primitive_desc description(dnnl::matmul::desc(source, weights, result), engine);
#endif
  std::vector<float> y(static_cast<size_t>(rows * shape.columns));
  dnnl::stream stream(engine);
  dnnl::matmul(description)
      .execute(stream, {{DNNL_ARG_SRC, memory(source, engine, x.data())},
                        {DNNL_ARG_WEIGHTS, memory(weights, engine, w.data())},
                        {DNNL_ARG_DST, memory(result, engine, y.data())}});
  stream.wait();
  return y;
}

// 0 when every answer is right.
int judge(const dnnl::engine &engine, const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  std::string name;
  int64_t rows = 0, count = 0, wrong = 0;
  Shape shape{};
  double tolerance = 0;
  while (file >> name >> rows >> shape.columns >> shape.depth >> tolerance) {
    file.ignore(1);
    std::vector<float> x = floats(file, rows * shape.depth), w = floats(file, shape.depth * shape.columns);
    std::vector<float> answer = floats(file, rows * shape.columns),
                       right = product(engine, x, w, rows, shape);
    double worst = 0, largest = 0;
    for (size_t index = 0; index < right.size(); ++index) {
      // A NaN is worse than anything.
      double difference = std::abs(double(answer[index]) - right[index]);
      worst = difference <= worst ? worst : difference;
      largest = std::max(largest, std::abs(double(right[index])));
    }
    bool isRight = file && worst <= tolerance * largest;
    wrong += !isRight;
    ++count;
    std::printf("%s %-46s %4lld x %5lld x %5lld differs by %.1e of the largest, at most %.0e\n",
                isRight ? "ok   " : "WRONG", name.c_str(), static_cast<long long>(rows),
                static_cast<long long>(shape.columns), static_cast<long long>(shape.depth), worst / largest,
                tolerance);
  }
  std::printf("%lld of %lld answers agree with oneDNN's f32 matmul\n", static_cast<long long>(count - wrong),
              static_cast<long long>(count));
  return wrong || !count;
}

template <typename Number> std::vector<Number> numbers(const char *text) {
  std::vector<Number> values;
  for (char *at = const_cast<char *>(text); *at; at += *at == ',' || *at == 'x')
    values.push_back(Number(std::strtoll(at, &at, 10)));
  return values;
}

bool parse(int argc, char **argv, Options &options) {
  for (int index = 1; index + 1 < argc; index += 2) {
    std::string flag = argv[index];
    const char *value = argv[index + 1];
    if (flag == "--rows")
      options.rows = numbers<int64_t>(value);
    else if (flag == "--format")
      options.isJson = std::string(value) == "json";
    else if (flag == "--judge")
      options.judged = value;
    else if (flag == "--threads") // of both threading runtimes; see also taskset
      setenv("OMP_NUM_THREADS", value, 1);
    else if (flag == "--shapes") {
      auto extents = numbers<int64_t>(value);
      options.shapes.clear();
      for (size_t shape = 0; shape + 1 < extents.size(); shape += 2)
        options.shapes.push_back({extents[shape], extents[shape + 1]});
    } else
      return false;
  }
  return argc % 2 == 1;
}

} // namespace

int main(int argc, char **argv) {
  Options options;
  if (!parse(argc, argv, options)) {
    std::fprintf(stderr, "usage: onednn_bench [--threads N] [--rows 1,8,512] [--shapes 960x576,...] "
                         "[--format json] | --judge FILE\n");
    return 2;
  }
  std::vector<Kind> kinds = {{"f32", DataType::f32, DataType::f32, DataType::f32, 4, 1e-5},
                             {"bf16", DataType::bf16, DataType::bf16, DataType::f32, 2, 1e-5},
                             {"int8", DataType::s8, DataType::s8, DataType::f32, 1, 1e-5}};
#if DNNL_VERSION_MAJOR >= 3
  kinds.push_back({"u4", DataType::bf16, DataType::u4, DataType::f32, 0.5 + 5.0 / kGroup, 1e-5});
#endif
  dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  if (!options.judged.empty())
    return judge(engine, options.judged);
  const dnnl_version_t *version = dnnl_version();
  std::printf(options.isJson ? "{\"onednn\": \"%d.%d.%d\", \"kernels\": ["
                             : "oneDNN %d.%d.%d, rows x columns x depth\n",
              version->major, version->minor, version->patch);
  bool isFirst = true;
  for (int64_t rows : options.rows)
    for (Shape shape : options.shapes)
      for (const Kind &kind : kinds)
        if (2.0 * double(rows) * double(shape.columns) * double(shape.depth) <= kMostOperations)
          measure(engine, kind, rows, shape, options.isJson, isFirst);
  std::puts(options.isJson ? "]}" : "");
  return 0;
}
