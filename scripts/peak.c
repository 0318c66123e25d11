// Single-precision FLOP/s of one core by its CPU time: chains of multiply-adds in registers, as many as hide their latency.
#include <stdio.h>
#include <time.h>

#ifdef __AVX512F__
enum { BYTES = 64, CHAINS = 24 };
#else
enum { BYTES = 32, CHAINS = 12 };
#endif
typedef float vector __attribute__((vector_size(BYTES)));

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

int main(int argc, char **argv) {
    (void)argv;
    vector sums[CHAINS], factor = {0}, step = {0};
    factor += 1 - 0.001f * argc, step += 0.001f * argc;  // unknown to the compiler
    for (int i = 0; i < CHAINS; i++) sums[i] = step * (float)i;
    double start = seconds(), rounds = 0;
    do {
        for (int round = 0; round < 1000000; round++)
#pragma GCC unroll 24
            for (int i = 0; i < CHAINS; i++) sums[i] = sums[i] * factor + step;
        rounds += 1000000;
    } while (seconds() - start < 0.5);
    double flops = 2 * rounds * CHAINS * (BYTES / sizeof(float)) / (seconds() - start);
    for (int i = 1; i < CHAINS; i++) sums[0] += sums[i];
    printf("%.0f\n", flops);
    return sums[0][0] == 0;  // 1 each in the end, so that they are computed
}
