// SPDX-License-Identifier: Apache-2.0
// describe: devices as data. Programs are compiled for a profile, not for the device that happens to be here.
#include "backends/vulkan/codegen/backend.h"

using girih::machine::DescriptionAttr;
using girih::machine::LevelAttr;
using girih::machine::UnitAttr;

namespace girih::vulkan {
namespace {

struct Profile {
  const char *name;
  int64_t cores, clockMhz, barrierNs; // cores: workgroups that run at the same time
  int64_t sharedBytes, cacheBytes;
  int64_t lanes, registers;
  ShaderTraits traits;
  const char *features, *limitsSource, *speedSource;
};

constexpr Profile kProfiles[] = {
    // Barrier: workgroups do not outlive their dispatch, so none could repeat another's work instead of waiting for it.
    // Registers: what an invocation keeps beside addresses; more of them make tiles that shared memory cannot hold.
    {"portable",
     8,
     1000,
     1,
     16 << 10,
     1 << 20,
     32,
     10,
     {},
     "",
     "the least that Vulkan 1.1 requires of a device",
     "assumed: an integrated device"},
    // Kinds of real devices, of which none was at hand: limits as owners of some report them, speeds assumed. A device takes the
    // last profile whose features it has, so the more demanding come later.
    {"mobile",
     4,
     850,
     1,
     32 << 10,
     512 << 10,
     64,
     10,
     {},
     "shared_32k",
     "as two Android phones report: github.com/ggml-org/whisper.cpp/pull/3590 and github.com/mpv-android/mpv-android/pull/544",
     "assumed: four cores of a phone's device"},
    {"integrated",
     3,
     1000,
     1,
     32 << 10,
     512 << 10,
     32,
     20,
     {},
     "integrated,shared_32k,subgroup_32",
     "as an Intel UHD 620 reports: github.com/ValveSoftware/gamescope/issues/361",
     "assumed: Intel Gen9 GT2, three subslices"},
    {"desktop",
     6,
     1300,
     1,
     48 << 10,
     1 << 20,
     32,
     28,
     {},
     "discrete,shared_48k,subgroup_32",
     "as an NVIDIA device reports: github.com/doitsujin/dxvk/issues/267; its subgroups of 32 are assumed",
     "assumed: NVIDIA GP107, six multiprocessors"},
    // Invocations are lanes of a processor's vectors, and each load of a lane from a storage buffer is a turn of a loop;
    // texels are gathered by straight code. So: few invocations with much work each, which load four words at a time and hand
    // each other what they loaded.
    {"software",
     2,
     3000,
     1,
     32 << 10,
     2 << 20,
     8,
     32,
     {.sharesRegisters = true, .readsTexels = true},
     "software,subgroup_8,texels",
     "vulkaninfo of Mesa 22.3's lavapipe",
     "assumed: two cores with AVX2"},
};

const Profile *find(llvm::StringRef name) {
  const Profile *found =
      llvm::find_if(kProfiles, [&](const Profile &profile) { return name == profile.name; });
  return found == std::end(kProfiles) ? nullptr : found;
}

} // namespace

std::string profileNames() {
  std::string names;
  for (const Profile &profile : kProfiles)
    names += (names.empty() ? "" : ",") + std::string(profile.name);
  return names;
}

std::string requiredFeatures(llvm::StringRef name) { return find(name) ? find(name)->features : ""; }

ShaderTraits traitsOf(llvm::StringRef name) { return find(name) ? find(name)->traits : ShaderTraits(); }

DescriptionAttr describeMachine(mlir::MLIRContext *context, llvm::StringRef name) {
  const Profile *profile = find(name);
  if (!profile)
    return {};
  LevelAttr levels[] = {
      LevelAttr::get(context, "shared", profile->sharedBytes, 64, 20, 1, profile->limitsSource),
      LevelAttr::get(context, "L2", profile->cacheBytes, 32, 100, profile->cores, profile->speedSource),
      LevelAttr::get(context, "memory", int64_t(1) << 40, 8, 300, profile->cores, profile->speedSource),
  };
  UnitAttr units[] = {
      UnitAttr::get(context, "fma", "f32", profile->lanes, 1, 4, profile->registers, profile->speedSource),
      UnitAttr::get(context, "vector", "i32", profile->lanes, 1, 4, profile->registers, profile->speedSource),
  };
  return DescriptionAttr::get(context, (llvm::Twine("Vulkan ") + name).str(), "gpu", profile->cores,
                              profile->clockMhz, profile->barrierNs, levels, units);
}

} // namespace girih::vulkan
