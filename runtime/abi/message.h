/* SPDX-License-Identifier: Apache-2.0 */
/* How a C function of Girih fails: a code, and a text in a buffer of the caller's. */
#ifndef GIRIH_RUNTIME_ABI_MESSAGE_H
#define GIRIH_RUNTIME_ABI_MESSAGE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef int32_t girih_code;

#define GIRIH_OK 0
#define GIRIH_INVALID_ARGUMENT 1
#define GIRIH_NOT_FOUND 2
#define GIRIH_FAILED_PRECONDITION 3
#define GIRIH_OUT_OF_RANGE 4
#define GIRIH_RESOURCE_EXHAUSTED 5
#define GIRIH_UNIMPLEMENTED 6 /* declared as not supported */
#define GIRIH_UNAVAILABLE 7   /* this machine, or what it should grant, is not here */
#define GIRIH_CANCELLED 8
#define GIRIH_DATA_LOSS 9 /* a damaged file */
#define GIRIH_INTERNAL 10 /* a bug of ours: please report it */

/* Where a failing function explains itself: what was seen; the rule; what to do. Owned by the caller. Longer texts
 * are cut, always terminated by zero. */
typedef struct girih_message {
  char *text;
  uint64_t capacity_bytes; /* with the terminator; 512 is plenty */
} girih_message;

#ifdef __cplusplus
}
#endif

#endif /* GIRIH_RUNTIME_ABI_MESSAGE_H */
