/* One training step's arithmetic: from encoder outputs to the loss and the gradients.
 * Loss: mean squared error between predicted and true noise (facts: nothing else in the reference), or, of a model that
 * predicts v, between predicted and true v = sqrt(alpha_bar) noise - sqrt(1-alpha_bar) latents (Salimans & Ho, 2022). */
#ifndef MSD_TRAIN_STEP_H
#define MSD_TRAIN_STEP_H

#include "infer/noise_schedule.h"
#include "model/unet.h"

/* A micro-batch on the host. Arrays are contiguous, f32 unless said, images NHWC.
 * B samples, S subjects (0: none has any), latents h x w x C, T text tokens of width X, pooled width P,
 * image tokens L of width D, phrase width E. A sample with fewer subjects has zero boxes at the end. */
typedef struct batch {
    int64_t  B, S, h, w, C, T, X, P, L, D, E;
    float   *latents, *noise;     /* (B,h,w,C): scaled latents, unit noise */
    float   *timesteps;           /* (B) 0..999 */
    float   *text, *pooled;       /* (B,T,X), (B,P) */
    float   *time_ids;            /* (B,6) */
    float   *image_hidden;        /* (B,S,L,D) */
    float   *phrases;             /* (B,S,E) */
    float   *boxes;               /* (B,S,4) normalised xyxy */
    int32_t *drop_grounding;      /* (B) */
} batch;

typedef struct step_models {
    const unet       *unet;
    const ms_adapter *adapter;
    noise_schedule    schedule;
    bool              recompute; /* activation checkpointing: less memory, the same bits */
    double            min_snr; /* gamma: each sample's part of the loss is weighed by min(snr, gamma)/snr, of v by
                                  min(snr, gamma)/(snr+1) (Hang et al., 2023; as diffusers trains); 0: not */
} step_models;

/* Forward and backward of one micro-batch: gradients of loss/accumulation are added into the trainable
 * tensors. *loss is the micro-batch's mean; noise_pred (B,h,w,C), which may be NULL, the model's answer. In a step of
 * planned_replay both are there when that has returned. The graph g is reset.
 * Without subjects (S = 0) the adapter takes no part and no gradient is written.
 * E_SHAPE when the batch does not fit the models. */
err train_step(float *loss, float *noise_pred, ag *g, const step_models *m, const batch *b, int64_t accumulation);
/* The loss alone: no gradient is written, nothing changes. */
err train_loss(float *loss, ag *g, const step_models *m, const batch *b);

#endif
