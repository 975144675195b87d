/* SPDX-License-Identifier: Apache-2.0 */
/* The first 64 bytes of a .girih file, little-endian. The tables that they point to: runtime/program/program.fbs. */
#ifndef GIRIH_RUNTIME_ABI_PROGRAM_H
#define GIRIH_RUNTIME_ABI_PROGRAM_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The line ending and the zero betray a file that was sent as text. */
#define GIRIH_PROGRAM_MAGIC "GIRIH\0\r\n"
#define GIRIH_PROGRAM_MAGIC_BYTES 8
#define GIRIH_PROGRAM_FORMAT_VERSION 1

typedef struct girih_program_header {
  uint8_t magic[GIRIH_PROGRAM_MAGIC_BYTES];
  uint32_t format_version;
  uint32_t flags;         /* 0: none is defined */
  uint64_t tables_offset; /* a multiple of 8 */
  uint64_t tables_size;
  uint64_t file_size;
  uint32_t tables_crc32c;
  uint32_t header_crc32c; /* of the bytes before this field */
  uint8_t zeros[16];
} girih_program_header;

#ifdef __cplusplus
}
static_assert(sizeof(girih_program_header) == 64, "the header is one cache line");
#endif

#endif /* GIRIH_RUNTIME_ABI_PROGRAM_H */
