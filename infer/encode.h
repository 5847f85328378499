/* What the frozen encoders make of texts and pictures, for generating and for training alike. Everything goes in and
 * comes out as host f32 arrays of the caller, so that a cache can hold it; one sample at a time, so that the make-up of
 * a batch changes no bits.
 *
 *     encoders *e;
 *     TRY(encoders_open(&e, dev, DT_F32, "sdxl/", "bigG/", ENCODE_TEXT | ENCODE_PICTURE));
 *     const encoder_sizes *s = encoders_sizes(e);
 *     float *hidden = ..., *pooled = ...;
 *     err result = encode_prompt(hidden, pooled, e, "a dog and a cat");
 *     encoders_close(e);                                     // the networks' memory is free again */
#ifndef MSD_INFER_ENCODE_H
#define MSD_INFER_ENCODE_H

#include "autograd/tensor.h"
#include "data/tokenizer.h"

enum {
    ENCODE_TEXT = 1,    /* encode_prompt: both text encoders */
    ENCODE_PHRASE = 2,  /* encode_phrase: text encoder 1 */
    ENCODE_PICTURE = 4, /* encode_picture: the image encoder */
    ENCODE_LATENT = 8   /* encode_latent, decode_latent: the VAE */
};

/* Sizes of what comes out; those of networks that were not opened are 0. */
typedef struct encoder_sizes {
    int64_t tokens;                   /* T: 77 */
    int64_t text_width, pooled_width; /* 2048 (both encoders' side by side), 1280 */
    int64_t phrase_width;             /* 768 */
    int64_t picture_side;             /* pixels, 224 */
    int64_t picture_tokens, picture_width; /* 257, 1664 */
    int64_t latent_channels, latent_factor; /* 4, 8: pixels a latent side */
    double  scaling_factor;           /* 0.13025 */
} encoder_sizes;

typedef struct encoders encoders;

/* Opens the networks named by `which` from a pipeline folder and, for ENCODE_PICTURE, the image encoder's own folder
 * (else it may be NULL). E_MODEL says what is wrong with the files; E_MEMORY. */
err  encoders_open(encoders **out, device *dev, dtype type, const char *model, const char *image_encoder,
                   unsigned which);
void encoders_close(encoders *e); /* NULL is fine */
const encoder_sizes *encoders_sizes(const encoders *e);
/* The first tokenizer, for phrase matching; opened with ENCODE_TEXT or ENCODE_PHRASE. */
const tokenizer *encoders_tokenizer(const encoders *e);
/* Whether an adapter's picture and phrase widths are those of the opened networks; 0: not compared. E_MODEL names
 * both. The second form is for sizes that came from a cache. */
err  encoder_sizes_check_adapter(const encoder_sizes *z, int64_t picture_width, int64_t phrase_width);
err  encoders_check_adapter(const encoders *e, int64_t picture_width, int64_t phrase_width);

/* SDXL's text: hidden (T,text_width), both encoders' hidden_states[-2] side by side; pooled (pooled_width), text_embeds
 * of encoder 2. The text is padded or cut to T tokens; *cut (may be NULL) says how many tokens were cut off. E_FORMAT
 * when it is not UTF-8. */
err encode_prompt(float *hidden, float *pooled, size_t *cut, encoders *e, const char *text);
/* The adapter's phrase embedding: pooled (phrase_width), pooler_output of text encoder 1, not projected. */
err encode_phrase(float *pooled, encoders *e, const char *phrase);
/* hidden (picture_tokens,picture_width): hidden_states[-2] of pixel_values (3,side,side) as preprocess.h makes them. */
err encode_picture(float *hidden, encoders *e, const float *pixel_values);
/* mean, deviation (h,w,C), unscaled, of a picture (3,H,W) in [-1,1]; h = H / factor, w = W / factor, rounded down.
 * The latent of a draw n is (mean + deviation * n) * scaling_factor. E_NUMERIC when something is not finite. */
err encode_latent(float *mean, float *deviation, encoders *e, const float *picture, int64_t height, int64_t width);
/* picture (H,W,3), not clamped, of a scaled latent (h,w,C); H = h * factor, W = w * factor. E_NUMERIC as above. */
err decode_latent(float *picture, encoders *e, const float *latent, int64_t h, int64_t w);

#endif
