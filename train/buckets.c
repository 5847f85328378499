#include "train/buckets.h"

#include "base/error.h"

/* Height, width at 1024, from tall to wide. */
static const int16_t sdxl[BUCKETS][2] = {
    {2048, 512},  {1984, 512},  {1920, 512},  {1856, 512},  {1792, 576},  {1728, 576},  {1664, 576},  {1600, 640},
    {1536, 640},  {1472, 704},  {1408, 704},  {1344, 768},  {1280, 768},  {1216, 832},  {1152, 832},  {1152, 896},
    {1088, 896},  {1088, 960},  {1024, 960},  {1024, 1024}, {960, 1024},  {960, 1088},  {896, 1088},  {896, 1152},
    {832, 1152},  {832, 1216},  {768, 1280},  {768, 1344},  {704, 1344},  {704, 1408},  {704, 1472},  {640, 1536},
    {640, 1600},  {576, 1664},  {576, 1728},  {576, 1792},  {512, 1856},  {512, 1920},  {512, 1984},  {512, 2048},
};

enum { SQUARE = 19, SDXL_RESOLUTION = 1024 };

/* Nearest multiple of the unit, halves up, at least one. */
static int scaled(int length, int64_t resolution)
{
    int64_t units = (length * resolution + SDXL_RESOLUTION * BUCKET_UNIT / 2) / (SDXL_RESOLUTION * BUCKET_UNIT);
    return (int)(units > 0 ? units : 1) * BUCKET_UNIT;
}

bucket_size bucket_size_at(int bucket, int64_t resolution)
{
    CHECK(bucket >= 0 && bucket < BUCKETS, "bucket %d", bucket);
    return (bucket_size){.width = scaled(sdxl[bucket][1], resolution), .height = scaled(sdxl[bucket][0], resolution)};
}

int bucket_choose(int width, int height, int64_t resolution)
{
    int best = 0;
    double least = 0;
    for (int i = 0; i < BUCKETS; i++) {
        bucket_size b = bucket_size_at(i, resolution);
        double ratio = ((double)width * b.height) / ((double)height * b.width), apart = ratio < 1 ? 1 / ratio : ratio;
        if (i == 0 || apart < least) {
            best = i;
            least = apart;
        }
    }
    return best;
}

int bucket_square(void)
{
    return SQUARE;
}

bucket_size bucket_largest(int64_t resolution)
{
    bucket_size most = bucket_size_at(0, resolution);
    for (int i = 1; i < BUCKETS; i++) {
        bucket_size b = bucket_size_at(i, resolution);
        if ((int64_t)b.width * b.height > (int64_t)most.width * most.height)
            most = b;
    }
    return most;
}
