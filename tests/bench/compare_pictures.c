/* How far two pictures are apart: prints the mean and the largest difference of their 8-bit samples.
 *     compare_pictures A B [MOST]      exit 1 where they differ in size, or by more than MOST in the mean */
#include <stdio.h>
#include <stdlib.h>

#include "data/image.h"

static int compare(const image *a, const image *b, double most)
{
    if (a->width != b->width || a->height != b->height)
        return fprintf(stderr, "%d x %d and %d x %d\n", a->width, a->height, b->width, b->height), 1;
    size_t count = 3 * (size_t)a->width * (size_t)a->height;
    int    largest = 0;
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        int d = abs(a->rgb[i] - b->rgb[i]);
        sum += d;
        largest = d > largest ? d : largest;
    }
    printf("mean %.4f of 255, largest %d\n", sum / (double)count, largest);
    return !(sum / (double)count <= most);
}

int main(int count, char **argument)
{
    image a = {0}, b = {0};
    if (count < 3 || image_load(&a, argument[1], NULL) != OK || image_load(&b, argument[2], NULL) != OK)
        return fprintf(stderr, "%s\n", count < 3 ? "compare_pictures A B [MOST]" : err_message()), 2;
    int code = compare(&a, &b, count > 3 ? atof(argument[3]) : 255.0);
    image_free(&a);
    image_free(&b);
    return code;
}
