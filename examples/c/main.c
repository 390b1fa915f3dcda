/* Runs a compiled model from C:  neve compile examples/model.py:make -o digits.neve
 *                                neve unpack digits.neve --c digits
 *                                gcc -O3 -fno-tree-loop-if-convert -march=native -Idigits examples/c/main.c digits/digits.c -o main
 *                                ./main digits/digits.weights
 */
#include <stdio.h>
#include <stdlib.h>
#include "digits.h"

/* The model wants its memory at addresses that 64 divides; aligned_alloc wants a size that 64 divides. */
static void *aligned(size_t size) { return aligned_alloc(64, (size + 63) / 64 * 64); }

static void *read_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END)) return NULL;
    *size = (size_t)ftell(file);
    rewind(file);
    void *data = aligned(*size);
    if (data && fread(data, 1, *size, file) != *size) data = NULL;
    fclose(file);
    return data;
}

int main(int argc, char **argv)
{
    static float picture[28 * 28], scores[10];
    for (int i = 0; i < 28 * 28; i++) picture[i] = (float)(i % 17) / 16;

    size_t size = 0;
    void *weights = argc == 2 ? read_file(argv[1], &size) : NULL;
    digits *model = aligned(digits_context_size());
    int code = !weights || !model ? NEVE_BAD_POINTER : digits_init(model, weights, size);

    digits_forward_io io = {.in0 = picture, .out0 = scores};
    if (!code) code = digits_forward(model, &io, NULL);
    if (code) {
        fprintf(stderr, "usage: %s digits.weights (%s)\n", argv[0], digits_strerror(code));
        return 1;
    }
    for (int i = 0; i < 10; i++) printf("%d %.9g\n", i, (double)scores[i]);
    return 0;
}
