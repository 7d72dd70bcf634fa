/* Runs the host function of a compiled model without Python and TVM: what an aarch64 build needs to run under qemu. THREADS: 1, or as many as the
   model was compiled for, which then go through it as a team.

   harness STEPS TENSOR...     TENSOR = code.bits.count.mode, in the order of the host function's arguments
   Tensor i is read from i.bin (mode r), starts as zeros (z), or starts as zeros and is written to i.bin (w). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tvm/ffi/c_api.h>

int ENTRY(void* self, const TVMFFIAny* args, int32_t count, TVMFFIAny* result);

void TVMFFIErrorSetRaisedFromCStrParts(const char* kind, const char** parts, int32_t count) {
  fprintf(stderr, "%s: ", kind);
  for (int32_t i = 0; i < count; ++i) fputs(parts[i], stderr);
  exit(2);
}

#if THREADS > 1
#include <pthread.h>

typedef struct { void* sync; int32_t tasks; } Group;
typedef int (*Task)(int32_t number, Group* group, void* data);
typedef struct { Task task; int32_t number; void* data; } Job;

static void* work(void* given) {
  Job* job = given;
  Group group = {NULL, THREADS};
  return (void*)(intptr_t)job->task(job->number, &group, job->data);
}

static int32_t launch(Task task, void* data, int32_t tasks) {
  pthread_t threads[THREADS];
  Job jobs[THREADS];
  for (int32_t i = 0; i < THREADS; ++i) {
    jobs[i] = (Job){task, i, data};
    if (pthread_create(&threads[i], NULL, work, &jobs[i])) exit(7);
  }
  for (int32_t i = 0; i < THREADS; ++i) pthread_join(threads[i], NULL);
  return 0;
}

/* TVM leaves this open. */
extern void* __TVMBackendParallelLaunch;
#endif

int main(int argc, char** argv) {
#if THREADS > 1
  __TVMBackendParallelLaunch = launch;
#endif
  int tensors = argc - 2;
  DLTensor* t = calloc(tensors, sizeof *t);
  int64_t* sizes = calloc(tensors, sizeof *sizes);
  TVMFFIAny *args = calloc(tensors + 3, sizeof *args), result = {0};
  char mode[argc], name[32];
  for (int i = 0; i < tensors; ++i) {
    int code, bits;
    if (sscanf(argv[i + 2], "%d.%d.%ld.%c", &code, &bits, &sizes[i], &mode[i]) != 4) return 3;
    size_t bytes = sizes[i] * bits / 8, room = (bytes + 2 * 64) / 64 * 64;
    t[i] = (DLTensor){.data = aligned_alloc(64, room), .device = {kDLCPU, 0}, .ndim = 1, .dtype = {code, bits, 1}, .shape = &sizes[i]};
    memset(t[i].data, 0, room);
    sprintf(name, "%d.bin", i);
    FILE* f = mode[i] == 'r' ? fopen(name, "rb") : NULL;
    if (mode[i] == 'r' && (!f || fread(t[i].data, 1, bytes, f) != bytes)) return 4;
    if (f) fclose(f);
    args[i] = (TVMFFIAny){.type_index = kTVMFFIDLTensorPtr, .v_ptr = &t[i]};
  }
  args[tensors] = (TVMFFIAny){.type_index = kTVMFFIInt, .v_int64 = 0};
  args[tensors + 1] = (TVMFFIAny){.type_index = kTVMFFIInt, .v_int64 = atoi(argv[1])};
  args[tensors + 2] = (TVMFFIAny){.type_index = kTVMFFIInt, .v_int64 = THREADS > 1};
  if (ENTRY(NULL, args, tensors + 3, &result)) return 5;
  for (int i = 0; i < tensors; ++i) {
    if (mode[i] != 'w') continue;
    sprintf(name, "%d.bin", i);
    FILE* f = fopen(name, "wb");
    if (!f || fwrite(t[i].data, t[i].dtype.bits / 8, sizes[i], f) != (size_t)sizes[i] || fclose(f)) return 6;
  }
  return 0;
}
