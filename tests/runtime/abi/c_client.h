/* SPDX-License-Identifier: Apache-2.0 */
/* What a product in C does with girih.h: one conversation, and many requests at once. */
#ifndef GIRIH_TESTS_RUNTIME_ABI_C_CLIENT_H
#define GIRIH_TESTS_RUNTIME_ABI_C_CLIENT_H

#include "runtime/abi/girih.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Feeds the prompt, writes up to `capacity` generated tokens; returns how many, or -code, and the message. */
int32_t c_client_converse(const char *path, const int32_t *prompt, uint64_t num_prompt, int32_t *answer,
                          uint32_t capacity, girih_message *message);

/* Submits the same prompt `num_requests` times at once; returns the number of answers equal to `expected`. */
int32_t c_client_serve(const char *path, const int32_t *prompt, uint64_t num_prompt, const int32_t *expected,
                       uint32_t num_expected, int32_t num_requests, girih_engine_stats *stats);

#ifdef __cplusplus
}
#endif

#endif /* GIRIH_TESTS_RUNTIME_ABI_C_CLIENT_H */
