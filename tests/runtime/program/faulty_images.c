/* SPDX-License-Identifier: Apache-2.0 */
/* Images that a loader of bare code must refuse, one for each macro. */
#include <stdint.h>

#ifdef UNDEFINED_SYMBOL
extern int32_t somewhere_else(int32_t value);
__attribute__((visibility("default"))) int32_t girih_step_toy(void) { return somewhere_else(1); }
#endif

#ifdef THREAD_LOCAL
static _Thread_local int32_t counter = 3;
__attribute__((visibility("default"))) int32_t girih_step_toy(void) { return counter++; }
#endif

#ifdef CONSTRUCTOR
static volatile int32_t state; /* volatile: else the compiler folds the constructor away */
__attribute__((constructor)) static void begin(void) { state = 1; }
__attribute__((visibility("default"))) int32_t girih_step_toy(void) { return state; }
#endif
