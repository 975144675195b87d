/* SPDX-License-Identifier: Apache-2.0 */
/* A backend of two threads that takes C99 and gives it to this machine's compiler; null's memory is its own. For tests
 * alone: it runs another process and starts threads of which it says nothing, which a backend must not.
 *
 * HOST_CC is the compiler with its flags; it is told where to write by `-o`. */
#define _GNU_SOURCE
#define girih_backend_query null_query
#include "backends/null/backend.c"
#undef girih_backend_query

#include <dlfcn.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#define HOST_FORMAT "host-elf"
#define HOST_THREADS 2

/* ---- compiling: text to a file, a shared object back ---- */

#define MOST_ENTRIES 64

struct compiled {
  char *object;
  const char *symbols[MOST_ENTRIES];
  char names[MOST_ENTRIES][64];
};

static void release_c(girih_artifact *artifact) {
  free(((struct compiled *)artifact)->object);
  free(artifact);
}

static char *read_file(const char *path, uint64_t *size_bytes) {
  FILE *file = fopen(path, "rb");
  char *bytes = 0;
  if (file && fseek(file, 0, SEEK_END) == 0) {
    *size_bytes = (uint64_t)ftell(file);
    rewind(file);
    bytes = malloc(*size_bytes + 1);
    if (fread(bytes, 1, *size_bytes, file) != *size_bytes)
      *size_bytes = 0;
    bytes[*size_bytes] = 0;
  }
  if (file)
    fclose(file);
  return bytes;
}

static void find_symbols(const char *text, struct compiled *made, uint64_t *count) {
  const char *at;
  for (at = strstr(text, "\nvoid "); at && *count < MOST_ENTRIES; at = strstr(at + 1, "\nvoid "))
    if (sscanf(at, "\nvoid %63[A-Za-z0-9_]", made->names[*count]) == 1) {
      made->symbols[*count] = made->names[*count];
      ++*count;
    }
}

static girih_code compile_c(const girih_compilation *compilation, girih_artifact **artifact,
                            girih_artifact_info *info, girih_message *message) {
  char folder[] = P_tmpdir "/girih_host_c_XXXXXX", command[4096], path[64], *said = 0;
  struct compiled *made = calloc(1, sizeof *made);
  uint64_t size_bytes = 0;
  FILE *file;
  int how;
  if (compilation->level != GIRIH_LEVEL_C99 || !mkdtemp(folder))
    return fail(message, GIRIH_UNIMPLEMENTED, "C99 is taken, in a folder that can be written");
  snprintf(path, sizeof path, "%s/step.c", folder);
  file = fopen(path, "wb");
  fwrite(compilation->bytes, 1, compilation->size_bytes, file);
  fclose(file);
  snprintf(command, sizeof command, HOST_CC " -o %s/step.so %s/step.c > %s/said 2>&1", folder, folder,
           folder);
  how = system(command);
  snprintf(path, sizeof path, "%s/%s", folder, how == 0 ? "step.so" : "said");
  said = read_file(path, &size_bytes);
  if (how == 0) {
    char *text = calloc(1, compilation->size_bytes + 1);
    memcpy(text, compilation->bytes, compilation->size_bytes);
    find_symbols(text, made, &info->num_entries);
    free(text);
  }
  snprintf(command, sizeof command, "rm -r %s", folder);
  (void)!system(command);
  if (how != 0)
    return fail(message, GIRIH_INTERNAL, "the C does not compile: %.400s", said ? said : "");
  made->object = said;
  info->bytes = (const uint8_t *)said;
  info->size_bytes = size_bytes;
  info->format = HOST_FORMAT;
  info->entry_symbols = made->symbols;
  info->required_features = "";
  *artifact = (girih_artifact *)made;
  return GIRIH_OK;
}

static girih_code describe_c(const char *target, const char **machine_json, girih_message *message) {
  (void)target;
  (void)message;
  *machine_json = HOST_MACHINE;
  return GIRIH_OK;
}

static girih_code support_all(const char *target, const girih_op *ops, uint64_t num_ops,
                              girih_verdict *verdicts, girih_message *message) {
  (void)target, (void)ops, (void)message;
  for (; num_ops > 0; --num_ops)
    verdicts[num_ops - 1].code = GIRIH_OK, verdicts[num_ops - 1].reason = "";
  return GIRIH_OK;
}

/* ---- running ---- */

struct range {
  uint8_t *begin, *end;
};

struct loaded {
  void *library;
  struct range *bindings; /* host_units.h */
  int *moved_beyond;
  uint64_t num_entries;
  girih_step_fn entries[MOST_ENTRIES];
};

