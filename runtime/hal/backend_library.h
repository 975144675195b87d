// SPDX-License-Identifier: Apache-2.0
// From a query function, or a vendor's library, to a backend whose tables can be used without asking further.
#pragma once

#include "runtime/abi/backend.h"
#include "runtime/base/expected.h"

#include <string>

namespace girih::hal {

// Asks the query and checks what it answers. The result is the host's own copy, as long as the host's structs: what
// the other side does not have is null or zero. It is never freed; asking twice gives the same copy. Any thread.
// `name` is what messages call the backend. Fails: Unimplemented (another major version of the ABI, a required function
// that is null), DataLoss (sizes that cannot be).
Expected<const girih_backend *> adoptBackend(girih_backend_query_fn query, const std::string &name);

// Opens a vendor's library, which stays loaded, and adopts what it answers. Does not protect the process from the
// library: probeBackend does. Fails: NotFound, FailedPrecondition (no query symbol), and as adoptBackend does.
Expected<const girih_backend *> loadBackend(const std::string &libraryPath);

} // namespace girih::hal
