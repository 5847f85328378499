/* From a picture to what the networks take, as the reference has it (contract: preprocess; facts: training, inference).
 * Pixel arrays are (3, side, side) f32, channel by channel, of the caller. */
#ifndef MSD_DATA_PREPROCESS_H
#define MSD_DATA_PREPROCESS_H

#include <stdbool.h>

#include "base/error.h"
#include "data/image.h"

typedef struct box { /* xyxy; pixels or 0..1, as the function says */
    double x0, y0, x1, y1;
} box;

/* CLIP's own preprocessing (transformers' CLIPImageProcessorPil): short side to `side` (bicubic), centre crop, / 255,
 * CLIP's mean and deviation. out: (3,side,side). E_FORMAT when the picture is so long that it would grow beyond the
 * limits of image.h; E_MEMORY. */
err preprocess_clip(float *out, const image *picture, int side);

/* A reference for generation: stretched to 512 x 512 (bicubic), then CLIP's preprocessing. */
err preprocess_generate_reference(float *out, const image *picture, int side);

/* A reference for training: black where `mask` (NULL: none; of the picture's size) is below 128, cropped at `crop`
 * (pixels, inside the picture), stretched to resolution x resolution (bilinear), then CLIP's preprocessing to
 * clip_side. E_FORMAT when the mask has another size; E_MEMORY. */
err preprocess_train_reference(float *out, const image *picture, const grey_image *mask, box crop, int resolution,
                               int clip_side);
/* Its two halves, for those who change the picture between them: `cut` is new; then the stretch and CLIP's part. */
err preprocess_cut_reference(image *cut, const image *picture, const grey_image *mask, box crop);
err preprocess_cut_to_clip(float *out, const image *cut, int resolution, int clip_side);

/* What became of a training target: SDXL's time ids, and how boxes have to follow. */
typedef struct target_frame {
    int original_width, original_height; /* of the upright picture */
    int width, height;                   /* after resizing, before the crop */
    int left, top;                       /* of the crop */
    int crop_width, crop_height;         /* of the crop */
} target_frame;

/* The frame of a picture: resized just so far that it covers the crop, the longer side's fraction cut off, crop at
 * floor((length - crop) / 2). For a random crop the caller then sets left to 0..width - crop_width and top to 0..height -
 * crop_height. */
target_frame target_frame_center(int width, int height, int crop_width, int crop_height);

/* out: (3,crop_height,crop_width) in [-1,1], resized bilinearly to the frame and cropped there. E_FORMAT as preprocess_clip;
 * E_MEMORY. */
err preprocess_target(float *out, const image *picture, const target_frame *frame);

/* What the networks take as a picture again, to look at: of (3,height,width) in [-1,1], and of CLIP's (3,side,side).
 * E_MEMORY. */
err preprocess_target_picture(image *out, const float *values, int width, int height);
err preprocess_clip_picture(image *out, const float *values, int side);

/* original h, w, crop top, left, crop h, w. */
void target_time_ids(float ids[6], const target_frame *frame);

/* The box (pixels of the upright picture) in the crop, 0..1: scaled as the side that just covers the crop, shifted,
 * clamped, / the crop's sides. False and a zero box, which is an absent subject to the network, when nothing of it is left inside the crop. */
bool target_box(float out[4], box pixels, const target_frame *frame);

#endif