static girih_code load_c(girih_device *device, const girih_image *image, girih_executable **executable,
                         girih_message *message) {
  struct loaded *made = calloc(1, sizeof *made);
  int file = memfd_create("step", 0);
  char path[64];
  uint64_t index;
  (void)device;
  snprintf(path, sizeof path, "/proc/self/fd/%d", file);
  if (strcmp(image->format, HOST_FORMAT) == 0 &&
      write(file, image->bytes, image->size_bytes) == (ssize_t)image->size_bytes)
    made->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  close(file);
  for (index = 0; made->library && index < image->num_entries && index < MOST_ENTRIES; ++index) {
    made->entries[index] = (girih_step_fn)dlsym(made->library, image->entry_symbols[index]);
    made->num_entries += made->entries[index] != 0;
  }
  if (!made->library || made->num_entries != image->num_entries) {
    free(made);
    return fail(message, GIRIH_DATA_LOSS, "this is no shared object with all of the entries");
  }
  made->bindings = dlsym(made->library, "host_bindings");
  made->moved_beyond = dlsym(made->library, "host_moved_beyond");
  *executable = (girih_executable *)made;
  return GIRIH_OK;
}

static void unload_c(girih_device *device, girih_executable *executable) {
  (void)device;
  dlclose(((struct loaded *)executable)->library);
  free(executable);
}

struct member {
  girih_step_fn entry;
  const girih_step_args *args;
  int64_t thread;
};

static void meet(void *team, int64_t thread) {
  (void)thread;
  pthread_barrier_wait(team);
}

static void *run_member(void *context) {
  struct member *self = context;
  self->entry(self->args, self->thread, HOST_THREADS);
  return 0;
}

static girih_code submit_c(girih_device *device, const girih_submission *submission, uint64_t *ticket,
                           girih_message *message) {
  const struct loaded *loaded = (const struct loaded *)submission->executable;
  uint8_t *bindings[GIRIH_STEP_NUM_BINDINGS];
  girih_step_args args = *(const girih_step_args *)submission->arguments;
  struct member members[HOST_THREADS];
  pthread_t threads[HOST_THREADS];
  pthread_barrier_t team;
  int index;
  for (index = 0; index < GIRIH_STEP_NUM_BINDINGS; ++index) {
    bindings[index] = submission->bindings[index].buffer ? resolve(&submission->bindings[index], message) : 0;
    loaded->bindings[index].begin = bindings[index];
    loaded->bindings[index].end =
        bindings[index] ? bindings[index] + submission->bindings[index].size_bytes : 0;
  }
  *loaded->moved_beyond = 0;
  args.weights = bindings[GIRIH_STEP_BINDING_WEIGHTS];
  args.kv_pool = bindings[GIRIH_STEP_BINDING_KV_POOL];
  args.arena = bindings[GIRIH_STEP_BINDING_ARENA];
  args.logits = (float *)bindings[GIRIH_STEP_BINDING_LOGITS];
  args.barrier = meet;
  args.team = &team;
  pthread_barrier_init(&team, 0, HOST_THREADS);
  for (index = 0; index < HOST_THREADS; ++index) {
    members[index].entry = loaded->entries[submission->entry_index];
    members[index].args = &args;
    members[index].thread = index;
    pthread_create(&threads[index], 0, run_member, &members[index]);
  }
  for (index = 0; index < HOST_THREADS; ++index)
    pthread_join(threads[index], 0);
  pthread_barrier_destroy(&team);
  if (*loaded->moved_beyond)
    return fail(message, GIRIH_OUT_OF_RANGE, "the DMA unit was asked for bytes beyond a binding");
  *ticket = ++device->num_submissions;
  return GIRIH_OK;
}

static girih_code info_c(uint64_t index, girih_device_info *info, girih_message *message) {
  girih_code code = device_info(index, info, message);
  if (code == GIRIH_OK && info->struct_size >= sizeof *info)
    info->formats = HOST_FORMAT, info->name = "this machine's C compiler";
  return code;
}

GIRIH_BACKEND_EXPORT const girih_backend *girih_backend_query(const girih_host *host) {
  static girih_run_table running;
  static girih_compile_table compiling_c;
  static girih_backend host_c;
  if (!null_query(host))
    return 0;
  running = run;
  running.device_info = info_c;
  running.load = load_c;
  running.unload = unload_c;
  running.submit = submit_c;
  compiling_c = compiling;
  compiling_c.describe = describe_c;
  compiling_c.supports = support_all;
  compiling_c.compile = compile_c;
  compiling_c.release = release_c;
  host_c = backend;
  host_c.name = "host_c";
  host_c.run = &running;
  host_c.compile = &compiling_c;
  host_c.levels = GIRIH_LEVEL_BIT(GIRIH_LEVEL_C99);
  return &host_c;
}
