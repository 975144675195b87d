// SPDX-License-Identifier: Apache-2.0
// The model cache: finds the .girih file behind what a user named, compiling a checkpoint once and keeping the result.
#pragma once

#include "runtime/base/expected.h"

#include <string>

namespace girih::tools {

// $GIRIH_CACHE, else $XDG_CACHE_HOME/girih, else ~/.cache/girih. Holds models/ (downloads), programs/ (compiled) and
// code/ (of architectures, for compiling other weights) and kv/ (of prompts, for serve).
// Fails: FailedPrecondition when no folder can be named.
Expected<std::string> cacheFolder();

// Where a server keeps what is its own, not made again from anything: $GIRIH_STATE, else $GIRIH_CACHE/state, else
// $XDG_STATE_HOME/girih, else ~/.local/state/girih. Fails as cacheFolder does.
Expected<std::string> stateFolder();

// The compiler's flag that names the cache's code/; empty when there is no such folder.
std::string codeCacheFlag();

// The girih-compile beside this binary. Fails: Unavailable when this build has no compiler.
Expected<std::string> findCompiler();

// `name` as a path of a .girih file: itself, or the cached program of the checkpoint (a .gguf file, a folder as Hugging
// Face writes it, or the name `smollm2`), which is compiled first where the cache does not have it, with progress on
// stderr. The cache's key is path, size and time of every file of the checkpoint, and the compiler's own.
// Fails: NotFound (no such file, and how to get smollm2), InvalidArgument (not a model), Internal and others of compiling.
Expected<std::string> resolveProgram(const std::string &name);

}  // namespace girih::tools
